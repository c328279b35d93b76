// SPDX-License-Identifier: Apache-2.0
// Bad input of every kind against the executable: a message that names the thing, and the exit code
// of docs/exit_codes.md or a 4xx. Nothing half-made stays behind.
#include <gmock/gmock.h>

#include <fmt/ranges.h>

#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "tests/source_path.h"

#include "executable.h"

namespace trireme::testing_tools {
namespace {

using nlohmann::json;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Arguments = std::vector<std::string>;

constexpr int kUsage = 2;
constexpr int kData = 3;
constexpr int kResources = 4;

class BadInputTest : public testing::Test {
 protected:
  // The demo model's folder, its checkpoint and an engine of it, made once.
  static void SetUpTestSuite() {
    root_ = fs::temp_directory_path() / fmt::format("trireme_bad_input_{}", ::getpid());
    fs::create_directories(root_);
    const Result converted = RunTrireme(
        {"convert", "--model_dir", Demo(), "--output_dir", At("ck"), "--log_level", "warning"});
    ASSERT_EQ(converted.code, 0) << converted.text;
    const Result built = RunTrireme({"build", "--checkpoint_dir", At("ck"), "--output_dir",
                                     At("engine"), "--max_batch_size", "8"});
    ASSERT_EQ(built.code, 0) << built.text;
  }
  static void TearDownTestSuite() { fs::remove_all(root_); }

  static std::string Demo() { return SourcePath("models/demo"); }
  static std::string At(const std::string& name) { return (root_ / name).string(); }

  // A copy of the demo model to spoil.
  static std::string Copy(const std::string& name) {
    fs::remove_all(At(name));
    fs::copy(Demo(), At(name));
    return At(name);
  }
  static void ReplaceIn(const std::string& file, const std::string& from, const std::string& to) {
    std::string text = ReadText(file);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from << " in " << file;
    WriteText(file, text.replace(at, from.size(), to));
  }
  static Arguments RunWith(const Arguments& more) {
    Arguments all = {"run", "--engine_dir", At("engine"), "--input_text", "Once upon a time"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  static void Expect(const Arguments& arguments, int code, const std::string& message) {
    const Result result = RunTrireme(arguments);
    const std::string line = fmt::format("{}", fmt::join(arguments, " "));
    EXPECT_EQ(result.code, code) << line << "\n" << result.text;
    EXPECT_THAT(result.text, HasSubstr(message)) << line;
    EXPECT_THAT(result.text, HasSubstr("trireme " + arguments.front())) << line;
  }
  // Converting the folder fails, names `message` and leaves nothing.
  static void ExpectUnconvertible(const std::string& folder, const std::string& message) {
    Expect({"convert", "--model_dir", folder, "--output_dir", At("none")}, kData, message);
    EXPECT_FALSE(fs::exists(At("none"))) << "a failed conversion left its folder";
  }

  static fs::path root_;
};
fs::path BadInputTest::root_;

// ---- models ----

TEST_F(BadInputTest, WeightsMissingOrTruncated) {
  const std::string folder = Copy("spoiled");
  const std::string weights = folder + "/model.safetensors";
  const std::string whole = ReadText(weights);
  for (size_t size : {whole.size() - 1, whole.size() / 2, size_t{100}, size_t{3}, size_t{0}}) {
    WriteText(weights, whole.substr(0, size));
    ExpectUnconvertible(folder, "model.safetensors");
  }
  fs::remove(weights);
  ExpectUnconvertible(folder, folder);
  ExpectUnconvertible(At("nowhere"), "nowhere");
}

TEST_F(BadInputTest, ConfigurationsThatDoNotFit) {
  const std::string folder = Copy("spoiled");
  const std::string config = folder + "/config.json";
  const std::string good = ReadText(config);
  const json object = json::parse(good);
  const auto with = [&](const char* key, const json& value, const std::string& message) {
    json changed = object;
    changed[key] = value;
    WriteText(config, changed.dump());
    ExpectUnconvertible(folder, message);
  };
  with("architectures", json::array({"MysteryForCausalLM"}), "MysteryForCausalLM");
  with("vocab_size", object["vocab_size"].get<int>() + 1, "model.embed_tokens.weight");
  with("intermediate_size", object["intermediate_size"].get<int>() + 32, "gate_proj.weight");
  with("num_hidden_layers", object["num_hidden_layers"].get<int>() + 1, "model.layers.");
  with("num_hidden_layers", -1, "num_hidden_layers");
  with("eos_token_id", "</s>", "eos_token_id");
  with("rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}, "low_freq_factor");
  with("tie_word_embeddings", "yes", "tie_word_embeddings");
  WriteText(config, good.substr(0, good.size() / 2));
  ExpectUnconvertible(folder, "not valid JSON");
  fs::remove(config);
  ExpectUnconvertible(folder, "config.json");
}

TEST_F(BadInputTest, WeightsThatAreNoNumbers) {
  const std::string folder = Copy("spoiled");
  const std::string weights = folder + "/model.safetensors";
  std::string bytes = ReadText(weights);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), 8);
  const json header = json::parse(bytes.substr(8, header_bytes));
  const std::string name = "model.layers.0.mlp.up_proj.weight";
  ASSERT_EQ(header[name]["dtype"], "BF16");
  const size_t at = 8 + header_bytes + header[name]["data_offsets"][0].get<size_t>();
  bytes.replace(at + 100, 2, "\xc0\x7f");  // a NaN
  WriteText(weights, bytes);
  ExpectUnconvertible(folder, "'" + name + "' holds NaN");
}

// ---- engines ----

TEST_F(BadInputTest, EnginesDamagedOrOfAnotherVersion) {
  const std::string whole = ReadText(At("engine/rank0.engine"));
  const std::string path = At("spoiled.engine");
  const auto expect = [&](const std::string& bytes, const std::string& message) {
    WriteText(path, bytes);
    Expect({"inspect", path}, kData, message);
    Expect({"run", "--engine_dir", path, "--tokenizer_dir", Demo(), "--max_output_len", "2"}, kData,
           message);
  };
  std::string changed = whole;
  changed[8] = 77;
  expect(changed, "version 77");
  expect(changed, "trireme build");
  changed = whole;
  changed[200] ^= 1;
  expect(changed, "checksum");
  expect(whole.substr(0, whole.size() - 1), "truncated");
  expect(whole.substr(0, 5000), "spoiled.engine");
  expect("", "spoiled.engine");

  changed = whole;
  changed[whole.size() - 1000] ^= 16;
  WriteText(path, changed);
  EXPECT_EQ(RunTrireme({"inspect", path}).code, 0) << "weights are not read unless asked for";
  Expect({"inspect", path, "--verify"}, kData, "does not match its checksum");
  Expect({"run", "--engine_dir", path, "--tokenizer_dir", Demo(), "--max_output_len", "2",
          "--verify_weights"},
         kData, "does not match its checksum");
  EXPECT_EQ(RunTrireme({"inspect", At("engine"), "--verify"}).code, 0);
}

TEST_F(BadInputTest, AFailedBuildLeavesTheOldEngine) {
  fs::remove_all(At("again"));
  fs::copy(At("engine"), At("again"), fs::copy_options::recursive);
  fs::remove_all(At("broken"));
  fs::copy(At("ck"), At("broken"), fs::copy_options::recursive);
  const std::string weights = ReadText(At("broken/rank0.safetensors"));
  WriteText(At("broken/rank0.safetensors"), weights.substr(0, weights.size() / 2));
  const std::string before = ReadText(At("again/rank0.engine"));
  Expect({"build", "--checkpoint_dir", At("broken"), "--output_dir", At("again")}, kData,
         "rank0.safetensors");
  EXPECT_EQ(ReadText(At("again/rank0.engine")), before);
  EXPECT_EQ(std::distance(fs::directory_iterator(At("again")), {}),
            std::distance(fs::directory_iterator(At("engine")), {}));
  EXPECT_EQ(RunTrireme({"inspect", At("again"), "--verify"}).code, 0);
  Expect({"build", "--checkpoint_dir", At("broken"), "--output_dir", At("new/engine")}, kData, "");
  EXPECT_FALSE(fs::exists(At("new")));
}

// ---- command lines ----

TEST_F(BadInputTest, FlagsOfTheWrongName) {
  Expect({"run", "--max_output_leng", "8"}, kUsage, "did you mean --max_output_len?");
  Expect(RunWith({"--max_output_len", "8", "--num_beams", "4"}), kUsage,
         "beam search does not exist");
  Expect({"convert", "--model_dir", Demo(), "--smoothquant", "0.5"}, kUsage, "--smoothquant");
  Expect({"build", "--checkpoint_dir", At("ck"), "--lora_plugin", "float16"}, kUsage,
         "--lora_plugin");
  Expect({"run", "\u2013\u2013max_output_len", "8"}, kUsage, "typographic dash");
  Expect({"run", "\u2014max_output_len", "8"}, kUsage, "--max_output_len");
  Expect({"run", "--max_output_len"}, kUsage, "--max_output_len");
  Expect({"serve"}, kUsage, "name a model");
  const Result unknown = RunTrireme({"runn"});
  EXPECT_EQ(unknown.code, kUsage);
  EXPECT_THAT(unknown.text, HasSubstr("did you mean 'run'?"));
  for (const char* nothing_like_it : {"--foo", "xyzzyplugh"}) {
    const Result result = RunTrireme({nothing_like_it});
    EXPECT_EQ(result.code, kUsage);
    EXPECT_THAT(result.text, HasSubstr(nothing_like_it));
    EXPECT_THAT(result.text, Not(HasSubstr("did you mean")));
  }
}

TEST_F(BadInputTest, WrongValuesAreTheCommandLinesFault) {
  const auto quantize = [](const Arguments& more) {
    Arguments all = {"quantize", "--model_dir", Demo(), "--output_dir", At("none")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  Expect(quantize({"--qformat", "int7"}), kUsage, "--qformat");
  Expect(quantize({"--qformat", "int8_sq"}), kUsage, "--qformat int8_sq");
  Expect(quantize({"--qformat", "fp8"}), kUsage, "--calib_dataset");
  Expect(quantize({"--calib_size", "0"}), kUsage, "--calib_size");
  Expect(quantize({"--dtype", "float7"}), kUsage, "--dtype");
  Expect(quantize({"--qformat", "int8_wo", "--group_size", "64"}), kUsage, "--group_size");
  Expect(quantize({"--log_level", "loud"}), kUsage, "--log_level");
  Expect(RunWith({"--max_output_len", "4", "--dtype", "float7"}), kUsage, "--dtype");
  Expect(RunWith({"--max_output_len", "4", "--device", "tpu"}), kUsage, "--device");
  Expect({"serve", At("engine"), "--dtype", "float7"}, kUsage, "--dtype");
  Expect({"serve", At("engine"), "--weight_only_precision", "int3"}, kUsage,
         "--weight_only_precision");
  Expect({"build", "--checkpoint_dir", At("ck"), "--device", "tpu"}, kUsage, "--device");
  Expect({"build", "--checkpoint_dir", At("ck"), "--kv_cache_dtype", "x"}, kUsage,
         "--kv_cache_dtype");
  Expect({"build", "--checkpoint_dir", At("ck"), "--tp_size", "2"}, kUsage, "--tp_size");
  Expect({"build", "--checkpoint_dir", At("ck"), "--group_size", "64"}, kUsage, "--group_size");
  Expect({"build", "--model_dir", Demo(), "--weight_only_precision", "int8"}, kUsage,
         "--use_weight_only");
  Expect({"build", "--checkpoint_dir", At("ck"), "--profiling_verbosity", "x"}, kUsage,
         "--profiling_verbosity");
  Expect({"convert", "--model_dir", Demo(), "--group_size", "64"}, kUsage, "--per_group");
  Expect({"bench", "latency", "--num_requests", "4"}, kUsage, "--num_requests");
  Expect({"bench", "throughput", "--num_runs", "4"}, kUsage, "--num_runs");
  Expect({"lora", "convert"}, kUsage, "the file to read");
  Expect({"lora", "convert", "a.txt", "b.bin"}, kUsage, ".safetensors");
  Expect({"lora", "merge", "--base_dir", Demo(), "--lora_dir", "x", "--output_dir", At("none"),
          "--dtype", "int8"},
         kUsage, "--dtype");
  Expect({"serve", At("engine"), "--http_address", "nonsense"}, kUsage, "--http-address");
  Expect({"serve", At("engine"), "--metrics_address", "1.2.3"}, kUsage, "--metrics-address");
  Expect({"serve", At("engine"), "--grpc_address", "no such host"}, kUsage, "--grpc-address");
  Expect({"serve", At("engine"), "--model_name", "a/b"}, kUsage, "--model-name");
  Expect({"serve", "--model_repository", At("."), "--tokenizer_dir", "x"}, kUsage,
         "--tokenizer_dir");
  Expect({"serve", "--model_repository", At("nowhere")}, kData, "nowhere");
  Expect(RunWith({"--max_output_len", "99999999999999999999"}), kUsage, "from 1 to 2147483647");
  Expect({"run", "--engine_dir", At("engine"), "--max_output_len", "4", "--input_file", "a.doc"},
         kUsage, ".txt");
}

// An engine is what it was built to be; a flag that asks for another is not passed over.
TEST_F(BadInputTest, FlagsThatContradictTheEngine) {
  const std::string dtype =
      json::parse(ReadText(At("engine/config.json")))["pretrained_config"]["dtype"];
  const std::string other = dtype == "float32" ? "bfloat16" : "float32";
  Expect(RunWith({"--max_output_len", "4", "--dtype", other}), kData, "--dtype " + other);
  Expect({"serve", At("engine"), "--weight_only_precision", "int8"}, kData,
         "--weight_only_precision int8");
  Expect({"serve", At("ck"), "--weight_only_precision", "int8"}, kData, "trireme convert");
  const Result cuda = RunTrireme(RunWith({"--max_output_len", "4", "--device", "cuda"}));
  EXPECT_THAT(cuda.code, AnyOf(kUsage, kData));  // a program without CUDA refuses the flag itself
  EXPECT_THAT(cuda.text, HasSubstr("--device cuda"));
  EXPECT_EQ(
      RunTrireme(RunWith({"--max_output_len", "4", "--device", "cpu", "--dtype", dtype})).code, 0);
}

TEST_F(BadInputTest, OutputThatNobodyGetsIsAFailure) {
  for (const Arguments& arguments :
       {RunWith({"--max_output_len", "4", "--log_level", "error"}), Arguments{"--version"},
        Arguments{"run", "--help"}, Arguments{"inspect", At("engine"), "--tensors", "--json"}}) {
    const Result result = RunTrireme(arguments, "/dev/full");
    EXPECT_EQ(result.code, kResources) << arguments.front() << "\n" << result.text;
    EXPECT_THAT(result.text, HasSubstr("cannot write the output"));
  }
}

TEST_F(BadInputTest, ValuesOutOfRangeNameTheFlag) {
  const std::pair<const char*, const char*> cases[] = {
      {"--random_seed", "-1"},
      {"--end_id", "-7"},
      {"--streaming_interval", "0"},
      {"--max_output_len", ""},
      {"--max_output_len", "0"},
      {"--max_output_len", "many"},
      {"--max_output_len", "99999999999999999999"},
      {"--stop_words", ""},
      {"--bad_words", ""},
      {"--temperature", "-1"},
      {"--temperature", "nan"},
      {"--temperature", "0"},
      {"--top_k", "-3"},
      {"--top_p", "1.5"},
      {"--min_p", "-0.1"},
      {"--repetition_penalty", "0"},
      {"--presence_penalty", "inf"},
      {"--num_threads", "100000"},
      {"--max_seq_len", "2000000000"},
      {"--kv_cache_free_gpu_mem_fraction", "1.0"},
      {"--log_level", "loud"},
  };
  for (const auto& [flag, value] : cases) {
    Expect(RunWith({"--max_output_len", "4", flag, value}), kUsage, std::string(flag).substr(2));
  }
  Expect({"build", "--checkpoint_dir", At("ck"), "--max_batch_size", "1000000000"}, kUsage,
         "--max_batch_size");
  Expect({"serve", At("engine"), "--max_batch_size", "1000000000"}, kUsage, "--max_batch_size");
  Expect({"serve", At("engine"), "--http_port", "70000"}, kUsage, "--http_port");
  Expect({"bench", "throughput", "--engine_dir", At("engine"), "--input_len", "-4"}, kUsage,
         "--input_len");
  Expect({"convert", "--model_dir", Demo(), "--tp_size", "0"}, kUsage, "--tp_size");
  Expect({"convert", "--model_dir", Demo(), "--dtype", "float7"}, kUsage, "--dtype");
}

TEST_F(BadInputTest, PathsAreCheckedBeforeTheWork) {
  for (const char* flag :
       {"--output_csv", "--output_npy", "--output_logits_npy", "--output_context_logits_npy",
        "--output_log_probs_npy", "--output_cum_log_probs_npy"}) {
    Expect(RunWith({"--max_output_len", "4", flag, "/nowhere/out"}), kUsage, flag);
    Expect(RunWith({"--max_output_len", "4", flag, At("engine")}), kUsage, flag);
  }
  for (const std::string command : {"convert", "quantize"}) {
    Expect({command, "--model_dir", Demo(), "--output_dir", "/proc/x"}, kUsage, "--output_dir");
  }
  Expect({"build", "--checkpoint_dir", At("ck"), "--output_dir", "/proc/x"}, kUsage,
         "--output_dir");
  Expect({"run", "--engine_dir", At("nothing"), "--max_output_len", "4"}, kData, "nothing");
  Expect(
      {"run", "--engine_dir", At("engine"), "--max_output_len", "4", "--input_file", At("no.txt")},
      kData, "no.txt");
}

TEST_F(BadInputTest, PromptsBeyondTheLimits) {
  std::string prompt = "Once";
  for (int i = 0; i < 40; ++i) prompt += " upon a time";
  Expect({"run", "--engine_dir", At("engine"), "--max_seq_len", "32", "--max_output_len", "4",
          "--input_text", prompt},
         kData, "--max_seq_len 32");
  Expect({"run", "--engine_dir", At("engine"), "--max_seq_len", "32", "--max_output_len", "400",
          "--input_text", "Once"},
         kData, "--max_output_len 400");
  WriteText(At("ids.csv"), "1,2,999999\n");
  Expect(
      {"run", "--engine_dir", At("engine"), "--max_output_len", "4", "--input_file", At("ids.csv")},
      kData, "999999");
  WriteText(At("ids.csv"), "1,2,x\n");
  Expect(
      {"run", "--engine_dir", At("engine"), "--max_output_len", "4", "--input_file", At("ids.csv")},
      kData, "ids.csv");
  Expect({"run", "--engine_dir", At("engine"), "--max_output_len", "4", "--input_text", "\xff\xfe"},
         kData, "UTF-8");
}

// The demo model has one table for embedding and head.
TEST_F(BadInputTest, ParametersAreCountedOnceEverywhere) {
  std::vector<std::string> counts;
  for (const std::string& path : {Demo(), At("ck"), At("engine")}) {
    counts.push_back(
        json::parse(RunTrireme({"inspect", path, "--json"}).text)["parameters"].dump());
  }
  const json config = json::parse(ReadText(Demo() + "/config.json"));
  ASSERT_EQ(config["tie_word_embeddings"], true);
  const Result converted =
      RunTrireme({"convert", "--model_dir", Demo(), "--output_dir", At("counted")});
  const Result built = RunTrireme(
      {"build", "--checkpoint_dir", At("counted"), "--output_dir", At("dry"), "--dry_run"});
  const Result weightless = RunTrireme({"build", "--model_config", Demo() + "/config.json",
                                        "--output_dir", At("weightless"), "--dry_run"});
  EXPECT_EQ(counts[0], counts[1]);
  EXPECT_EQ(counts[0], counts[2]);
  for (const Result& result : {converted, built, weightless}) {
    EXPECT_THAT(result.text, HasSubstr("Parameters: " + counts[0])) << result.text;
  }
}

TEST_F(BadInputTest, LongerThanTheModelKnowsIsSaid) {
  const int positions =
      json::parse(ReadText(Demo() + "/config.json"))["max_position_embeddings"].get<int>();
  const auto build = [&](int max_seq_len) {
    return RunTrireme({"build", "--model_config", Demo() + "/config.json", "--output_dir",
                       At("long"), "--dry_run", "--max_seq_len", std::to_string(max_seq_len)});
  };
  EXPECT_THAT(build(positions).text, Not(HasSubstr("max_seq_len_beyond_positions")));
  const Result longer = build(positions + 1);
  EXPECT_EQ(longer.code, 0) << longer.text;
  EXPECT_THAT(longer.text, HasSubstr("max_seq_len_beyond_positions"));
  EXPECT_THAT(
      RunTrireme(RunWith({"--max_output_len", "1", "--max_seq_len", std::to_string(positions + 1)}))
          .text,
      HasSubstr("max_seq_len_beyond_positions"));
}

TEST_F(BadInputTest, BuildConfigurations) {
  const auto expect = [&](const std::string& text, int code, const std::string& message) {
    WriteText(At("build.json"), text);
    Expect({"build", "--checkpoint_dir", At("ck"), "--output_dir", At("none"), "--build_config",
            At("build.json")},
           code, message);
    EXPECT_FALSE(fs::exists(At("none")));
  };
  expect("{", kData, "build.json");
  expect(R"({"max_batch_sise": 4})", kData, "max_batch_sise");
  expect(R"({"max_batch_size": -4})", kUsage, "--max_batch_size");
  expect(R"({"max_batch_size": [4]})", kData, "max_batch_size");
  expect(R"({"plugin_config": {"lora_plugin": "float16"}})", kUsage, "--lora_plugin");
  expect(R"({"lora_config": {"lora_dir": ["x"]}})", kData, "lora_config");

  // An engine's own file builds the same engine again; a flag beside it wins.
  fs::remove_all(At("same"));
  const Result built =
      RunTrireme({"build", "--checkpoint_dir", At("ck"), "--output_dir", At("same"),
                  "--build_config", At("engine/config.json"), "--max_num_tokens", "512"});
  ASSERT_EQ(built.code, 0) << built.text;
  const json same = json::parse(ReadText(At("same/config.json")))["build_config"];
  EXPECT_EQ(same["max_batch_size"], 8);
  EXPECT_EQ(same["max_num_tokens"], 512);
}

// ---- the server ----

class BadRequestTest : public BadInputTest {
 protected:
  void SetUp() override {
    server_ = std::make_unique<Process>(Arguments{
        "serve", At("engine"), "--http_address", "127.0.0.1", "--http_port", "0",
        "--metrics_address", "127.0.0.1", "--metrics_port", "0", "--allow_grpc", "false",
        "--http_max_input_size", "65536", "--exit_timeout_secs", "1", "--max_seq_len", "16384"});
    const std::string mark = "Started HTTPService at 127.0.0.1:";
    ASSERT_TRUE(server_->ReadUntil(mark)) << server_->text();
    ASSERT_TRUE(server_->ReadUntil("Metrics Service at")) << server_->text();
    port_ = std::atoi(server_->text().c_str() + server_->text().find(mark) + mark.size());
    ASSERT_GT(port_, 0) << server_->text();
  }

  std::string Generate(const std::string& body) const {
    Connection connection(port_);
    connection.Post("/v2/models/ensemble/generate", body);
    return connection.Receive();
  }
  void ExpectRefusal(const std::string& body, const std::string& status,
                     const std::string& message) {
    const std::string reply = Generate(body);
    EXPECT_THAT(reply.substr(0, 12), HasSubstr(status)) << body << "\n" << reply;
    EXPECT_THAT(reply, HasSubstr(message)) << body;
  }
  void ExpectAlive() {
    EXPECT_THAT(Generate(R"({"text_input": "a", "max_tokens": 2})"), HasSubstr(" 200 "));
  }

  std::unique_ptr<Process> server_;
  int port_ = 0;
};

TEST_F(BadRequestTest, WrongBodiesAreAnsweredWith4xx) {
  ExpectRefusal("{\n  \"text_input\": \"a\",\n  \"max_tokens\": }", "400", "line 3, column 17");
  ExpectRefusal("{\"text_input\": \"\xff\", \"max_tokens\": 2}", "400", "UTF-8");
  ExpectRefusal(R"({"text_input": "a", "max_tokens": 1000000})", "400", "max_tokens");
  for (const char* field : {R"("temperature": -1)", R"("top_p": 7)", R"("top_k": -2)",
                            R"("repetition_penalty": 0)", R"("min_tokens": 99)"}) {
    const std::string name = std::string(field).substr(1, std::string(field).find('"', 1) - 1);
    ExpectRefusal(std::string(R"({"text_input": "a", "max_tokens": 2, )") + field + "}", "400",
                  name);
  }
  ExpectRefusal(std::string(70000, ' '), " 400", "65536");
  ExpectAlive();
}

TEST_F(BadRequestTest, ClientsThatGoDisturbNobody) {
  const std::string endless =
      R"({"text_input": "a", "max_tokens": 16000, "end_id": -1, "stream": true})";
  for (int i = 0; i < 12; ++i) {  // more than the batch holds
    Connection stream(port_);
    stream.Post("/v2/models/ensemble/generate_stream", endless);
    if (i % 2 == 0) stream.Receive("data: ");
    Connection plain(port_);
    plain.Post("/v2/models/ensemble/generate",
               R"({"text_input": "a", "max_tokens": 16000, "end_id": -1})");
  }
  ExpectAlive();
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0) << server_->text();
}

TEST_F(BadRequestTest, ATakenPortIsNamed) {
  Expect({"serve", At("engine"), "--http_address", "127.0.0.1", "--http_port",
          std::to_string(port_), "--allow_metrics", "false", "--allow_grpc", "false"},
         kResources, std::to_string(port_));
  ExpectAlive();
}

// Requests that would run far longer than --exit_timeout_secs end with what they have.
TEST_F(BadRequestTest, TerminationDrainsUntilItsDeadline) {
  std::vector<std::unique_ptr<Connection>> streams;
  for (int i = 0; i < 8; ++i) {
    streams.push_back(std::make_unique<Connection>(port_));
    streams.back()->Post(
        "/v2/models/ensemble/generate_stream",
        R"({"text_input": "a", "max_tokens": 16000, "end_id": -1, "stream": true})");
    EXPECT_THAT(streams.back()->Receive("data: "), HasSubstr(" 200 "));
  }
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0) << server_->text();
  EXPECT_THAT(server_->text(), HasSubstr("reason=CANCELLED"));
  for (const auto& stream : streams) stream->Receive();  // ends: the server closed it
}

}  // namespace
}  // namespace trireme::testing_tools

// SPDX-License-Identifier: Apache-2.0
// The five-model layout as it ships, over real sockets, with the demo model: each model on its own,
// the ensemble and tensorrt_llm_bls, whole and streamed, filled in and not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <regex>
#include <thread>

#include "base/log.h"
#include "convert/convert.h"
#include "server/server.h"
#include "server/testing/http_client.h"
#include "tests/source_path.h"
#include "trireme/builder.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using server::testing::Ask;
using server::testing::Reply;
using testing::HasSubstr;

using Values = std::map<std::string, std::string>;

std::string ReadAll(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Puts values for the keys of a template; the others stay.
void Fill(const fs::path& config, const Values& values) {
  std::string text = ReadAll(config);
  for (const auto& [key, value] : values) {
    text = std::regex_replace(text, std::regex("\\$\\{" + key + "\\}"), value);
  }
  std::ofstream(config, std::ios::binary) << text;
}

class LlmLayoutTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(SetLogLevel("error").ok());
    folder_ =
        new fs::path(fs::temp_directory_path() / fmt::format("trireme_layout_{}", ::getpid()));
    Status status = convert::Convert(
        {.model_dir = SourcePath("models/demo"), .output_dir = *folder_ / "checkpoint"}, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
    BuildOptions options;
    options.checkpoint_dir = *folder_ / "checkpoint";
    options.output_dir = *folder_ / "engine";
    options.limits.max_batch_size = 8;
    options.time_tactics = false;
    status = BuildEngine(options, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
    filled_ = StartFilled().release();
  }
  static void TearDownTestSuite() {
    delete filled_;
    std::error_code ignored;
    if (folder_ != nullptr) fs::remove_all(*folder_, ignored);
    delete folder_;
  }

  static std::string engine() { return *folder_ / "engine"; }

  static fs::path CopyLayout(const std::string& name) {
    const fs::path repository = *folder_ / name;
    fs::copy(SourcePath("all_models/inflight_batcher_llm"), repository,
             fs::copy_options::recursive);
    return repository;
  }

  static std::unique_ptr<server::Server> Start(const fs::path& repository) {
    server::ServerConfig config;
    config.http.port = 0;
    config.grpc.port = 0;
    config.metrics.port = 0;
    config.core.repository.paths = {repository};
    auto started = server::Server::Start(config, nullptr);
    EXPECT_TRUE(started.ok()) << started.status().ToString();
    const Status loaded = (*started)->WaitUntilLoaded();
    EXPECT_TRUE(loaded.ok()) << loaded.ToString();
    return std::move(*started);
  }

  // As a user of the reference fills it; and a second BLS model that accumulates.
  static std::unique_ptr<server::Server> StartFilled() {
    const fs::path repository = CopyLayout("filled");
    fs::copy(repository / "tensorrt_llm_bls", repository / "accumulating",
             fs::copy_options::recursive);
    Fill(repository / "accumulating/config.pbtxt",
         {{"decoupled_mode", "True"}, {"accumulate_tokens", "True"}});
    std::string text = ReadAll(repository / "accumulating/config.pbtxt");
    text = std::regex_replace(text, std::regex("tensorrt_llm_bls"), "accumulating");
    std::ofstream(repository / "accumulating/config.pbtxt") << text;
    const Values common = {{"triton_max_batch_size", "8"},
                           {"tokenizer_dir", engine()},
                           {"engine_dir", engine()},
                           {"decoupled_mode", "True"},
                           {"triton_backend", "tensorrtllm"},
                           {"max_beam_width", "1"},
                           {"batching_strategy", "inflight_fused_batching"},
                           {"batch_scheduler_policy", "max_utilization"},
                           {"kv_cache_free_gpu_mem_fraction", "0.5"},
                           {"max_queue_delay_microseconds", "0"},
                           {"enable_chunked_context", "True"}};
    for (const fs::directory_entry& model : fs::directory_iterator(repository)) {
      Fill(model.path() / "config.pbtxt", common);
    }
    return Start(repository);
  }

  static Reply Post(const std::string& path, const json& body) {
    return Ask(filled_->http_port(), "POST", "/v2/models/" + path, body.dump());
  }
  static json Generate(const std::string& model, const json& body) {
    const Reply reply = Post(model + "/generate", body);
    EXPECT_EQ(reply.status, 200) << model << ": " << reply.body;
    return reply.Json();
  }
  // The text of every event.
  static std::vector<std::string> Stream(const std::string& model, const json& body) {
    const Reply reply = Post(model + "/generate_stream", body);
    EXPECT_EQ(reply.status, 200) << model << ": " << reply.body;
    std::vector<std::string> texts;
    for (size_t at = reply.body.find("data: "); at != std::string::npos;
         at = reply.body.find("data: ", at + 1)) {
      const json event = json::parse(
          reply.body.substr(at + 6, reply.body.find("\n\n", at) - at - 6), nullptr, false);
      EXPECT_TRUE(event.contains("text_output")) << reply.body;
      texts.push_back(event.value("text_output", ""));
    }
    return texts;
  }
  static std::string Join(const std::vector<std::string>& texts) {
    std::string joined;
    for (const std::string& text : texts) joined += text;
    return joined;
  }
  static json Output(const json& reply, const std::string& name) {
    for (const json& output : reply["outputs"]) {
      if (output["name"] == name) return output;
    }
    ADD_FAILURE() << "no output " << name << " in " << reply;
    return {};
  }
  // An input as the next model takes it.
  static json As(json tensor, const std::string& name) {
    tensor["name"] = name;
    return tensor;
  }
  static json Input(const std::string& name, const std::string& type, const json& shape,
                    const json& data) {
    return {{"name", name}, {"datatype", type}, {"shape", shape}, {"data", data}};
  }

  static fs::path* folder_;
  static server::Server* filled_;
};
fs::path* LlmLayoutTest::folder_ = nullptr;
server::Server* LlmLayoutTest::filled_ = nullptr;

constexpr char kPrompt[] = "Once upon a time";

TEST_F(LlmLayoutTest, EnsembleAndBlsAnswerAlikeWholeAndStreamed) {
  const json body = {
      {"text_input", kPrompt}, {"max_tokens", 40}, {"bad_words", ""}, {"stop_words", ""}};
  json streamed = body;
  streamed["stream"] = true;
  const std::string whole = Generate("ensemble", body)["text_output"];
  EXPECT_THAT(whole, testing::StartsWith(kPrompt));
  EXPECT_GT(whole.size(), std::string(kPrompt).size());
  const std::string generated = whole.substr(std::string(kPrompt).size());
  for (const char* model : {"ensemble", "tensorrt_llm_bls"}) {
    EXPECT_EQ(Generate(model, body)["text_output"], whole) << model;
    const std::vector<std::string> events = Stream(model, streamed);
    EXPECT_GT(events.size(), 10u) << model;
    EXPECT_EQ(Join(events), generated) << model;
  }
  const std::vector<std::string> growing = Stream("accumulating", streamed);
  ASSERT_GT(growing.size(), 10u);
  for (size_t i = 1; i < growing.size(); ++i) {
    EXPECT_THAT(growing[i], testing::StartsWith(growing[i - 1]));
  }
  EXPECT_EQ(growing.back(), generated);
}

TEST_F(LlmLayoutTest, EachModelAnswersOnItsOwn) {
  const json tokens =
      Post("preprocessing/infer", {{"inputs",
                                    {Input("QUERY", "BYTES", {1, 1}, {kPrompt}),
                                     Input("REQUEST_OUTPUT_LEN", "INT32", {1, 1}, {12}),
                                     Input("STOP_WORDS_DICT", "BYTES", {1, 2}, {"zebra", ""})}}})
          .Json();
  const json ids = Output(tokens, "INPUT_ID");
  EXPECT_EQ(Output(tokens, "REQUEST_INPUT_LEN")["data"][0], ids["data"].size());
  const json stop = Output(tokens, "STOP_WORDS_IDS");
  EXPECT_EQ(stop["shape"][1], 2);
  EXPECT_GT(stop["shape"][2], 0);
  EXPECT_EQ(Output(tokens, "BAD_WORDS_IDS")["shape"], json({1, 2, 0}));
  EXPECT_EQ(Output(tokens, "EMBEDDING_BIAS")["shape"], json({1, 0}));
  const json generated =
      Post("tensorrt_llm/infer",
           {{"inputs",
             {As(ids, "input_ids"), As(Output(tokens, "REQUEST_INPUT_LEN"), "input_lengths"),
              As(Output(tokens, "REQUEST_OUTPUT_LEN"), "request_output_len"),
              As(Output(tokens, "OUT_END_ID"), "end_id"), As(stop, "stop_words_list"),
              Input("return_num_output_tokens", "BOOL", {1, 1}, {true})}}})
          .Json();
  EXPECT_EQ(Output(generated, "num_output_tokens")["data"][0], 12);
  const json text = Post("postprocessing/infer",
                         {{"inputs",
                           {As(Output(generated, "output_ids"), "TOKENS_BATCH"),
                            As(Output(generated, "sequence_length"), "SEQUENCE_LENGTH")}}})
                        .Json();
  const json ensemble = Generate("ensemble", {{"text_input", kPrompt}, {"max_tokens", 12}});
  EXPECT_EQ(Output(text, "OUTPUT")["data"][0], ensemble["text_output"]);
}

TEST_F(LlmLayoutTest, ABatchOfOneRequestIsAnsweredInOrder) {
  const std::vector<std::string> prompts = {"The dog", "Once upon a time there was", "A"};
  const json infer = Post("ensemble/infer", {{"inputs",
                                              {Input("text_input", "BYTES", {3, 1}, prompts),
                                               Input("max_tokens", "INT32", {3, 1}, {5, 9, 7})}}})
                         .Json();
  const json texts = Output(infer, "text_output")["data"];
  ASSERT_EQ(texts.size(), 3u) << infer;
  const int counts[] = {5, 9, 7};
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(texts[i], Generate("ensemble", {{"text_input", prompts[i]},
                                              {"max_tokens", counts[i]}})["text_output"]);
  }
}

TEST_F(LlmLayoutTest, StopWordsEndTheTextOfBlsAcrossPieces) {
  const json body = {
      {"text_input", kPrompt}, {"max_tokens", 40}, {"exclude_input_in_output", true}};
  const std::string text = Generate("tensorrt_llm_bls", body)["text_output"];
  // From the middle of one word into the next: no token and no list of tokens.
  const size_t space = text.find(' ', text.size() / 2);
  ASSERT_NE(space, std::string::npos);
  const std::string stop = text.substr(space - 1, 3);
  json stopping = body;
  stopping["stop_words"] = {"", stop};
  const std::string expected = text.substr(0, text.find(stop));
  EXPECT_EQ(Generate("tensorrt_llm_bls", stopping)["text_output"], expected);
  stopping["stream"] = true;
  EXPECT_EQ(Join(Stream("tensorrt_llm_bls", stopping)), expected);
}

TEST_F(LlmLayoutTest, SamplingFieldsReachTheCore) {
  const json plain = {{"text_input", "The dog"}, {"max_tokens", 20}};
  json sampled = plain;
  sampled.update({{"top_k", 40}, {"temperature", 1.3}, {"seed", 7}, {"return_log_probs", true}});
  const json first = Generate("ensemble", sampled);
  EXPECT_EQ(first, Generate("ensemble", sampled));
  EXPECT_EQ(first["output_log_probs"].size(), 20u);
  EXPECT_EQ(first["sequence_id"], 0);
  sampled["seed"] = 8;
  EXPECT_NE(first["text_output"], Generate("ensemble", sampled)["text_output"]);
  json two = plain;
  two.update({{"num_return_sequences", 2}, {"top_k", 40}});
  EXPECT_EQ(Generate("ensemble", two)["text_output"].size(), 2u);
  json biased = plain;
  biased.update({{"embedding_bias_words", {"cat"}}, {"embedding_bias_weights", {100.0}}});
  EXPECT_THAT(Generate("ensemble", biased)["text_output"].get<std::string>(), HasSubstr("cat"));
}

TEST_F(LlmLayoutTest, WhatDoesNotExistIsRefusedByName) {
  const json body = {{"text_input", "a"}, {"max_tokens", 4}};
  for (const char* field : {"lora_task_id", "prompt_vocab_size"}) {
    for (const char* model : {"ensemble", "tensorrt_llm_bls"}) {
      json with = body;
      with[field] = 1;
      const Reply reply = Post(std::string(model) + "/generate", with);
      EXPECT_EQ(reply.status, 501) << reply.body;
      EXPECT_THAT(reply.Error(), HasSubstr(field));
    }
  }
  json with = body;
  with["num_draft_tokens"] = 2;
  EXPECT_THAT(Post("tensorrt_llm_bls/generate", with).Error(), HasSubstr("num_draft_tokens"));
  with = body;
  with["beam_width"] = 2;
  EXPECT_EQ(Post("ensemble/generate", with).status, 501);
  with = body;
  with["return_perf_metrics"] = true;
  EXPECT_THAT(Post("ensemble/generate", with).Error(), HasSubstr("return_perf_metrics"));
  with = body;
  with["max_tokens"] = 0;
  EXPECT_THAT(Post("tensorrt_llm_bls/generate", with).Error(), HasSubstr("max_tokens"));
  EXPECT_THAT(Post("ensemble/generate", with).Error(), HasSubstr("request_output_len"));
}

TEST_F(LlmLayoutTest, AStopRequestNeedsAnIdAndEndsTheOther) {
  const json ids = Input("input_ids", "INT32", {1, 2}, {5, 6});
  const json rest = {ids, Input("input_lengths", "INT32", {1, 1}, {2}),
                     Input("request_output_len", "INT32", {1, 1}, {4}),
                     Input("stop", "BOOL", {1, 1}, {true})};
  EXPECT_THAT(Post("tensorrt_llm/infer", {{"inputs", rest}}).Error(), HasSubstr("id"));
  const Reply stopped = Post("tensorrt_llm/infer", {{"id", "7"}, {"inputs", rest}});
  EXPECT_EQ(stopped.status, 200) << stopped.body;
  EXPECT_EQ(stopped.Json()["outputs"].size(), 0u);
}

TEST_F(LlmLayoutTest, ATemplateNobodyFilledInAnswersToo) {
  const fs::path repository = CopyLayout("unfilled");
  fs::copy(engine(), repository / "tensorrt_llm/1", fs::copy_options::recursive);
  for (const char* model : {"preprocessing", "postprocessing"}) {
    Fill(repository / model / "config.pbtxt", {{"triton_max_batch_size", "8"}});
  }
  const auto unfilled = Start(repository);
  const json body = {{"text_input", kPrompt}, {"max_tokens", 12}};
  const auto ask = [&](const std::string& path, const json& what) {
    return Ask(unfilled->http_port(), "POST", "/v2/models/" + path, what.dump());
  };
  const std::string text = Generate("ensemble", body)["text_output"];
  for (const char* model : {"ensemble", "tensorrt_llm_bls"}) {
    EXPECT_EQ(ask(std::string(model) + "/generate", body).Json()["text_output"], text) << model;
  }
  json streamed = body;
  streamed["stream"] = true;
  const Reply refused = ask("tensorrt_llm_bls/generate_stream", streamed);
  EXPECT_THAT(refused.body, HasSubstr("decoupled"));
}

TEST_F(LlmLayoutTest, LogitsNeedOneBareEngineAndNoTokenizer) {
  const fs::path repository = *folder_ / "logits";
  fs::create_directories(repository / "gpt2/1");
  fs::copy(engine() + "/rank0.engine", repository / "gpt2/1/gpt2_fp16.engine");
  std::ofstream(repository / "gpt2/config.pbtxt")
      << "platform: 'tensorrt_llm' max_batch_size: 8 "
         "input [{name: 'input_ids' data_type: TYPE_INT32 dims: [-1]}] "
         "output [{name: 'logits' data_type: TYPE_FP32 dims: [-1, -1]}]";
  const auto logits = Start(repository);
  const auto ask = [&](const json& shape, const json& ids) {
    return Ask(logits->http_port(), "POST", "/v2/models/gpt2/infer",
               json({{"inputs", {Input("input_ids", "INT32", shape, ids)}}}).dump());
  };
  const json both = Output(ask({2, 3}, {5, 6, 7, 8, 9, 10}).Json(), "logits");
  const int64_t vocab = both["shape"][2];
  ASSERT_EQ(both["shape"], json({2, 3, vocab}));
  const json second = Output(ask({1, 3}, {8, 9, 10}).Json(), "logits");
  for (int64_t i = 0; i < 3 * vocab; ++i) {
    ASSERT_EQ(second["data"][static_cast<size_t>(i)],
              both["data"][static_cast<size_t>(3 * vocab + i)]);
  }
  EXPECT_THAT(ask({1, 128}, {5, 6, 7}).Error(), HasSubstr("128"));
  EXPECT_EQ(ask({1, 1}, {1 << 30}).status, 400);
}

TEST_F(LlmLayoutTest, AVllmModelIsEngineArguments) {
  const fs::path repository = *folder_ / "vllm";
  fs::create_directories(repository / "older/1");
  fs::create_directories(repository / "newer/1");
  const json args = {{"model", engine()}, {"disable_log_requests", "true"}};
  std::ofstream(repository / "older/vllm_engine_args.json") << args.dump();
  std::ofstream(repository / "older/config.pbtxt")
      << "backend: 'vllm' max_batch_size: 0 model_transaction_policy {decoupled: True} "
         "input [{name: 'PROMPT' data_type: TYPE_STRING dims: [-1]}] "
         "output [{name: 'generated_text' data_type: TYPE_STRING dims: [-1]}]";
  std::ofstream(repository / "newer/1/model.json") << args.dump();
  std::ofstream(repository / "newer/config.pbtxt") << "backend: 'python'";
  const auto vllm = Start(repository);
  const auto ask = [&](const std::string& model, const json& body) {
    return Ask(vllm->http_port(), "POST", "/v2/models/" + model + "/generate", body.dump());
  };
  const json older =
      ask("older", {{"PROMPT", kPrompt}, {"max_tokens", 8}, {"temperature", 0}}).Json();
  const json newer =
      ask("newer", {{"text_input", kPrompt},
                    {"sampling_parameters", R"({"max_tokens": 8, "temperature": "0"})"},
                    {"return_finish_reason", true},
                    {"return_num_output_tokens", true}})
          .Json();
  EXPECT_THAT(older["generated_text"].get<std::string>(), testing::StartsWith(kPrompt));
  EXPECT_EQ(newer["text_output"], older["generated_text"]);
  EXPECT_EQ(newer["finish_reason"], "length");
  EXPECT_EQ(newer["num_output_tokens"], 8);
  EXPECT_THAT(ask("older", {{"PROMPT", "a"}, {"best_of", 3}}).Error(), HasSubstr("best_of"));
  EXPECT_THAT(ask("older", {{"PROMPT", "a"}, {"max_tokens", "x"}}).Error(),
              HasSubstr("max_tokens"));
}

TEST_F(LlmLayoutTest, TwoTextModelsOfOneRepositoryAnswerAtOnce) {
  const fs::path repository = *folder_ / "two";
  for (const char* name : {"first", "second"}) {
    fs::create_directories(repository / name / "1");
    std::ofstream(repository / name / "config.pbtxt")
        << "backend: 'llm' parameters { key: 'engine_dir' value { string_value: '" << engine()
        << "' } } parameters { key: 'kv_cache_free_gpu_mem_fraction' value { string_value: '0.95' "
           "} }";
  }
  const auto two = Start(repository);
  // Greedy, whatever the model's generation_config.json says.
  const json body = {{"text_input", kPrompt}, {"max_tokens", 40}, {"top_k", 1}};
  std::vector<std::string> texts(8);
  std::vector<std::thread> clients;
  for (size_t i = 0; i < texts.size(); ++i) {
    clients.emplace_back([&, i] {
      const std::string path =
          i % 2 == 0 ? "/v2/models/first/generate" : "/v2/models/second/generate";
      const Reply reply = Ask(two->http_port(), "POST", path, body.dump());
      if (reply.status == 200) texts[i] = reply.Json().value("text_output", "");
    });
  }
  for (std::thread& client : clients) client.join();
  const std::string expected = Generate("ensemble", body)["text_output"];
  for (const std::string& text : texts) EXPECT_EQ(text, expected);
  for (const char* name : {"first", "second"}) {
    const auto model = two->core().FindModel(name, -1);
    ASSERT_TRUE(model.ok());
    EXPECT_GT((*model)->backend().generator()->executor().KvCache().max_num_blocks, 0);
  }
}

TEST_F(LlmLayoutTest, ParametersThatDoNotExistAreRefusedByName) {
  const struct {
    const char* key;
    const char* value;
    const char* parameter;
  } kCases[] = {{"max_beam_width", "4", "max_beam_width"},
                {"lora_prefetch_dir", "/adapters", "lora_prefetch_dir"},
                {"decoding_mode", "medusa", "decoding_mode"},
                {"gpu_device_ids", "0,1", "gpu_device_ids"},
                {"encoder_engine_dir", "/e", "encoder_model_path"},
                {"batching_strategy", "sometimes", "gpt_model_type"},
                {"sink_token_length", "4", "sink_token_length"},
                {"kv_cache_free_gpu_mem_fraction", "much", "kv_cache_free_gpu_mem_fraction"}};
  for (const auto& c : kCases) {
    const fs::path repository = CopyLayout(std::string("refused_") + c.key);
    for (const char* model : {"ensemble", "preprocessing", "postprocessing", "tensorrt_llm_bls"}) {
      fs::remove_all(repository / model);
    }
    Fill(repository / "tensorrt_llm/config.pbtxt", {{"engine_dir", engine()}, {c.key, c.value}});
    server::ServerConfig config;
    config.http.port = 0;
    config.allow_grpc = false;
    config.allow_metrics = false;
    config.core.repository.paths = {repository};
    const auto started = server::Server::Start(config, nullptr);
    ASSERT_TRUE(started.ok());
    const Status loaded = (*started)->WaitUntilLoaded();
    EXPECT_FALSE(loaded.ok()) << c.key;
    EXPECT_THAT(std::string(loaded.message()), HasSubstr(c.parameter));
  }
}

}  // namespace
}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
// Real engines on the CPU, from the build to the text: 64 mixed requests give the same bits
// however they are scheduled, and the demo model writes what the reference framework writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "convert/convert.h"
#include "executor/load_testing.h"
#include "tests/source_path.h"
#include "trireme/builder.h"
#include "trireme/executor.h"
#include "trireme/generator.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

constexpr int kVocabSize = 256;
constexpr int kMaxSeqLen = 128;

// A folder of its own for each test program, removed at its end.
class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(fs::temp_directory_path() / ("trireme_" + name + std::to_string(getpid()))) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

// A small model whose weights are drawn when it is loaded.
void BuildRandomEngine(const Folder& folder) {
  std::ofstream(folder / "model.json") << nlohmann::json{{"architectures", {"LlamaForCausalLM"}},
                                                         {"model_type", "llama"},
                                                         {"torch_dtype", "bfloat16"},
                                                         {"vocab_size", kVocabSize},
                                                         {"hidden_size", 64},
                                                         {"intermediate_size", 160},
                                                         {"num_hidden_layers", 2},
                                                         {"num_attention_heads", 4},
                                                         {"num_key_value_heads", 2},
                                                         {"hidden_act", "silu"},
                                                         {"max_position_embeddings", kMaxSeqLen},
                                                         {"rms_norm_eps", 1e-5},
                                                         {"rope_theta", 10000.0},
                                                         {"tie_word_embeddings", false}};
  BuildOptions options;
  options.model_config = folder / "model.json";
  options.output_dir = folder / "engine";
  options.limits = {.max_batch_size = 16,
                    .max_seq_len = kMaxSeqLen,
                    .max_num_tokens = 256,
                    .tokens_per_block = 8};
  options.num_threads = 2;
  options.time_tactics = false;
  const Status status = BuildEngine(options, {});
  ASSERT_TRUE(status.ok()) << status.ToString();
}

std::vector<Request> MixedRequests() {
  std::mt19937_64 rng(11);
  const auto chance = [&](int one_in) { return rng() % one_in == 0; };
  std::vector<Request> requests;
  for (int i = 0; i < 64; ++i) {
    Request request{.max_tokens = 1 + static_cast<int>(rng() % 40)};
    for (int n = 1 + static_cast<int>(rng() % 50); n > 0; --n) {
      request.prompt.push_back(static_cast<TokenId>(rng() % kVocabSize));
    }
    request.sampling.seed = rng();
    if (chance(2)) request.sampling.top_p = 0.95f;
    if (chance(3)) request.sampling.top_k = 20;
    if (chance(3)) request.sampling.repetition_penalty = 1.2f;
    if (chance(3)) request.sampling.frequency_penalty = 0.1f;
    if (chance(4)) request.sampling.presence_penalty = 0.1f;
    if (chance(4)) request.sampling.no_repeat_ngram_size = 2;
    if (chance(4)) request.sampling.min_p = 0.05f;
    if (chance(4)) request.bad_words = {{static_cast<TokenId>(rng() % kVocabSize)}};
    if (chance(4)) request.stop_words = {{static_cast<TokenId>(rng() % kVocabSize)}};
    if (chance(2)) request.end_id = static_cast<TokenId>(rng() % kVocabSize);
    request.output = {.return_log_probs = true,
                      .return_context_logits = chance(4),
                      .return_generation_logits = true};
    requests.push_back(std::move(request));
  }
  return requests;
}

Response Wait(Executor& executor, const StatusOr<RequestId>& id) {
  EXPECT_TRUE(id.ok()) << id.status().ToString();
  auto responses = executor.AwaitResponses(id.value());
  EXPECT_EQ(responses.size(), 1u);
  EXPECT_TRUE(responses[0].error.ok()) << responses[0].error.ToString();
  return std::move(responses[0]);
}

void ExpectSame(const std::vector<Response>& expected, const std::vector<Response>& got) {
  ASSERT_EQ(expected.size(), got.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    SCOPED_TRACE(i);
    EXPECT_EQ(expected[i].tokens, got[i].tokens);
    EXPECT_EQ(expected[i].finish_reason, got[i].finish_reason);
    EXPECT_TRUE(expected[i].log_probs == got[i].log_probs);
    EXPECT_TRUE(expected[i].context_logits == got[i].context_logits);
    EXPECT_TRUE(expected[i].generation_logits == got[i].generation_logits);
  }
}

// Tokens that must be computed once: each position but that of the last sampled token, which is the
// end id that is not emitted, or the last emitted one.
int64_t TokensToCompute(const std::vector<Request>& requests,
                        const std::vector<Response>& responses) {
  int64_t total = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    const bool ended = responses[i].finish_reason == FinishReason::kEndId;
    total += static_cast<int64_t>(requests[i].prompt.size() + responses[i].tokens.size()) +
             (ended ? 1 : 0) - 1;
  }
  return total;
}

struct BatchRun {
  std::vector<Response> responses;
  ExecutorTotals totals;
  KvCacheStats cache;
  int64_t computed_tokens = 0;
};

BatchRun RunTogether(const std::string& engine, const std::vector<Request>& requests,
                     ExecutorConfig config) {
  config.iter_stats_max_iterations = 1'000'000;
  auto executor = Executor::Create(engine, config).value();
  std::vector<StatusOr<RequestId>> ids;
  for (const Request& request : requests) ids.push_back(executor->Enqueue(request));
  BatchRun run;
  for (const auto& id : ids) run.responses.push_back(Wait(*executor, id));
  run.totals = executor->Totals();
  run.cache = executor->KvCache();
  executor->Shutdown();
  for (const IterationStats& stats : executor->LatestIterationStats()) {
    run.computed_tokens += stats.num_ctx_tokens + stats.num_gen_tokens;
  }
  return run;
}

TEST(EngineEquality, SixtyFourMixedRequestsGiveTheSameBits) {
  SetLogLevel("warning").ok();
  const Folder folder("equality");
  BuildRandomEngine(folder);
  if (HasFatalFailure()) return;
  const std::string engine = folder / "engine";
  const std::vector<Request> requests = MixedRequests();

  std::vector<Response> alone;
  int64_t num_computed = 0;
  {
    auto executor = Executor::Create(engine, {.num_threads = 1}).value();
    for (const Request& request : requests) {
      alone.push_back(Wait(*executor, executor->Enqueue(request)));
    }
    const ExecutorTotals totals = executor->Totals();
    EXPECT_EQ(totals.recomputed_tokens, 0);
    num_computed = totals.prompt_tokens;
  }
  int64_t num_prompt_tokens = 0;
  for (const Request& request : requests) {
    num_prompt_tokens += static_cast<int64_t>(request.prompt.size());
  }
  EXPECT_EQ(num_computed, num_prompt_tokens);

  const auto together = [&](const char* name, const ExecutorConfig& config) {
    SCOPED_TRACE(name);
    BatchRun run = RunTogether(engine, requests, config);
    ExpectSame(alone, run.responses);
    EXPECT_EQ(run.cache.used_num_blocks, 0);
    EXPECT_EQ(run.computed_tokens, TokensToCompute(requests, alone) + run.totals.recomputed_tokens);
    return run;
  };
  together("batched", {.num_threads = 1});
  together("two threads", {.num_threads = 2});
  together("static batch", {.capacity_policy = CapacityPolicy::kStaticBatch, .num_threads = 1});
  together("whole contexts", {.enable_chunked_context = false, .num_threads = 1});
  for (const int max_num_tokens : {24, 40, 72}) {
    together("chunks", {.max_num_tokens = max_num_tokens, .num_threads = 1});
  }
  together(
      "chunks, equal progress",
      {.chunking_policy = ChunkingPolicy::kEqualProgress, .max_num_tokens = 48, .num_threads = 1});
  together("few blocks, never paused", {.kv_cache = {.max_tokens = 128}, .num_threads = 1});
  const BatchRun paused =
      together("few blocks, paused", {.capacity_policy = CapacityPolicy::kMaxUtilization,
                                      .kv_cache = {.max_tokens = 128},
                                      .max_num_tokens = 64,
                                      .num_threads = 1});
  EXPECT_GE(paused.totals.pauses, 20);
  EXPECT_GT(paused.totals.recomputed_tokens, 0);

  // Each request twice in a row: the second finds the blocks of the first.
  auto executor =
      Executor::Create(engine, {.kv_cache = {.enable_block_reuse = true}, .num_threads = 1})
          .value();
  std::vector<Response> second;
  for (const Request& request : requests) {
    Wait(*executor, executor->Enqueue(request));
    second.push_back(Wait(*executor, executor->Enqueue(request)));
  }
  ExpectSame(alone, second);
  EXPECT_GT(executor->KvCache().reused_blocks, 50);
}

// Under every policy, with few enough blocks that sequences wait and pause.
TEST(EngineLoad, TwoThousandRequestsWithCancellationsLeaveNothing) {
  SetLogLevel("warning").ok();
  const Folder folder("load");
  BuildRandomEngine(folder);
  if (HasFatalFailure()) return;
  const int threads_before = executor::NumThreads();
  for (const auto policy : {CapacityPolicy::kMaxUtilization, CapacityPolicy::kGuaranteedNoEvict}) {
    auto executor = Executor::Create(folder / "engine",
                                     {.capacity_policy = policy,
                                      .kv_cache = {.enable_block_reuse = true, .max_tokens = 256},
                                      .num_threads = 2})
                        .value();
    executor::ExpectNothingLeftBehind(*executor, kVocabSize);
    EXPECT_EQ(executor->Totals().pauses > 0, policy == CapacityPolicy::kMaxUtilization);
  }
  EXPECT_EQ(executor::NumThreads(), threads_before);
}

// The demo model as float32, which is the arithmetic of its golden tokens.
TEST(DemoModel, WritesWhatTheReferenceWrites) {
  SetLogLevel("warning").ok();
  const Folder folder("demo");
  const std::string model = SourcePath("models/demo");
  convert::ConvertOptions conversion;
  conversion.model_dir = model;
  conversion.output_dir = folder / "checkpoint";
  conversion.dtype = "float32";
  Status status = convert::Convert(conversion, {});
  ASSERT_TRUE(status.ok()) << status.ToString();
  BuildOptions build;
  build.checkpoint_dir = conversion.output_dir;
  build.output_dir = folder / "engine";
  build.num_threads = 2;
  build.time_tactics = false;
  status = BuildEngine(build, {});
  ASSERT_TRUE(status.ok()) << status.ToString();

  std::ifstream file(model + "/golden.json");
  const nlohmann::json golden = nlohmann::json::parse(file, nullptr, false);
  ASSERT_FALSE(golden.is_discarded());
  const auto expected = golden["greedy_ids"].get<std::vector<TokenId>>();

  auto generator = Generator::Create(folder / "engine", {.max_batch_size = 4, .num_threads = 2});
  ASSERT_TRUE(generator.ok()) << generator.status().ToString();
  GenerateRequest request{.prompt = golden["prompt"].get<std::string>()};
  request.max_tokens = static_cast<int>(expected.size());
  request.end_ids = std::vector<TokenId>{};
  EXPECT_EQ((*generator)->Encode(request).value(),
            golden["prompt_ids"].get<std::vector<TokenId>>());
  const auto outputs = (*generator)->GenerateAll(request);
  ASSERT_TRUE(outputs.ok()) << outputs.status().ToString();
  EXPECT_EQ((*outputs)[0].tokens, expected);
  const std::string text = (*generator)->tokenizer().Decode(expected, true).value();
  EXPECT_EQ((*outputs)[0].text, text);

  // A stop string taken from the text ends it there.
  request.stop = {text.substr(text.size() / 2, 4)};
  const auto stopped = (*generator)->GenerateAll(request);
  ASSERT_TRUE(stopped.ok()) << stopped.status().ToString();
  EXPECT_EQ((*stopped)[0].text, text.substr(0, text.find(request.stop[0])));
  EXPECT_EQ((*stopped)[0].finish_reason, FinishReason::kStopWords);
}

}  // namespace
}  // namespace trireme

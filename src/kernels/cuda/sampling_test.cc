// SPDX-License-Identifier: Apache-2.0
// Sampling on the GPU against the CPU's reference, token for token, over whole sequences.
#include "kernels/sampling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_setup.h"
#include "kernels/cuda/testing.h"
#include "kernels/kernels_testing.h"
#include "kernels/philox.h"

namespace trireme::cuda {
namespace {

using kernels::SamplingSetup;
using kernels::SamplingState;
using kernels::TestRandom;

constexpr int kMaxSeqLen = 128;
constexpr int kMaxWords = 64;

// A request that owns what its setup borrows.
struct TestRequest {
  SamplingParams params;
  std::vector<TokenId> prompt = {1, 2, 3};
  std::vector<TokenId> generated;
  std::vector<TokenId> end_ids;
  int max_tokens = 40;
  std::vector<std::vector<TokenId>> bad_words;
  std::vector<std::vector<TokenId>> stop_words;
  std::vector<float> bias;
  bool log_probs = false;

  SamplingSetup Setup() const {
    return {.params = params,
            .prompt = prompt,
            .generated = generated,
            .end_ids = end_ids,
            .max_tokens = max_tokens,
            .bad_words = bad_words,
            .stop_words = stop_words,
            .embedding_bias = bias,
            .log_probs = log_probs};
  }
};

// Requests on the device, and the same on the CPU.
class SamplingRun {
 public:
  SamplingRun(const std::vector<TestRequest>& requests, int vocab_size)
      : requests_(requests),
        vocab_size_(vocab_size),
        count_(static_cast<int>(requests.size())),
        states_(requests.size()),
        last_tokens_(requests.size()),
        tokens_(requests.size() * kMaxSeqLen),
        words_(requests.size() * kMaxWords),
        counts_(requests.size() * static_cast<size_t>(vocab_size)),
        bias_(BiasValues(requests, vocab_size)),
        workspace_(static_cast<size_t>(SampleWorkspaceBytes(vocab_size, count_ + 1))),
        cpu_(requests.size()) {
    slots_ = {states_.data(), last_tokens_.data(), tokens_.data(), words_.data(),
              counts_.data(), kMaxSeqLen,          kMaxWords,      vocab_size};
    std::vector<StagedSlot> staged;
    std::vector<int32_t> staged_words;
    for (int slot = 0; slot < count_; ++slot) {
      const TestRequest& request = requests_[static_cast<size_t>(slot)];
      const float* bias = request.bias.empty() ? nullptr : bias_.data() + slot * vocab_size;
      EXPECT_TRUE(
          StageSlot(request.Setup(), slot, bias, kMaxSeqLen, kMaxWords, staged, staged_words));
      cpu_[static_cast<size_t>(slot)].Reset(request.Setup(), vocab_size);
    }
    DeviceArray<StagedSlot> staged_device(staged);
    DeviceArray<int32_t> words_device(staged_words);
    EXPECT_EQ(LoadSlots({slots_, staged_device.data(), words_device.data(), count_}, context_),
              cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }

  // Samples one token of every request. logits: [requests, vocab_size].
  void Step(const std::vector<float>& logits, int stride) {
    std::vector<float> strided(static_cast<size_t>(count_) * static_cast<size_t>(stride));
    std::vector<SampleRow> rows;
    for (int r = 0; r < count_; ++r) {
      const int place = count_ - 1 - r;  // rows need not be in the order of the slots
      std::copy_n(logits.data() + int64_t{r} * vocab_size_, vocab_size_,
                  strided.data() + int64_t{place} * stride);
      rows.push_back({r, place});
    }
    rows.push_back({0, 0});  // beyond the count
    DeviceArray<float> device_logits(strided);
    DeviceArray<SampleRow> device_rows(rows);
    DeviceArray<int32_t> num_rows(std::vector<int32_t>{count_});
    DeviceArray<SampleResult> results(rows.size());
    ASSERT_EQ(Sample({.slots = slots_,
                      .logits = device_logits.data(),
                      .logits_stride = stride,
                      .rows = device_rows.data(),
                      .num_rows = num_rows.data(),
                      .results = results.data(),
                      .workspace = workspace_.data(),
                      .max_rows = count_ + 1},
                     context_),
              cudaSuccess);
    results_ = results.Read();
    EXPECT_EQ(results_.back().slot, -1) << "a result beyond the count was written";
    for (int r = 0; r < count_; ++r) {
      Compare(r, logits.data() + int64_t{r} * vocab_size_);
      if (testing::Test::HasFatalFailure()) return;
    }
  }

  int num_mismatches() const { return num_mismatches_; }
  int num_tokens() const { return num_tokens_; }
  const SampleResult& result(int r) const { return results_[static_cast<size_t>(r)]; }

 private:
  static std::vector<float> BiasValues(const std::vector<TestRequest>& requests, int vocab_size) {
    std::vector<float> all(requests.size() * static_cast<size_t>(vocab_size), 0.0f);
    for (size_t r = 0; r < requests.size(); ++r) {
      std::copy(requests[r].bias.begin(), requests[r].bias.end(),
                all.begin() + static_cast<long>(r * static_cast<size_t>(vocab_size)));
    }
    return all;
  }

  void Compare(int r, const float* logits) {
    SamplingState& state = cpu_[static_cast<size_t>(r)];
    kernels::SampleRow row{logits, &state};
    kernels::SampleReference({std::span<kernels::SampleRow>(&row, 1), vocab_size_});
    const SampleResult& got = result(r);
    ASSERT_EQ(got.slot, r);
    ++num_tokens_;
    if (got.token != row.token) {
      ASSERT_FALSE(state.is_greedy()) << "request " << r << " got " << got.token;
      ++num_mismatches_;
      state.Append(row.token, 0.0f);
      return;
    }
    if (requests_[static_cast<size_t>(r)].log_probs) {
      if (std::isfinite(row.log_prob)) {
        ASSERT_NEAR(got.log_prob, row.log_prob, 2e-5f * (1 + std::abs(row.log_prob)));
      } else {
        ASSERT_EQ(got.log_prob, row.log_prob);
      }
    }
    ASSERT_EQ(got.finish, static_cast<int>(state.Append(row.token, row.log_prob)))
        << "request " << r << " after token " << row.token;
  }

  std::vector<TestRequest> requests_;
  int vocab_size_;
  int count_;
  DeviceArray<SlotSampling> states_;
  DeviceArray<int32_t> last_tokens_, tokens_, words_, counts_;
  DeviceArray<float> bias_;
  DeviceArray<unsigned char> workspace_;
  SamplingSlots slots_;
  LaunchContext context_;
  std::vector<SamplingState> cpu_;
  std::vector<SampleResult> results_;
  int num_mismatches_ = 0;
  int num_tokens_ = 0;
};

TestRequest With(SamplingParams params, bool log_probs = false) {
  TestRequest request;
  request.params = params;
  request.log_probs = log_probs;
  return request;
}

std::vector<TestRequest> EveryKind(int vocab_size, TestRandom& random) {
  std::vector<TestRequest> all;
  all.push_back(With({}));                           // greedy
  all.push_back(With({.temperature = 0.7f}, true));  // greedy, log probs
  all.push_back(With({.top_k = 1, .top_p = 0.5f}));
  all.push_back(With({.top_p = 1.0f, .seed = 5}));  // temperature only
  all.push_back(With({.top_p = 1.0f, .temperature = 0.6f, .seed = 6}, true));
  all.push_back(With({.top_k = 50, .seed = 7}));
  all.push_back(With({.top_k = 5, .top_p = 0.8f, .temperature = 1.3f, .seed = 8}, true));
  all.push_back(With({.top_p = 0.9f, .seed = 9}));
  all.push_back(With({.top_p = 0.3f, .temperature = 0.5f, .seed = 10}));
  all.push_back(With({.top_p = 0.95f, .temperature = 4.0f, .seed = 11}));  // flat: the whole row
  all.push_back(With({.top_k = 3000, .top_p = 0.99f, .temperature = 5.0f, .seed = 12}));
  all.push_back(With({.top_p = 1.0f, .min_p = 0.05f, .seed = 13}));
  all.push_back(With({.top_p = 1.0f, .min_p = 1e-6f, .temperature = 3.0f, .seed = 14}));
  all.push_back(With({.top_k = 20, .top_p = 0.9f, .min_p = 0.1f, .seed = 15}));
  all.push_back(With(
      {.top_p = 0.9f, .seed = 16, .top_p_decay = 0.8f, .top_p_min = 0.1f, .top_p_reset_id = 4}));
  all.push_back(With({.repetition_penalty = 1.4f}));
  all.push_back(With({.top_k = 40,
                      .seed = 17,
                      .repetition_penalty = 0.8f,
                      .presence_penalty = 0.4f,
                      .frequency_penalty = 0.3f},
                     true));
  TestRequest biased = With({.top_k = 10, .seed = 18}, true);
  biased.bias = random.Normals(vocab_size, 2.0f);
  all.push_back(biased);
  TestRequest words = With({.min_tokens = 3, .no_repeat_ngram_size = 2}, true);
  words.prompt = {5, 6, 5, 7, 5};
  words.generated = {6, 5};
  words.end_ids = {0, 2, vocab_size - 1};
  words.bad_words = {{3}, {5, 6}, {6, 5, 4}, {}, {vocab_size + 5}};
  words.stop_words = {{8, 9}, {10}, {6, 5, 11}};
  all.push_back(words);
  TestRequest stopping = With({.top_k = 3, .seed = 20});
  stopping.stop_words = {{5}, {6, 7}};
  stopping.end_ids = {4};
  stopping.max_tokens = 6;
  all.push_back(stopping);
  return all;
}

TEST(SamplingGpuTest, FollowsTheReferenceTokenForToken) {
  for (const int vocab_size : {12, 129, 1000, 4096, 50257, 128256}) {
    TestRandom random(static_cast<uint64_t>(vocab_size));
    SamplingRun run(EveryKind(vocab_size, random), vocab_size);
    const int num_requests = 20;
    const int steps = vocab_size > 100000 ? 4 : 12;
    for (int step = 0; step < steps; ++step) {
      auto logits = random.Normals(int64_t{num_requests} * vocab_size, 3.0f);
      for (int r = 0; r < num_requests; ++r) {  // a few tokens come up again and again, with ties
        for (int i = 0; i < 12; ++i) {
          logits[static_cast<size_t>(r) * vocab_size + static_cast<size_t>(i)] =
              12.0f + static_cast<float>(random.Below(4));
        }
      }
      run.Step(logits, (vocab_size + 3) / 4 * 4 + (step % 2));  // aligned rows and not
      ASSERT_FALSE(HasFatalFailure()) << "vocabulary " << vocab_size << " step " << step;
    }
    // The noise may fall within rounding of a boundary: about one token in 10^5.
    EXPECT_LE(run.num_mismatches(), 1)
        << "of " << run.num_tokens() << ", vocabulary " << vocab_size;
  }
}

TEST(SamplingGpuTest, FlatAndTiedRows) {
  const int vocab_size = 30000;
  std::vector<TestRequest> requests;
  for (uint64_t seed = 0; seed < 4; ++seed) {
    requests.push_back(With({.top_p = 0.9f, .seed = seed}, true));
    requests.push_back(With({.top_k = 10, .seed = seed}));
    requests.push_back(With({.top_k = 7000, .top_p = 0.5f, .seed = seed}));
    requests.push_back(With({.top_p = 1.0f, .min_p = 0.5f, .seed = seed}));
    requests.push_back(With({}));
  }
  SamplingRun run(requests, vocab_size);
  // All equal; then two values only.
  std::vector<float> logits(requests.size() * static_cast<size_t>(vocab_size), 2.0f);
  run.Step(logits, vocab_size);
  ASSERT_FALSE(HasFatalFailure());
  for (size_t i = 0; i < logits.size(); i += 3) logits[i] = 2.5f;
  run.Step(logits, vocab_size);
  EXPECT_EQ(run.num_mismatches(), 0);
}

TEST(SamplingGpuTest, FlagsLogitsThatAreNoNumbers) {
  const int vocab_size = 5000;
  std::vector<TestRequest> requests = {With({}, true), With({.top_k = 5}, true), With({}, true),
                                       With({.top_p = 1.0f}, true)};
  SamplingRun run(requests, vocab_size);
  TestRandom random(5);
  std::vector<float> logits = random.Normals(int64_t{4} * vocab_size);
  logits[4321] = std::numeric_limits<float>::quiet_NaN();
  logits[vocab_size + 17] = std::numeric_limits<float>::infinity();
  for (int i = 0; i < vocab_size; ++i) {
    logits[static_cast<size_t>(2 * vocab_size + i)] = -std::numeric_limits<float>::infinity();
  }
  run.Step(logits, vocab_size);
  EXPECT_EQ(run.result(0).flags, kNonFiniteLogits);
  EXPECT_EQ(run.result(1).flags, kNonFiniteLogits);
  EXPECT_EQ(run.result(1).token, 17);
  EXPECT_EQ(run.result(2).flags, 0);
  EXPECT_EQ(run.result(2).token, 0);
  EXPECT_EQ(run.result(3).flags, 0);
}

TEST(SamplingGpuTest, RepeatsBitForBit) {
  const int vocab_size = 128256;
  TestRandom random(11);
  const std::vector<TestRequest> requests = EveryKind(vocab_size, random);
  const std::vector<float> logits =
      random.Normals(static_cast<int64_t>(requests.size()) * vocab_size, 2.0f);
  SamplingRun first(requests, vocab_size);
  SamplingRun second(requests, vocab_size);
  first.Step(logits, vocab_size);
  second.Step(logits, vocab_size);
  for (int r = 0; r < static_cast<int>(requests.size()); ++r) {
    EXPECT_EQ(first.result(r).token, second.result(r).token) << r;
    EXPECT_EQ(std::memcmp(&first.result(r).log_prob, &second.result(r).log_prob, 4), 0) << r;
  }
}

TEST(SamplingGpuTest, SlotsThatDoNotFitAreNotStaged) {
  TestRequest request;
  std::vector<StagedSlot> staged;
  std::vector<int32_t> words;
  EXPECT_FALSE(StageSlot(request.Setup(), 0, nullptr, 2, kMaxWords, staged, words));
  request.stop_words = {{1, 2, 3}};
  EXPECT_FALSE(StageSlot(request.Setup(), 0, nullptr, kMaxSeqLen, 3, staged, words));
  EXPECT_TRUE(staged.empty());
  EXPECT_TRUE(words.empty());
}

}  // namespace
}  // namespace trireme::cuda

// SPDX-License-Identifier: Apache-2.0
// Every refusal names its field.
#include "executor/validation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

namespace trireme::executor {
namespace {

using ::testing::HasSubstr;

constexpr RequestLimits kLimits = {.vocab_size = 100,
                                   .max_seq_len = 64,
                                   .max_num_tokens = 32,
                                   .chunked_context = true,
                                   .block_size = 8,
                                   .num_blocks = 6};

Request GoodRequest() {
  Request request{.prompt = {1, 2, 3}, .max_tokens = 4};
  request.end_id = 99;
  request.pad_id = 0;
  request.sampling.top_k = 100;
  request.sampling.top_p = 1.0f;
  request.sampling.min_tokens = 4;
  request.stop_words = {{1}, {2, 3}};
  request.bad_words = {{4}};
  request.embedding_bias.assign(100, 0.0f);
  request.embedding_bias[3] = -INFINITY;
  return request;
}

TEST(ValidateRequest, AcceptsWhatLiesInRange) {
  EXPECT_TRUE(ValidateRequest(GoodRequest(), kLimits).ok());
  EXPECT_TRUE(ValidateRequest({.prompt = {1}, .max_tokens = 1}, kLimits).ok());
  // 48 places in the cache hold 48 fed tokens; the 49th is never fed.
  EXPECT_TRUE(ValidateRequest({.prompt = {1}, .max_tokens = 48}, kLimits).ok());
}

TEST(ValidateRequest, RefusesByName) {
  struct Case {
    std::function<void(Request&)> spoil;
    std::vector<std::string> expected;
  };
  const std::vector<Case> cases = {
      {[](Request& r) { r.prompt.clear(); }, {"prompt is empty"}},
      {[](Request& r) { r.prompt[1] = 100; }, {"prompt[1]", "100", "0 to 99"}},
      {[](Request& r) { r.prompt[2] = -1; }, {"prompt[2]", "-1"}},
      {[](Request& r) { r.prompt.assign(64, 1); }, {"64 tokens", "max_seq_len 64", "at most 63"}},
      {[](Request& r) { r.max_tokens = 0; }, {"max_tokens is 0"}},
      {[](Request& r) { r.max_tokens = 62; }, {"max_tokens 62", "is 65", "at most 61"}},
      {[](Request& r) { r.max_tokens = 47; }, {"needs 7 KV blocks of 8 tokens", "has 6"}},
      {[](Request& r) { r.max_tokens = INT32_MAX; }, {"max_seq_len"}},
      {[](Request& r) { r.sampling.beam_width = 4; }, {"beam_width is 4", "beam search"}},
      {[](Request& r) { r.sampling.beam_width = 0; }, {"beam_width"}},
      {[](Request& r) { r.sampling.num_return_sequences = 0; }, {"num_return_sequences"}},
      {[](Request& r) { r.sampling.num_return_sequences = 1000; }, {"num_return_sequences"}},
      {[](Request& r) { r.sampling.temperature = 0; }, {"temperature is 0", "top_k 1"}},
      {[](Request& r) { r.sampling.temperature = NAN; }, {"temperature is nan"}},
      {[](Request& r) { r.sampling.temperature = INFINITY; }, {"temperature is inf"}},
      {[](Request& r) { r.sampling.top_k = -1; }, {"top_k is -1", "[0, 100]"}},
      {[](Request& r) { r.sampling.top_k = 101; }, {"top_k is 101"}},
      {[](Request& r) { r.sampling.top_p = 1.5f; }, {"top_p is 1.5"}},
      {[](Request& r) { r.sampling.top_p = NAN; }, {"top_p is nan"}},
      {[](Request& r) { r.sampling.min_p = -0.5f; }, {"min_p is -0.5"}},
      {[](Request& r) { r.sampling.repetition_penalty = 0; }, {"repetition_penalty"}},
      {[](Request& r) { r.sampling.presence_penalty = NAN; }, {"presence_penalty"}},
      {[](Request& r) { r.sampling.frequency_penalty = INFINITY; }, {"frequency_penalty"}},
      {[](Request& r) { r.sampling.min_tokens = 5; }, {"min_tokens is 5", "[0, 4]"}},
      {[](Request& r) { r.sampling.no_repeat_ngram_size = -2; }, {"no_repeat_ngram_size"}},
      {[](Request& r) { r.sampling.top_p_decay = 0; }, {"top_p_decay"}},
      {[](Request& r) { r.sampling.top_p_decay = 2; }, {"top_p_decay"}},
      {[](Request& r) { r.sampling.top_p_min = 0; }, {"top_p_min"}},
      {[](Request& r) { r.sampling.top_p_reset_id = 100; }, {"top_p_reset_id"}},
      {[](Request& r) { r.end_id = 100; }, {"end_id is token 100"}},
      {[](Request& r) {
         r.extra_end_ids = {5, -3};
       },
       {"extra_end_ids[1]", "-3"}},
      {[](Request& r) { r.pad_id = -1; }, {"pad_id is token -1"}},
      {[](Request& r) {
         r.bad_words = {{1}, {}};
       },
       {"bad_words[1] is empty"}},
      {[](Request& r) {
         r.stop_words = {{1, 200}};
       },
       {"stop_words[1] is token 200"}},
      {[](Request& r) { r.embedding_bias.resize(99); }, {"embedding_bias", "99", "100"}},
      {[](Request& r) { r.embedding_bias[7] = NAN; }, {"embedding_bias[7] is nan"}},
      {[](Request& r) { r.embedding_bias[7] = INFINITY; }, {"embedding_bias[7] is inf"}},
      {[](Request& r) { r.priority = NAN; }, {"priority"}},
      {[](Request& r) { r.timeout_ms = -1; }, {"timeout_ms is -1"}},
  };
  for (const Case& wrong : cases) {
    Request request = GoodRequest();
    wrong.spoil(request);
    const Status status = ValidateRequest(request, kLimits);
    ASSERT_FALSE(status.ok()) << wrong.expected[0];
    for (const std::string& part : wrong.expected) EXPECT_THAT(status.ToString(), HasSubstr(part));
  }
}

TEST(ValidateRequest, LogitsOfARequestAreBounded) {
  const RequestLimits large = {.vocab_size = 200'000,
                               .max_seq_len = 100'000,
                               .max_num_tokens = 8192,
                               .block_size = 64,
                               .num_blocks = 10'000};
  Request request{.prompt = std::vector<TokenId>(6'000, 1), .max_tokens = 6'000};
  EXPECT_TRUE(ValidateRequest(request, large).ok());
  request.output.return_context_logits = true;
  EXPECT_THAT(ValidateRequest(request, large).ToString(), HasSubstr("context_logits"));
  request.output = {.return_generation_logits = true};
  EXPECT_THAT(ValidateRequest(request, large).ToString(), HasSubstr("generation_logits"));
}

TEST(ValidateRequest, WithoutChunkingThePromptMustFitOneStep) {
  RequestLimits limits = kLimits;
  limits.chunked_context = false;
  const Request request{.prompt = std::vector<TokenId>(33, 1), .max_tokens = 1};
  EXPECT_THAT(ValidateRequest(request, limits).ToString(),
              HasSubstr("more than max_num_tokens 32; turn on enable_chunked_context"));
  EXPECT_TRUE(ValidateRequest(request, kLimits).ok());
}

TEST(ValidateConfig, WholeMemoryFractionIsRefusedWithTheReason) {
  ExecutorConfig config;
  EXPECT_TRUE(ValidateConfig(config).ok());
  for (const double fraction : {1.0, 0.0, -0.1, 1.2, std::nan("")}) {
    config.kv_cache.free_memory_fraction = fraction;
    const Status status = ValidateConfig(config);
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(status.ToString(), HasSubstr("kv_cache_free_gpu_mem_fraction"));
    EXPECT_THAT(status.ToString(), HasSubstr("activations, logits and the system need the rest"));
  }
}

TEST(ValidateConfig, NegativeLimitsAreRefusedByName) {
  EXPECT_THAT(ValidateConfig({.max_batch_size = -1}).ToString(), HasSubstr("max_batch_size is -1"));
  EXPECT_THAT(ValidateConfig({.max_queue_size = -1}).ToString(), HasSubstr("max_queue_size"));
  EXPECT_THAT(ValidateConfig({.kv_cache = {.max_tokens = -5}}).ToString(),
              HasSubstr("max_tokens_in_paged_kv_cache is -5"));
}

}  // namespace
}  // namespace trireme::executor

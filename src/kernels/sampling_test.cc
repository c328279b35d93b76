// SPDX-License-Identifier: Apache-2.0
#include "kernels/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cpu_variants.h"
#include "kernels/kernels_testing.h"
#include "kernels/philox.h"

namespace trireme::kernels {
namespace {

using ::testing::ElementsAre;
using ::testing::UnorderedElementsAre;

constexpr float kInf = std::numeric_limits<float>::infinity();

// The first known answers of the Random123 distribution (kat_vectors, philox 4x32 10).
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_THAT(Philox4x32({0, 0, 0, 0}, {0, 0}),
              ElementsAre(0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u));
  const uint32_t ones = 0xffffffffu;
  EXPECT_THAT(Philox4x32({ones, ones, ones, ones}, {ones, ones}),
              ElementsAre(0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu));
  EXPECT_THAT(
      Philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}, {0xa4093822u, 0x299f31d0u}),
      ElementsAre(0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u));
}

TEST(PhiloxTest, UniformsFillTheUnitInterval) {
  double sum = 0.0, low = 1.0, high = 0.0;
  for (uint64_t position = 0; position < 10000; ++position) {
    const double u = PhiloxUniform(7, position);
    sum += u;
    low = std::min(low, u);
    high = std::max(high, u);
  }
  EXPECT_GT(low, 0.0);
  EXPECT_LT(high, 1.0);
  EXPECT_NEAR(sum / 10000, 0.5, 0.02);
  EXPECT_NE(PhiloxUniform(7, 3), PhiloxUniform(8, 3));
  EXPECT_NE(PhiloxUniform(7, 3), PhiloxUniform(uint64_t{7} << 32, 3));
}

// One row through one instruction set, or through the reference.
SampleRow SampleOne(const std::vector<float>& logits, const SamplingState& state,
                    CpuContext* context) {
  SampleRow row{.logits = logits.data(),
                .state = &state,
                .token = -1,
                .log_prob = std::numeric_limits<float>::quiet_NaN()};
  const int64_t vocab_size = static_cast<int64_t>(logits.size());
  GuardedFloats workspace(SampleWorkspaceBytes(vocab_size, 1) / 4);
  SampleParams params{.rows = {&row, 1},
                      .vocab_size = vocab_size,
                      .workspace = reinterpret_cast<std::byte*>(workspace.data())};
  if (context) {
    Sample(params, *context);
  } else {
    SampleReference(params);
  }
  EXPECT_TRUE(workspace.GuardsIntact());
  return row;
}

TokenId Token(const std::vector<float>& logits, const SamplingSetup& setup, Isa isa) {
  SamplingState state;
  state.Reset(setup, static_cast<int>(logits.size()));
  CpuContext context{nullptr, isa};
  return SampleOne(logits, state, &context).token;
}

TEST(SamplingTest, AgreesWithReference) {
  TestRandom random(21);
  const std::vector<TokenId> end_ids = {0, 5};
  for (int vocab_size : {1, 2, 63, 64, 65, 1000, 20011}) {
    std::vector<float> bias = random.Normals(vocab_size);
    for (int round = 0; round < 60; ++round) {
      SamplingSetup setup;
      SamplingParams& p = setup.params;
      // Spread from peaked to nearly flat, so that a nucleus may be one token or most of them.
      const std::vector<float> logits = random.Normals(vocab_size, round % 3 == 0 ? 0.1f : 4.0f);
      p.top_k = std::vector<int>{0, 1, 2, 50, 1024}[static_cast<size_t>(random.Below(5))];
      p.top_p =
          std::vector<float>{0.0f, 0.3f, 0.9f, 0.999f, 1.0f}[static_cast<size_t>(random.Below(5))];
      p.min_p = random.Below(2) ? 0.05f : 0.0f;
      p.temperature = random.Below(2) ? 1.0f : 0.6f;
      p.seed = static_cast<uint64_t>(round);
      p.min_tokens = random.Below(2) ? 100 : 0;
      if (random.Below(2)) p.repetition_penalty = 1.3f;
      if (random.Below(2)) p.presence_penalty = 0.5f;
      if (random.Below(2)) p.frequency_penalty = -0.2f;
      if (random.Below(2)) setup.embedding_bias = bias;
      p.no_repeat_ngram_size = random.Below(3);
      setup.log_probs = random.Below(2);
      if (vocab_size > 5) setup.end_ids = end_ids;
      std::vector<TokenId> prompt(static_cast<size_t>(random.Below(30)));
      for (TokenId& token : prompt) token = random.Below(vocab_size);
      setup.prompt = prompt;
      SamplingState state;
      state.Reset(setup, vocab_size);
      const SampleRow want = SampleOne(logits, state, nullptr);
      for (Isa isa : HostIsas()) {
        CpuContext context{nullptr, isa};
        const SampleRow got = SampleOne(logits, state, &context);
        ASSERT_EQ(got.token, want.token)
            << IsaName(isa) << " vocab " << vocab_size << " k " << p.top_k << " p " << p.top_p
            << " min_p " << p.min_p << " round " << round;
        if (setup.log_probs && got.log_prob != want.log_prob) {  // both may be -inf
          ASSERT_NEAR(got.log_prob, want.log_prob, 2e-5f);
        }
      }
    }
  }
}

TEST(SamplingTest, BatchOfRowsEqualsRowsAlone) {
  ThreadPool pool(3, false);
  TestRandom random(22);
  for (Isa isa : HostIsas()) {
    const int vocab_size = 3000, num_rows = 9;
    std::vector<std::vector<float>> logits;
    std::vector<SamplingState> states(num_rows);
    std::vector<SampleRow> rows;
    for (int r = 0; r < num_rows; ++r) {
      logits.push_back(random.Normals(vocab_size, 3.0f));
      SamplingSetup setup;
      setup.params.top_p = r % 3 ? 0.8f : 0.0f;
      setup.params.seed = static_cast<uint64_t>(r);
      states[static_cast<size_t>(r)].Reset(setup, vocab_size);
    }
    for (size_t r = 0; r < num_rows; ++r) rows.push_back({logits[r].data(), &states[r]});
    CpuContext context{&pool, isa};
    std::vector<float> workspace(static_cast<size_t>(SampleWorkspaceBytes(vocab_size, 3) / 4));
    Sample({.rows = rows,
            .vocab_size = vocab_size,
            .workspace = reinterpret_cast<std::byte*>(workspace.data())},
           context);
    CpuContext serial{nullptr, isa};
    for (size_t r = 0; r < num_rows; ++r) {
      EXPECT_EQ(rows[r].token, SampleOne(logits[r], states[r], &serial).token);
    }
  }
}

TEST(SamplingTest, GreedyTakesTheLowestOfEqualIds) {
  for (Isa isa : HostIsas()) {
    std::vector<float> logits(500, -1.0f);
    logits[70] = logits[71] = logits[400] = 2.0f;
    EXPECT_EQ(Token(logits, {}, isa), 70);
    SamplingSetup top_one;
    top_one.params.top_k = 1;
    top_one.params.top_p = 0.9f;
    EXPECT_EQ(Token(logits, top_one, isa), 70);
    // A tie at the cut of top_k: the lower id is kept.
    SamplingSetup top_two;
    top_two.params.top_k = 2;
    for (uint64_t seed = 0; seed < 50; ++seed) {
      top_two.params.seed = seed;
      EXPECT_LT(Token(logits, top_two, isa), 72);
    }
  }
}

TEST(SamplingTest, SurvivesNaNAndInfinity) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (Isa isa : HostIsas()) {
    for (float top_p : {0.0f, 0.9f}) {
      SamplingSetup setup;
      setup.params.top_p = top_p;
      setup.log_probs = top_p > 0.0f;
      EXPECT_EQ(Token({nan, nan, nan}, setup, isa), 0);
      EXPECT_EQ(Token({-kInf, -kInf, -kInf}, setup, isa), 0);
      EXPECT_EQ(Token({nan, -kInf, 3.0f, nan}, setup, isa), 2);
      EXPECT_EQ(Token({0.0f, kInf, 3.0f}, setup, isa), 1);
    }
  }
}

// Frequencies over many positions against the probabilities the filters leave.
TEST(SamplingTest, MarksRowsWithoutALargestNumber) {
  const float inf = INFINITY;
  const struct {
    std::vector<float> logits;
    bool bad;
  } cases[] = {{{NAN, NAN, NAN}, true},
               {{-inf, NAN, -inf}, true},
               {{1.0f, inf, 2.0f}, true},
               {{NAN, 1.0f, -inf}, false},
               {{-1.0f, -2.0f, -3.0f}, false}};
  const std::vector<float> ban_all(3, -inf);
  for (const auto& [logits, bad] : cases) {
    for (int top_k : {1, 2, 0}) {
      for (bool banned : {false, true}) {
        SamplingSetup setup;
        setup.params.top_k = top_k;
        setup.params.top_p = top_k == 0 ? 0.9f : 0.0f;
        if (banned) setup.embedding_bias = ban_all;
        SamplingState state;
        state.Reset(setup, 3);
        EXPECT_EQ(SampleOne(logits, state, nullptr).bad_logits, bad);
        for (Isa isa : HostIsas()) {
          CpuContext context{nullptr, isa};
          EXPECT_EQ(SampleOne(logits, state, &context).bad_logits, bad) << IsaName(isa);
        }
      }
    }
  }
}

TEST(SamplingTest, DrawsInProportion) {
  const std::vector<float> weights = {1, 2, 3, 4, 10};
  std::vector<float> logits;
  for (float w : weights) logits.push_back(std::log(w));
  struct Filter {
    int top_k;
    float top_p, min_p;
    std::vector<float> kept;
  };
  for (const Filter& f :
       {Filter{0, 1.0f, 0.0f, {1, 2, 3, 4, 10}}, Filter{3, 0.0f, 0.0f, {0, 0, 3, 4, 10}},
        Filter{0, 0.65f, 0.0f, {0, 0, 0, 4, 10}},  // 10/20 is short of 0.65
        Filter{3, 0.80f, 0.0f, {0, 0, 0, 4, 10}},  // 14/17 reaches it
        Filter{0, 1.0f, 0.25f, {0, 0, 3, 4, 10}}}) {
    SamplingSetup setup;
    setup.params.top_k = f.top_k;
    setup.params.top_p = f.top_p;
    setup.params.min_p = f.min_p;
    for (Isa isa : HostIsas()) {
      std::vector<int> counts(5);
      const int draws = 4000;
      for (int i = 0; i < draws; ++i) {
        setup.params.seed = static_cast<uint64_t>(i);
        ++counts[static_cast<size_t>(Token(logits, setup, isa))];
      }
      float total = 0;
      for (float w : f.kept) total += w;
      for (size_t i = 0; i < 5; ++i) {
        const float want = f.kept[i] / total;
        EXPECT_NEAR(counts[i] / static_cast<float>(draws), want, want > 0 ? 0.03f : 0.0f)
            << IsaName(isa) << " token " << i << " k " << f.top_k << " p " << f.top_p;
      }
    }
  }
}

TEST(SamplingTest, PenaltiesInTheirOrder) {
  const std::vector<TokenId> prompt = {0, 1, 1};
  const std::vector<float> bias = {0.0f, 0.0f, 0.0f, 10.0f};
  SamplingSetup setup;
  setup.params.temperature = 2.0f;
  setup.params.repetition_penalty = 4.0f;
  setup.params.presence_penalty = 0.5f;
  setup.params.frequency_penalty = 0.25f;
  setup.prompt = prompt;
  setup.embedding_bias = bias;
  setup.log_probs = true;
  const std::vector<float> logits = {-2.0f, 4.0f, 1.0f, -10.0f};
  // By hand: halved, then penalised.
  const std::vector<double> want = {-1.0 * 4 - 0.5 - 0.25, 2.0 / 4 - 0.5 - 0.5, 0.5, 0.0};
  double sum = 0.0;
  for (double x : want) sum += std::exp(x);
  for (Isa isa : HostIsas()) {
    SamplingState state;
    state.Reset(setup, 4);
    CpuContext context{nullptr, isa};
    const SampleRow row = SampleOne(logits, state, &context);
    EXPECT_EQ(row.token, 2);
    EXPECT_NEAR(row.log_prob, 0.5 - std::log(sum), 1e-5);
  }
}

std::vector<TokenId> Banned(const SamplingState& state) {
  std::vector<TokenId> banned;
  state.CollectBanned(banned);
  return banned;
}

TEST(SamplingStateTest, BansEndIdsUntilMinTokens) {
  const std::vector<TokenId> end_ids = {3, 4};
  SamplingSetup setup;
  setup.params.min_tokens = 2;
  setup.end_ids = end_ids;
  setup.max_tokens = 10;
  SamplingState state;
  state.Reset(setup, 10);
  EXPECT_THAT(Banned(state), UnorderedElementsAre(3, 4));
  state.Append(1, 0.0f);
  EXPECT_TRUE(state.has_bans());
  state.Append(1, 0.0f);
  EXPECT_FALSE(state.has_bans());
  EXPECT_THAT(Banned(state), ElementsAre());
  EXPECT_EQ(Token({0, 0, 0, 9, 8, 1, 0, 0, 0, 0}, setup, BestIsa(HostCpuFeatures())), 5);
}

TEST(SamplingStateTest, BansLastTokensOfBadWords) {
  const std::vector<TokenId> prompt = {7, 1};
  const std::vector<std::vector<TokenId>> bad_words = {{5}, {1, 2}, {1, 2, 3}, {7, 1, 4}, {}, {99}};
  SamplingSetup setup;
  setup.prompt = prompt;
  setup.bad_words = bad_words;
  setup.max_tokens = 10;
  SamplingState state;
  state.Reset(setup, 10);
  EXPECT_THAT(Banned(state), UnorderedElementsAre(5, 2, 4));
  state.Append(2, 0.0f);
  EXPECT_THAT(Banned(state), UnorderedElementsAre(5, 3));
}

TEST(SamplingStateTest, BansRepeatedNgrams) {
  const std::vector<TokenId> prompt = {1, 2, 3, 1, 2, 4, 1, 2};
  SamplingSetup setup;
  setup.prompt = prompt;
  setup.params.no_repeat_ngram_size = 3;
  setup.max_tokens = 10;
  SamplingState state;
  state.Reset(setup, 10);
  EXPECT_THAT(Banned(state), UnorderedElementsAre(3, 4));
  setup.params.no_repeat_ngram_size = 1;
  state.Reset(setup, 10);
  EXPECT_THAT(Banned(state), UnorderedElementsAre(1, 2, 3, 1, 2, 4, 1, 2));
  setup.params.no_repeat_ngram_size = 100;
  state.Reset(setup, 10);
  EXPECT_THAT(Banned(state), ElementsAre());
}

TEST(SamplingStateTest, TopPDecaysAndResets) {
  SamplingSetup setup;
  setup.params.top_p = 0.8f;
  setup.params.top_p_decay = 0.5f;
  setup.params.top_p_min = 0.3f;
  setup.params.top_p_reset_id = 9;
  setup.max_tokens = 10;
  SamplingState state;
  state.Reset(setup, 10);
  EXPECT_FLOAT_EQ(state.top_p(), 0.8f);
  state.Append(1, 0.0f);
  EXPECT_FLOAT_EQ(state.top_p(), 0.4f);
  state.Append(1, 0.0f);
  EXPECT_FLOAT_EQ(state.top_p(), 0.3f);
  state.Append(9, 0.0f);
  EXPECT_FLOAT_EQ(state.top_p(), 0.8f);
  // A resumed request decays over what it had generated.
  const std::vector<TokenId> generated = {1};
  setup.generated = generated;
  state.Reset(setup, 10);
  EXPECT_FLOAT_EQ(state.top_p(), 0.4f);
  EXPECT_EQ(state.position(), 1u);
}

TEST(SamplingStateTest, SaysWhySequencesEnd) {
  const std::vector<TokenId> prompt = {1, 2}, end_ids = {8};
  const std::vector<std::vector<TokenId>> stop_words = {{2, 3}, {4, 5}};
  SamplingSetup setup;
  setup.prompt = prompt;
  setup.end_ids = end_ids;
  setup.stop_words = stop_words;
  setup.max_tokens = 4;
  SamplingState state;
  state.Reset(setup, 10);
  // {2, 3} begins in the prompt: only generated tokens count.
  EXPECT_EQ(state.Append(3, -0.5f), FinishReason::kNotFinished);
  EXPECT_EQ(state.Append(4, -0.25f), FinishReason::kNotFinished);
  EXPECT_FLOAT_EQ(state.cum_log_prob(), -0.75f);
  EXPECT_EQ(state.Append(5, 0.0f), FinishReason::kStopWords);
  EXPECT_EQ(state.Append(1, 0.0f), FinishReason::kLength);
  state.Reset(setup, 10);
  EXPECT_EQ(state.Append(8, 0.0f), FinishReason::kEndId);
  EXPECT_THAT(state.generated(), ElementsAre(8));
}

TEST(SamplingStateTest, CountsSeenTokens) {
  const std::vector<TokenId> prompt = {1, 1, 2}, generated = {2, 7};
  SamplingSetup setup;
  setup.prompt = prompt;
  setup.generated = generated;
  setup.max_tokens = 10;
  SamplingState state;
  state.Reset(setup, 10);
  EXPECT_TRUE(state.seen().empty());  // nothing to penalise
  setup.params.frequency_penalty = 0.1f;
  state.Reset(setup, 10);
  state.Append(1, 0.0f);
  std::vector<std::pair<int, int>> seen;
  for (const SamplingState::SeenToken& token : state.seen()) {
    seen.push_back({token.token, token.count});
  }
  EXPECT_THAT(seen, UnorderedElementsAre(std::pair(1, 3), std::pair(2, 2), std::pair(7, 1)));
}

// exp over its whole range, through blocks with one element that is not -inf.
TEST(VectorMathTest, ExpIsWithinAnUlpOrSo) {
  for (const SamplingKernels* kernels : {&kAvx2SamplingKernels, &kAvx512SamplingKernels}) {
    const Isa isa = kernels == &kAvx2SamplingKernels ? Isa::kAvx2 : Isa::kAvx512;
    if (isa > BestIsa(HostCpuFeatures())) continue;
    const int blocks = 20000;
    std::vector<float> x(static_cast<size_t>(blocks * kSampleBlock), -kInf), sums(blocks);
    const auto argument = [&](int b) -> float& {
      return x[static_cast<size_t>(b * kSampleBlock + b % kSampleBlock)];
    };
    for (int b = 0; b < blocks; ++b) {
      argument(b) = -105.0f + 195.0f * static_cast<float>(b) / static_cast<float>(blocks);
    }
    argument(0) = -kInf;
    argument(1) = 1e30f;
    argument(2) = 0.0f;
    kernels->block_exp_sums(x.data(), static_cast<int64_t>(x.size()), 0.0f, sums.data());
    double worst = 0.0;
    for (int b = 0; b < blocks; ++b) {
      const double want = std::exp(static_cast<double>(argument(b)));
      const float got = sums[static_cast<size_t>(b)];
      if (want > 3.4028235e38) {
        EXPECT_EQ(got, kInf);
        continue;
      }
      const double ulp = std::max(std::abs(want) * 0x1p-23, 0x1p-149);
      worst = std::max(worst, std::abs(got - want) / ulp);
    }
    EXPECT_LT(worst, 1.1) << IsaName(isa);
    EXPECT_EQ(sums[0], 0.0f);
    EXPECT_EQ(sums[2], 1.0f);
  }
}

}  // namespace
}  // namespace trireme::kernels

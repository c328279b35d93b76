// SPDX-License-Identifier: Apache-2.0
// Routing, expert layers and their join against plain loops.
#include "kernels/experts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/aligned_buffer.h"
#include "kernels/kernels_testing.h"

namespace trireme::kernels {
namespace {

using ::testing::ElementsAre;

std::vector<float> Route(const std::vector<float>& logits, int num_experts, int top_k,
                         bool normalize) {
  ThreadPool pool(2, false);
  CpuContext context{&pool, BestIsa(HostCpuFeatures())};
  const int64_t tokens = static_cast<int64_t>(logits.size()) / num_experts;
  GuardedFloats routing(tokens * 2 * top_k);
  RouteExperts({.logits = logits.data(),
                .logits_stride = num_experts,
                .routing = routing.data(),
                .routing_stride = 2 * top_k,
                .num_tokens = tokens,
                .num_experts = num_experts,
                .top_k = top_k,
                .normalize = normalize},
               context);
  EXPECT_TRUE(routing.GuardsIntact());
  return routing.values();
}

TEST(RouteExpertsTest, TakesTheMostLikelyAndTheLowerOfEqualOnes) {
  const float log2 = std::log(2.0f);
  // Probabilities 1/8, 4/8, 2/8, 1/8.
  const std::vector<float> logits = {0.0f, 2 * log2, log2, 0.0f};
  EXPECT_THAT(Route(logits, 4, 3, false), ElementsAre(1, 2, 0, 0.5f, 0.25f, 0.125f));
  const std::vector<float> normed = Route(logits, 4, 2, true);
  EXPECT_THAT(std::vector<float>(normed.begin(), normed.begin() + 2), ElementsAre(1, 2));
  EXPECT_NEAR(normed[2], 2.0f / 3, 1e-6);
  EXPECT_NEAR(normed[3], 1.0f / 3, 1e-6);
}

TEST(RouteExpertsTest, IdsStayInRangeAndDistinctWhateverTheLogits) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  for (const std::vector<float>& logits :
       {std::vector<float>{nan, nan, nan}, {inf, inf, -inf}, {-inf, -inf, -inf}, {nan, 1, inf}}) {
    const std::vector<float> routing = Route(logits, 3, 2, true);
    for (int i = 0; i < 2; ++i) EXPECT_TRUE(routing[i] >= 0 && routing[i] < 3);
    EXPECT_NE(routing[0], routing[1]);
  }
}

struct Experts {
  LinearProblem problem;
  std::vector<std::vector<float>> weights;  // [out, in] of each expert
  std::vector<AlignedBuffer> packed;
  std::vector<const std::byte*> pointers;
  std::vector<std::pair<int64_t, LinearKernel>> kernels;
};

Experts MakeExperts(int count, int64_t out, int64_t in, bool gated, TestRandom& random) {
  Experts e;
  e.problem = {.out_features = out,
               .in_features = in,
               .dtype = DType::kFloat32,
               .gated = gated ? GatedActivation::kSilu : GatedActivation::kNone};
  const LinearTactic tactic = LinearTactics(e.problem, HostCpuFeatures()).front();
  for (int i = 0; i < count; ++i) {
    e.weights.push_back(random.Normals(out * in, 0.2f));
    e.packed.emplace_back(PackedLinearBytes(e.problem, tactic.layout).value());
    const TensorView view{
        DType::kFloat32, {out, in}, reinterpret_cast<const std::byte*>(e.weights.back().data())};
    AlignedBuffer& packed = e.packed.back();
    EXPECT_TRUE(PackLinear(e.problem, tactic.layout, view, nullptr,
                           {packed.data(), static_cast<size_t>(packed.size())})
                    .ok());
  }
  for (const AlignedBuffer& packed : e.packed) e.pointers.push_back(packed.data());
  e.kernels.emplace_back(1, LinearKernel::Create(e.problem, tactic).value());
  return e;
}

// One row through one expert, by the meaning of the linear layer.
std::vector<float> ExpectedRow(const Experts& e, int expert, const float* x) {
  const int64_t out = e.problem.gated == GatedActivation::kNone ? e.problem.out_features
                                                                : e.problem.out_features / 2;
  std::vector<float> y(static_cast<size_t>(out));
  const TensorView view{DType::kFloat32,
                        {e.problem.out_features, e.problem.in_features},
                        reinterpret_cast<const std::byte*>(e.weights[expert].data())};
  LinearReference(
      e.problem, view, nullptr,
      {.x = x, .x_stride = e.problem.in_features, .y = y.data(), .y_stride = out, .num_tokens = 1});
  return y;
}

TEST(ExpertLinearTest, RunsEachRowThroughItsExpert) {
  ThreadPool pool(3, false);
  CpuContext context{&pool, BestIsa(HostCpuFeatures())};
  TestRandom random(4);
  // 700 tokens give the favourite expert more rows than one run takes.
  for (const int64_t tokens : {1, 2, 13, 700}) {
    for (const bool gated : {false, true}) {
      SCOPED_TRACE(std::to_string(tokens) + (gated ? " gated" : ""));
      constexpr int kExperts = 5, kTopK = 2;
      const int64_t in = 48, out = gated ? 32 : 40;
      const int64_t width = gated ? out / 2 : out;
      const Experts experts = MakeExperts(kExperts, out, in, gated, random);
      // A gated layer reads the token's row, the layer behind it a row per choice.
      const int64_t x_rows = gated ? 1 : kTopK;
      const std::vector<float> x = random.Normals(tokens * x_rows * in);
      std::vector<float> routing(static_cast<size_t>(tokens * 2 * kTopK), 0.5f);
      for (int64_t t = 0; t < tokens; ++t) {
        routing[t * 2 * kTopK] = 3;  // expert 4 is never chosen
        routing[t * 2 * kTopK + 1] = static_cast<float>(random.Below(3));
      }
      int64_t linear_bytes = 0;
      for (const LinearTactic& tactic : LinearTactics(experts.problem, HostCpuFeatures())) {
        linear_bytes = std::max(
            linear_bytes,
            LinearWorkspaceBytes(experts.problem, tactic, kExpertRowsPerRun, pool.num_threads()));
      }
      AlignedBuffer workspace(
          ExpertLinearWorkspaceBytes(experts.problem, kExperts, kTopK, tokens, linear_bytes));
      GuardedFloats y(tokens * kTopK * width);
      ExpertLinear({.x = x.data(),
                    .x_stride = x_rows * in,
                    .x_choice_stride = gated ? 0 : in,
                    .routing = routing.data(),
                    .routing_stride = 2 * kTopK,
                    .packed = experts.pointers,
                    .y = y.data(),
                    .y_stride = kTopK * width,
                    .y_choice_stride = width,
                    .num_tokens = tokens,
                    .top_k = kTopK,
                    .workspace = workspace.data()},
                   experts.kernels, context);
      std::vector<float> want;
      for (int64_t t = 0; t < tokens; ++t) {
        for (int i = 0; i < kTopK; ++i) {
          const float* row = x.data() + t * x_rows * in + (gated ? 0 : i * in);
          const std::vector<float> expected =
              ExpectedRow(experts, static_cast<int>(routing[t * 2 * kTopK + i]), row);
          want.insert(want.end(), expected.begin(), expected.end());
        }
      }
      ExpectNear(y.values(), want, 1e-4f, 1e-5f, "y");
      EXPECT_TRUE(y.GuardsIntact());
    }
  }
}

TEST(CombineExpertsTest, AgreesWithReference) {
  ThreadPool pool(3, false);
  TestRandom random(6);
  for (const Isa isa : HostIsas()) {
    CpuContext context{&pool, isa};
    for (const int64_t size : {1, 7, 16, 65, 1000}) {
      for (const int64_t tokens : {1, 3, 40}) {
        for (const int top_k : {1, 2, 8}) {
          SCOPED_TRACE(IsaName(isa) + " size " + std::to_string(size));
          const std::vector<float> x = random.Normals(tokens * top_k * size);
          const std::vector<float> routing = random.Normals(tokens * 2 * top_k);
          GuardedFloats y(tokens * size), want(tokens * size);
          CombineExpertsParams p{.x = x.data(),
                                 .x_stride = top_k * size,
                                 .x_choice_stride = size,
                                 .routing = routing.data(),
                                 .routing_stride = 2 * top_k,
                                 .y = y.data(),
                                 .y_stride = size,
                                 .num_tokens = tokens,
                                 .top_k = top_k,
                                 .size = size};
          CombineExperts(p, context);
          p.y = want.data();
          CombineExpertsReference(p);
          ExpectNear(y.values(), want.values(), 1e-5f, 1e-5f, "y");
          EXPECT_TRUE(y.GuardsIntact());
        }
      }
    }
  }
}

}  // namespace
}  // namespace trireme::kernels

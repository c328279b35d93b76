// SPDX-License-Identifier: Apache-2.0
// Every pass keeps the meaning: random networks before and after it, and after all of them, on the
// reference kernels.
#include "graph/passes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "network_reference.h"

namespace trireme::graph {
namespace {

constexpr int kVocab = 23;
constexpr int kWidths[] = {16, 32};

// Layers that families really chain, and others, over values taken at random: some are read twice,
// some by nobody, some straight by the logits.
class RandomNetwork {
 public:
  explicit RandomNetwork(uint64_t seed) : rng_(seed) {
    head_dim_ = Chance(2) ? 8 : 16;
    num_kv_heads_ = 1 + Below(2);
    num_heads_ = num_kv_heads_ * (1 + Below(3));
    Keep(net_.Embedding({.name = "embed", .vocab_size = kVocab, .width = 16, .scale = 2.0}));
    Keep(net_.PositionEmbedding(values_[0], "positions", 64));
    for (int n = 4 + Below(14); n > 0; --n) AddLayer();
    Value x = net_.SelectLogitRows(Pick());
    if (Chance(2)) x = net_.Add(x, Linear(x, Width(x)));
    if (Chance(3)) x = net_.GatedActivation(Linear(x, 16), Linear(x, 16), Kind());
    x = Linear(x, kVocab);
    net_.SetLogits(Chance(3) ? net_.SoftCap(x, 5.0) : x);
  }

  Network& network() { return net_; }

 private:
  int Below(int n) { return static_cast<int>(rng_() % static_cast<uint64_t>(n)); }
  bool Chance(int one_in) { return Below(one_in) == 0; }
  int64_t Width(Value x) const { return net_.values()[x.id].width; }
  ActivationKind Kind() { return static_cast<ActivationKind>(Below(4)); }
  std::string Name(const char* kind) { return kind + std::to_string(++num_names_); }
  void Keep(Value x) { values_.push_back(x); }
  // The latest value more often than not, as in a real model.
  Value Pick() {
    return Chance(3) ? values_[Below(static_cast<int>(values_.size()))] : values_.back();
  }
  Value PickOfWidth(int64_t width) {
    std::vector<Value> fitting;
    for (Value x : values_) {
      if (Width(x) == width) fitting.push_back(x);
    }
    return fitting[Below(static_cast<int>(fitting.size()))];
  }

  Value Linear(Value x, int64_t width) {
    // Now and then two layers share one weight.
    const std::string name = Chance(8)
                                 ? "shared" + std::to_string(Width(x)) + "x" + std::to_string(width)
                                 : Name("linear");
    const bool bias = name.starts_with("linear") && Chance(2);
    return net_.Linear(x, {.name = name, .out_features = width, .bias = bias});
  }

  void AddLayer() {
    const Value x = Pick();
    const int64_t width = Width(x);
    switch (Below(9)) {
      case 0: return Keep(Linear(x, kWidths[Below(2)]));
      case 1: return Keep(Residual(x, Linear(x, width)));
      case 2: return Keep(Gated(x));
      case 3: return Keep(Attention(x));
      case 4: return Keep(net_.RmsNorm(x, {.name = Name("rms"), .gamma_offset = Chance(2)}));
      case 5: return Keep(net_.LayerNorm(x, {.name = Name("norm")}));
      case 6: return Keep(net_.Activation(x, Kind()));
      case 7: return Keep(net_.Scale(net_.Mul(x, PickOfWidth(width)), 0.5));
      default: return Keep(net_.Add(x, PickOfWidth(width)));
    }
  }

  // The sum on either side; the branch is sometimes read again.
  Value Residual(Value x, Value branch) {
    if (Chance(4)) Keep(branch);
    return Chance(2) ? net_.Add(x, branch) : net_.Add(branch, x);
  }

  Value Gated(Value x) {
    const Value normed = Chance(2) ? net_.RmsNorm(x, {.name = Name("rms")}) : x;
    const int64_t width = kWidths[Below(2)];
    const Value first = Linear(normed, width);
    if (Chance(6)) return net_.GatedActivation(first, first, Kind());
    const Value second = Linear(Chance(6) ? x : normed, width);
    if (Chance(5)) Keep(Chance(2) ? first : second);
    const Value gated = net_.GatedActivation(first, second, Kind());
    return Chance(2) ? Residual(x, Linear(gated, Width(x))) : gated;
  }

  Value Attention(Value x) {
    Value qkv = Linear(x, int64_t{num_heads_ + 2 * num_kv_heads_} * head_dim_);
    if (Chance(3)) {
      qkv = net_.HeadRmsNorm(qkv, {.name = Name("head_norm"),
                                   .first_head = Chance(2) ? num_heads_ : 0,
                                   .num_heads = num_kv_heads_,
                                   .head_dim = head_dim_});
    }
    AttentionSpec spec{.name = Name("attention"),
                       .layer = net_.num_layers(),
                       .num_heads = num_heads_,
                       .num_kv_heads = num_kv_heads_,
                       .head_dim = head_dim_};
    spec.scale = Chance(2) ? 0.0 : 0.4;
    spec.window = Chance(3) ? 1 + Below(20) : 0;
    spec.soft_cap = Chance(3) ? 2.0 : 0.0;
    spec.rotary.kind = static_cast<RotaryKind>(Below(3));
    spec.rotary.dim = spec.rotary.kind == RotaryKind::kNone ? 0 : head_dim_ / (1 + Below(2));
    const Value context = net_.Attention(qkv, spec);
    return Residual(x, Linear(context, Width(x)));
  }

  std::mt19937_64 rng_;
  Network net_;
  std::vector<Value> values_;
  int head_dim_ = 0, num_heads_ = 0, num_kv_heads_ = 0;
  int num_names_ = 0;
};

// float32 sums in another order, and the two places that spell out an activation, differ by a few
// units in the last place; layers after them pass that on.
void ExpectSameMeaning(const std::vector<float>& before, const std::vector<float>& after) {
  ASSERT_EQ(before.size(), after.size());
  float largest = 0;
  for (float x : before) {
    ASSERT_TRUE(std::isfinite(x));
    largest = std::max(largest, std::abs(x));
  }
  for (size_t i = 0; i < before.size(); ++i) {
    ASSERT_NEAR(before[i], after[i], 1e-4f * largest) << "logit " << i;
  }
}

int Rewritten(const Network& before, const Network& after) {
  const auto gated = [](const Network& network) {
    return std::count_if(network.ops().begin(), network.ops().end(), [](const NetworkOp& op) {
      if (op.kind != OpKind::kLinear) return op.kind == OpKind::kPagedAttention;
      const LinearAttrs& attrs = std::get<LinearAttrs>(op.attrs);
      return attrs.gated || attrs.has_residual || attrs.has_norm;
    });
  };
  return static_cast<int>(gated(after) - gated(before)) +
         static_cast<int>(after.ops().size() < before.ops().size());
}

class RandomNetworkTest : public testing::TestWithParam<Pass> {};

TEST_P(RandomNetworkTest, PassKeepsTheMeaning) {
  int rewritten = 0;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(seed);
    RandomNetwork random(seed);
    const Network before = random.network();
    ASSERT_TRUE(before.Validate().ok()) << before.Validate().ToString();
    Network after = before;
    GetParam().run(after);
    ASSERT_TRUE(after.Validate().ok()) << after.Validate().ToString();
    rewritten += Rewritten(before, after) > 0;
    std::vector<int32_t> tokens(1 + seed % 37);
    for (size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<int32_t>((7 * i + seed) % kVocab);
    const auto last = static_cast<int32_t>(tokens.size()) - 1;
    NetworkReference reference(tokens, {last / 2, last});
    ExpectSameMeaning(reference.Run(before), reference.Run(after));
    if (HasFatalFailure()) return;
  }
  EXPECT_GE(rewritten, 100) << "too few networks had something to rewrite";
}

void RunAllPasses(Network& network) {
  for (const Pass& pass : AllPasses()) pass.run(network);
}

void RunCudaPasses(Network& network) {
  for (const Pass& pass : CudaPasses()) pass.run(network);
}

std::vector<Pass> EachPassAndAll() {
  std::vector<Pass> passes(CudaPasses().begin(), CudaPasses().end());
  for (const Pass& pass : AllPasses()) {
    const bool known = std::any_of(passes.begin(), passes.end(),
                                   [&](const Pass& other) { return other.name == pass.name; });
    if (!known) passes.push_back(pass);
  }
  passes.push_back({"all_in_order", RunAllPasses});
  passes.push_back({"all_for_cuda", RunCudaPasses});
  return passes;
}

INSTANTIATE_TEST_SUITE_P(All, RandomNetworkTest, testing::ValuesIn(EachPassAndAll()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace trireme::graph

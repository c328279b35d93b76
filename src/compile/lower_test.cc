// SPDX-License-Identifier: Apache-2.0
#include "compile/lower.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "graph/passes.h"

namespace trireme::compile {
namespace {

constexpr int kWidth = 16;

Network OneLayer() {
  Network net;
  const Value x = net.Embedding({.name = "embed", .vocab_size = 40, .width = kWidth});
  const Value qkv = net.Linear(net.RmsNorm(x, {.name = "norm", .gamma_offset = true}),
                               {.name = "qkv", .out_features = 32, .bias = true});
  const Value context = net.Attention(
      qkv, {.name = "attention", .layer = 0, .num_heads = 2, .num_kv_heads = 1, .head_dim = 8});
  const Value sum = net.Add(x, net.Linear(context, {.name = "out", .out_features = kWidth}));
  const Value logits = net.Linear(net.SelectLogitRows(sum), {.name = "head", .out_features = 40});
  net.SetLogits(net.SoftCap(logits, 30.0));
  return net;
}

plan::Plan LoweredFor(const std::string& device) {
  Network net = OneLayer();
  for (const graph::Pass& pass : device == "cuda" ? graph::CudaPasses() : graph::AllPasses()) {
    pass.run(net);
  }
  auto lowered = LowerNetwork(
      net, {}, {.device = device, .dtype = DType::kBFloat16, .kv_dtype = DType::kBFloat16});
  EXPECT_TRUE(lowered.ok()) << lowered.status().ToString();
  return lowered->plan;
}

const plan::Launch& Find(const plan::Plan& plan, OpKind kind) {
  return *std::find_if(plan.launches.begin(), plan.launches.end(),
                       [&](const plan::Launch& launch) { return launch.kind == kind; });
}

TEST(LowerTest, ActivationsOnTheCpuAreFloat32) {
  for (const plan::Buffer& buffer : LoweredFor("cpu").buffers) {
    EXPECT_EQ(buffer.dtype, DType::kFloat32);
  }
}

TEST(LowerTest, ActivationsOnTheGpuHaveTheEnginesDTypeAndLogitsAreFloat32) {
  const plan::Plan plan = LoweredFor("cuda");
  const int logits = plan.logits_buffer;
  const int before_cap = Find(plan, OpKind::kSoftCap).inputs[0];
  for (int i = 0; i < static_cast<int>(plan.buffers.size()); ++i) {
    EXPECT_EQ(plan.buffers[i].dtype,
              i == logits || i == before_cap ? DType::kFloat32 : DType::kBFloat16);
  }
}

// q is rotated in place, so the packed projections must live until the attention has read them.
TEST(LowerTest, TheGpuAttentionReadsThePackedProjections) {
  const plan::Plan plan = LoweredFor("cuda");
  const plan::Launch& rope = Find(plan, OpKind::kRopeKvWrite);
  const plan::Launch& attention = Find(plan, OpKind::kPagedAttention);
  EXPECT_EQ(rope.inputs, rope.outputs);
  EXPECT_EQ(attention.inputs[0], rope.inputs[0]);
  const auto index = static_cast<int>(&attention - plan.launches.data());
  EXPECT_GE(plan.buffers[attention.inputs[0]].last, index);
}

TEST(LowerTest, TheGpuLinearLayerHoldsItsNorm) {
  plan::Plan plan = LoweredFor("cuda");
  const plan::Launch& qkv = Find(plan, OpKind::kLinear);
  const LinearAttrs& attrs = std::get<LinearAttrs>(qkv.attrs);
  EXPECT_TRUE(attrs.has_norm);
  EXPECT_TRUE(attrs.norm.gamma_offset);
  ASSERT_EQ(qkv.weights.size(), 3u);  // weight, bias, gamma
  EXPECT_EQ(plan.weights[qkv.weights[0]].layout, "row_major");
  EXPECT_EQ(plan.weights[qkv.weights[0]].num_bytes, 32 * kWidth * 2);
  EXPECT_EQ(plan.weights[qkv.weights[1]].name, "qkv.bias");
  EXPECT_EQ(plan.weights[qkv.weights[2]].name, "norm.weight");
  EXPECT_EQ(plan.weights[qkv.weights[2]].dtype, DType::kBFloat16);
  // And the JSON of a plan keeps it.
  for (plan::Launch& launch : plan.launches) launch.tactics.push_back({.max_rows = 1});
  const auto read = plan::PlanFromJson(plan::PlanToJson(plan));
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_TRUE(std::get<LinearAttrs>(Find(*read, OpKind::kLinear).attrs).norm.gamma_offset);
  EXPECT_EQ(read->buffers[0].dtype, DType::kBFloat16);
}

// What lies between a gated layer and an FP8 layer that alone reads it is e4m3, and nothing else.
TEST(LowerTest, TheGpuWritesWhatAnFp8LayerReads) {
  const auto activations = [](bool fp8, bool second_reader) {
    Network net;
    const Value x = net.Embedding({.name = "embed", .vocab_size = 40, .width = kWidth});
    const Value up = net.Linear(x, {.name = "up", .out_features = 32});
    const Value gate = net.Linear(x, {.name = "gate", .out_features = 32});
    const Value both = net.GatedActivation(gate, up, ActivationKind::kSilu);
    Value y = net.Linear(both, {.name = "down", .out_features = kWidth});
    if (second_reader) {
      y = net.Add(y, net.Linear(both, {.name = "other", .out_features = kWidth}));
    }
    net.SetLogits(net.Linear(net.SelectLogitRows(y), {.name = "head", .out_features = 40}));
    for (const graph::Pass& pass : graph::CudaPasses()) pass.run(net);
    ModelConfig config;
    if (fp8) config.quantization.quant_algo = "FP8";
    config.quantization.exclude_modules = {"head"};
    const auto lowered = LowerNetwork(
        net, config, {.device = "cuda", .dtype = DType::kBFloat16, .kv_dtype = DType::kBFloat16});
    EXPECT_TRUE(lowered.ok()) << lowered.status().ToString();
    std::vector<DType> dtypes;
    for (const plan::Launch& launch : lowered->plan.launches) {
      dtypes.push_back(lowered->plan.buffers[launch.outputs[0]].dtype);
    }
    return dtypes;
  };
  const auto count = [](const std::vector<DType>& dtypes) {
    return std::count(dtypes.begin(), dtypes.end(), DType::kFloat8E4M3);
  };
  const std::vector<DType> quantized = activations(true, false);
  EXPECT_EQ(quantized[1], DType::kFloat8E4M3);  // behind the embedding: the gated layer
  EXPECT_EQ(count(quantized), 1);
  EXPECT_EQ(count(activations(false, false)), 0);
  EXPECT_EQ(count(activations(true, true)), 0);
}

// After weight, bias and norm: the scales of the weight, then of the input; of the cache's writer one.
TEST(LowerTest, TheGpuKeepsTheScalesOfFp8) {
  Network net = OneLayer();
  for (const graph::Pass& pass : graph::CudaPasses()) pass.run(net);
  ModelConfig config;
  config.quantization.quant_algo = "FP8";
  config.quantization.kv_cache_quant_algo = "FP8";
  config.quantization.exclude_modules = {"head"};
  const LowerOptions options{
      .device = "cuda", .dtype = DType::kFloat16, .kv_dtype = DType::kFloat8E4M3};
  const auto lowered = LowerNetwork(net, config, options);
  ASSERT_TRUE(lowered.ok()) << lowered.status().ToString();
  const plan::Plan& plan = lowered->plan;
  std::vector<std::string> names;
  for (int weight : Find(plan, OpKind::kLinear).weights) {
    names.push_back(plan.weights[weight].name);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"qkv.packed", "qkv.bias", "norm.weight",
                                             "qkv.weights_scaling_factor",
                                             "qkv.activation_scaling_factor"}));
  const plan::Weight& qkv = plan.weights[Find(plan, OpKind::kLinear).weights[0]];
  EXPECT_EQ(qkv.dtype, DType::kFloat8E4M3);
  EXPECT_EQ(qkv.num_bytes, 32 * kWidth);
  const plan::Launch& write = Find(plan, OpKind::kRopeKvWrite);
  ASSERT_EQ(write.weights.size(), 1u);
  EXPECT_EQ(plan.weights[write.weights[0]].name, "attention.kv_cache_scaling_factor");
  EXPECT_EQ(plan.weights[plan.launches[plan.launches.size() - 2].weights[0]].dtype,
            DType::kFloat16);
}

}  // namespace
}  // namespace trireme::compile

// SPDX-License-Identifier: Apache-2.0
#include "trireme/network.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "graph/passes.h"

namespace trireme {
namespace {

constexpr int kWidth = 16;

// One pre-norm layer with a gated MLP, as most families have it.
Network OneLayer() {
  Network net;
  const Value x = net.Embedding({.name = "embed", .vocab_size = 50, .width = kWidth});
  const Value qkv =
      net.Linear(net.RmsNorm(x, {.name = "norm1"}), {.name = "qkv", .out_features = 32});
  const Value context = net.Attention(
      qkv, {.name = "attention", .layer = 0, .num_heads = 2, .num_kv_heads = 1, .head_dim = 8});
  const Value attended =
      net.Add(x, net.Linear(context, {.name = "out", .out_features = kWidth, .bias = true}));
  const Value y = net.RmsNorm(attended, {.name = "norm2"});
  const Value mlp = net.GatedActivation(net.Linear(y, {.name = "fc", .out_features = 24}),
                                        net.Linear(y, {.name = "gate", .out_features = 24}),
                                        ActivationKind::kSilu);
  const Value sum = net.Add(attended, net.Linear(mlp, {.name = "proj", .out_features = kWidth}));
  net.SetLogits(net.Linear(net.SelectLogitRows(sum), {.name = "head", .out_features = 50}));
  return net;
}

int Count(const Network& net, OpKind kind) {
  return static_cast<int>(std::count_if(net.ops().begin(), net.ops().end(),
                                        [&](const NetworkOp& op) { return op.kind == kind; }));
}

TEST(NetworkTest, BuildsWithShapes) {
  const Network net = OneLayer();
  ASSERT_TRUE(net.Validate().ok()) << net.Validate().ToString();
  EXPECT_EQ(net.num_layers(), 1);
  EXPECT_EQ(net.values()[net.logits()].width, 50);
  EXPECT_TRUE(net.values()[net.logits()].logit_rows);
  EXPECT_EQ(net.weights().size(), 10u);
}

TEST(NetworkTest, MistakesAreNamedAndTheFirstOneStays) {
  {
    Network net;
    const Value x = net.Embedding({.name = "embed", .vocab_size = 50, .width = kWidth});
    net.Attention(x, {.name = "a", .num_heads = 2, .num_kv_heads = 1, .head_dim = 8});
    EXPECT_NE(net.status().message().find("the input has width 16"), std::string_view::npos);
    net.Add(x, Value{99});
    EXPECT_NE(net.Validate().message().find("width 16"), std::string_view::npos);
  }
  {
    Network net;
    const Value x = net.Embedding({.name = "embed", .vocab_size = 50, .width = kWidth});
    net.SetLogits(x);
    EXPECT_NE(net.Validate().message().find("SelectLogitRows"), std::string_view::npos);
  }
  EXPECT_FALSE(Network().Validate().ok());
}

TEST(PassesTest, EachDoesItsRewriteAndKeepsAValidNetwork) {
  Network net = OneLayer();
  graph::MergeGateUp(net);
  graph::RemoveDeadOps(net);
  ASSERT_TRUE(net.Validate().ok());
  EXPECT_EQ(Count(net, OpKind::kGatedActivation), 0);
  EXPECT_EQ(Count(net, OpKind::kLinear), 5);

  graph::FuseResidual(net);
  graph::RemoveDeadOps(net);
  ASSERT_TRUE(net.Validate().ok());
  EXPECT_EQ(Count(net, OpKind::kAdd), 0);
  int residuals = 0;
  for (const NetworkOp& op : net.ops()) {
    if (op.kind == OpKind::kLinear) residuals += std::get<LinearAttrs>(op.attrs).has_residual;
  }
  EXPECT_EQ(residuals, 2);

  graph::SplitAttention(net);
  ASSERT_TRUE(net.Validate().ok());
  EXPECT_EQ(Count(net, OpKind::kAttention), 0);
  EXPECT_EQ(Count(net, OpKind::kRopeKvWrite), 1);
  EXPECT_EQ(Count(net, OpKind::kPagedAttention), 1);
}

TEST(PassesTest, NormsGoIntoTheLayerThatReadsThem) {
  Network net = OneLayer();
  for (const graph::Pass& pass : graph::CudaPasses()) {
    pass.run(net);
    ASSERT_TRUE(net.Validate().ok()) << pass.name;
  }
  EXPECT_EQ(Count(net, OpKind::kRmsNorm), 0);
  std::vector<std::string> scales;
  for (const NetworkOp& op : net.ops()) {
    if (op.kind != OpKind::kLinear || !std::get<LinearAttrs>(op.attrs).has_norm) continue;
    scales.push_back(net.weights()[op.weights.back()].name);
  }
  EXPECT_EQ(scales, (std::vector<std::string>{"norm1.weight", "norm2.weight"}));
}

// A value with a second reader must not disappear into a fused op.
TEST(PassesTest, ValuesReadTwiceStay) {
  Network net;
  const Value x = net.Embedding({.name = "embed", .vocab_size = 50, .width = kWidth});
  const Value a = net.Linear(x, {.name = "a", .out_features = kWidth});
  const Value b = net.Linear(x, {.name = "b", .out_features = kWidth});
  const Value gated = net.GatedActivation(a, b, ActivationKind::kSilu);
  const Value sum = net.Add(net.Add(gated, a), b);
  net.SetLogits(net.Linear(net.SelectLogitRows(sum), {.name = "head", .out_features = 50}));
  for (const graph::Pass& pass : graph::AllPasses()) {
    pass.run(net);
    ASSERT_TRUE(net.Validate().ok()) << pass.name;
  }
  EXPECT_EQ(Count(net, OpKind::kGatedActivation), 1);
  EXPECT_EQ(Count(net, OpKind::kAdd), 2);
}

TEST(PassesTest, GatesWithABiasStayApartWhereTheyMust) {
  Network net;
  const Value x = net.Embedding({.name = "embed", .vocab_size = 50, .width = kWidth});
  const Value a = net.Linear(x, {.name = "a", .out_features = kWidth, .bias = true});
  const Value b = net.Linear(x, {.name = "b", .out_features = kWidth, .bias = true});
  const Value gated = net.GatedActivation(a, b, ActivationKind::kSilu);
  net.SetLogits(net.Linear(net.SelectLogitRows(gated), {.name = "head", .out_features = 50}));
  graph::MergeUnbiasedGateUp(net);
  EXPECT_EQ(Count(net, OpKind::kGatedActivation), 1);
  graph::MergeGateUp(net);
  EXPECT_EQ(Count(net, OpKind::kGatedActivation), 0);
}

TEST(PassesTest, AResidualStaysBesideABiasWhereItMust) {
  Network net = OneLayer();  // "out" has a bias, "proj" none
  graph::FuseUnbiasedResidual(net);
  graph::RemoveDeadOps(net);
  ASSERT_TRUE(net.Validate().ok());
  EXPECT_EQ(Count(net, OpKind::kAdd), 1);
}

TEST(PassesTest, ANormReadTwiceStays) {
  Network net;
  const Value x = net.Embedding({.name = "embed", .vocab_size = 50, .width = kWidth});
  const Value y = net.RmsNorm(x, {.name = "norm"});
  const Value sum = net.Add(y, net.Linear(y, {.name = "a", .out_features = kWidth}));
  net.SetLogits(net.Linear(net.SelectLogitRows(sum), {.name = "head", .out_features = 50}));
  graph::FuseNorm(net);
  ASSERT_TRUE(net.Validate().ok());
  EXPECT_EQ(Count(net, OpKind::kRmsNorm), 1);
}

TEST(NetworkTest, DotNamesOpsAndWeights) {
  const std::string dot = OneLayer().ToDot("one layer");
  EXPECT_NE(dot.find("digraph \"one layer\""), std::string::npos);
  EXPECT_NE(dot.find("qkv.weight"), std::string::npos);
  EXPECT_NE(dot.find("->"), std::string::npos);
}

}  // namespace
}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

namespace trireme::plan {
namespace {

Plan SmallPlan() {
  Plan plan;
  plan.device = "cpu";
  plan.dtype = DType::kBFloat16;
  plan.num_layers = 1;
  plan.num_kv_heads = 2;
  plan.head_dim = 8;
  plan.vocab_size = 40;
  plan.buffers = {{Rows::kTokens, 32, 0, 1}, {Rows::kLogitRows, 40, 1, 1}};
  Weight table;
  table.name = "table";
  table.layout = "row_major";
  table.dtype = DType::kBFloat16;
  table.shape = {40, 32};
  table.num_bytes = 40 * 32 * 2;
  Weight head = table;
  head.name = "head";
  head.quant = {WeightQuant::Kind::kInt4, 128};
  head.shape = {80, 32};
  plan.weights = {table, head};
  Launch embed;
  embed.kind = OpKind::kEmbedding;
  embed.name = "embed";
  embed.attrs = EmbeddingAttrs{40, 1.5};
  embed.outputs = {0};
  embed.weights = {0};
  Launch linear;
  linear.kind = OpKind::kLinear;
  linear.name = "head";
  linear.attrs = LinearAttrs{.in_features = 32,
                             .out_features = 80,
                             .gated = true,
                             .gate_activation = ActivationKind::kGeluTanh};
  linear.inputs = {0};
  linear.outputs = {1};
  linear.weights = {1};
  linear.tactics = {{1, "layout", "kernel a", "numerics", 3.5},
                    {8, "layout", "kernel b", "numerics"}};
  plan.launches = {embed, linear};
  plan.logits_buffer = 1;
  return plan;
}

TEST(PlanJsonTest, RoundTripsEveryField) {
  const Plan plan = SmallPlan();
  const std::string json = PlanToJson(plan);
  const StatusOr<Plan> read = PlanFromJson(json);
  ASSERT_TRUE(read.ok()) << read.status().ToString();
  EXPECT_EQ(PlanToJson(*read), json);
  EXPECT_EQ(read->launches[1].tactics[0].time_us, 3.5);
  EXPECT_EQ(read->weights[1].quant.group_size, 128);
}

// Every member of every object, taken away or given a wrong type, is an error and no crash.
TEST(PlanJsonTest, DamagedMembersAreErrors) {
  const nlohmann::json good = nlohmann::json::parse(PlanToJson(SmallPlan()));
  int damaged = 0;
  std::vector<nlohmann::json::json_pointer> pointers;
  const nlohmann::json flat = good.flatten();
  for (const auto& [pointer, value] : flat.items()) pointers.emplace_back(pointer);
  for (const auto& pointer : pointers) {
    // A name is free text; nothing else is.
    if (pointer.back() == "name" || pointer.back() == "device" || pointer.back() == "layout" ||
        pointer.back() == "kernel" || pointer.back() == "numerics") {
      continue;
    }
    nlohmann::json bad = good;
    bad[pointer] = nlohmann::json::object({{"x", 1}});
    EXPECT_FALSE(PlanFromJson(bad.dump()).ok()) << pointer.to_string();
    ++damaged;
  }
  EXPECT_GT(damaged, 40);
  EXPECT_FALSE(PlanFromJson("[]").ok());
  EXPECT_FALSE(PlanFromJson("{").ok());
}

TEST(ValidatePlanTest, NamesWhatIsWrong) {
  Plan plan = SmallPlan();
  plan.launches[1].inputs = {7};
  EXPECT_EQ(ValidatePlan(plan).message(), "plan: launch 'head' names buffer 7, there are 2");
  plan = SmallPlan();
  plan.launches[1].weights = {-1};
  EXPECT_FALSE(ValidatePlan(plan).ok());
  plan = SmallPlan();
  std::swap(plan.launches[0], plan.launches[1]);
  EXPECT_FALSE(ValidatePlan(plan).ok());
  plan = SmallPlan();
  plan.buffers[0].last = 0;
  EXPECT_FALSE(ValidatePlan(plan).ok());
  plan = SmallPlan();
  plan.vocab_size = 41;
  EXPECT_FALSE(ValidatePlan(plan).ok());
  plan = SmallPlan();
  plan.logits_buffer = -1;
  EXPECT_FALSE(ValidatePlan(plan).ok());
}

// What would make a kernel read or write outside its operands.
TEST(ValidatePlanTest, RefusesLaunchesThatDoNotFitTheirOperands) {
  const auto refuses = [](auto damage) {
    Plan plan = SmallPlan();
    damage(plan);
    return !ValidatePlan(plan).ok();
  };
  EXPECT_FALSE(refuses([](Plan&) {}));
  EXPECT_TRUE(refuses([](Plan& p) { p.launches[0].weights.clear(); }));
  EXPECT_TRUE(refuses([](Plan& p) { p.launches[0].outputs.clear(); }));
  EXPECT_TRUE(refuses([](Plan& p) { p.launches[1].inputs.clear(); }));
  EXPECT_TRUE(refuses([](Plan& p) { p.launches[1].inputs = {0, 0}; }));
  EXPECT_TRUE(refuses([](Plan& p) { p.weights[0].shape = {40, 16}; }));
  EXPECT_TRUE(refuses([](Plan& p) { p.weights[0].num_bytes = 64; }));
  EXPECT_TRUE(refuses([](Plan& p) { p.weights[1].shape = {80, 64}; }));
  EXPECT_TRUE(refuses([](Plan& p) { p.buffers[0].width = 16; }));
  EXPECT_TRUE(refuses([](Plan& p) { std::get<LinearAttrs>(p.launches[1].attrs).has_bias = true; }));
  EXPECT_TRUE(refuses([](Plan& p) { std::get<LinearAttrs>(p.launches[1].attrs).gated = false; }));
  EXPECT_TRUE(refuses([](Plan& p) { p.head_dim = 512; }));
  EXPECT_TRUE(refuses([](Plan& p) { p.num_layers = 0; }));
}

TEST(PlanMemoryTest, LivingBuffersNeverOverlap) {
  std::mt19937 random(3);
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int round = 0; round < 200; ++round) {
    std::vector<Buffer> buffers;
    int64_t sum = 0;
    for (int i = draw(1, 40); i > 0; --i) {
      const int first = draw(0, 30);
      buffers.push_back({draw(0, 1) == 0 ? Rows::kTokens : Rows::kLogitRows, draw(1, 500), first,
                         first + draw(0, 10)});
    }
    const int64_t tokens = draw(1, 50), logit_rows = draw(1, 50);
    const MemoryPlan memory = PlanMemory(buffers, tokens, logit_rows);
    const auto bytes = [&](const Buffer& b) {
      return (b.rows == Rows::kTokens ? tokens : logit_rows) * b.width * 4;
    };
    for (size_t i = 0; i < buffers.size(); ++i) {
      sum += (bytes(buffers[i]) + 255) / 256 * 256;
      EXPECT_EQ(memory.offsets[i] % 256, 0);
      EXPECT_LE(memory.offsets[i] + bytes(buffers[i]), memory.total_bytes);
      for (size_t j = 0; j < i; ++j) {
        const bool together =
            buffers[i].first <= buffers[j].last && buffers[j].first <= buffers[i].last;
        const bool apart = memory.offsets[i] + bytes(buffers[i]) <= memory.offsets[j] ||
                           memory.offsets[j] + bytes(buffers[j]) <= memory.offsets[i];
        EXPECT_TRUE(!together || apart) << i << " and " << j;
      }
    }
    EXPECT_LE(memory.total_bytes, sum);
  }
}

}  // namespace
}  // namespace trireme::plan

// SPDX-License-Identifier: Apache-2.0
#include "server/repository/model_config.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "server/repository/placeholders.h"

namespace trireme::server {
namespace {

using nlohmann::json;

ModelConfig Parse(const std::string& text) {
  std::vector<std::string> warnings;
  StatusOr<ModelConfig> config = ParseModelConfig(text, "config.pbtxt", warnings);
  EXPECT_TRUE(config.ok()) << config.status().ToString();
  return config.ok() ? *config : ModelConfig();
}

TEST(ModelConfigTest, ReadsEveryFormOfProtobufText) {
  const ModelConfig config = Parse(R"(
    name: "a" 'b'  # strings are joined
    backend: "identity"; max_batch_size: 4,
    input: { name: "x" data_type: TYPE_FP32 dims: [ -1, 3 ] reshape { shape: [ 3, -1 ] } }
    input [ { name: "y", data_type: TYPE_STRING, dims: 1, optional: true } ]
    output { name: "z" data_type: TYPE_BF16 dims: 2 dims: 5 }
    parameters { key: "k" value: { string_value: "v" } }
    parameters: { key: "unset", value: { string_value: "${unset}" } }
    instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_GPU gpus: [ 0, 1 ] } ]
    version_policy { specific { versions: [ 3, 1 ] } }
    dynamic_batching { preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 100
      default_queue_policy { timeout_action: DELAY max_queue_size: 7 } }
  )");
  EXPECT_EQ(config.name, "ab");
  ASSERT_EQ(config.inputs.size(), 2u);
  EXPECT_EQ(config.inputs[0].dims, (Dims{-1, 3}));
  EXPECT_EQ(*config.inputs[0].reshape, (Dims{3, -1}));
  EXPECT_EQ(config.inputs[1].type, DataType::kBytes);
  EXPECT_TRUE(config.inputs[1].optional);
  EXPECT_EQ(config.FullDims(config.outputs[0]), (Dims{-1, 2, 5}));
  EXPECT_EQ(config.parameters.at("k"), "v");
  EXPECT_EQ(config.parameters.count("unset"), 0u);
  EXPECT_EQ(config.num_instances(), 4);
  EXPECT_EQ(config.version_policy.versions, (std::vector<int64_t>{3, 1}));
  EXPECT_EQ(config.dynamic_batching->max_queue_delay_us, 100u);
  EXPECT_TRUE(config.dynamic_batching->default_queue_policy.delay_on_timeout);
  EXPECT_TRUE(ValidateModelConfig(config).ok());

  const json shown = json::parse(config.json);
  EXPECT_EQ(shown["max_batch_size"], 4);
  EXPECT_EQ(shown["input"][0]["data_type"], "TYPE_FP32");
  EXPECT_EQ(shown["input"][0]["dims"], json({-1, 3}));  // 64-bit integers as numbers
  EXPECT_EQ(shown["platform"], "");                     // unset scalars too
  EXPECT_FALSE(shown.contains("sequence_batching"));
  EXPECT_FALSE(shown.contains("optimization"));
}

TEST(ModelConfigTest, PlaceholdersAreUnsetAndNamed) {
  std::vector<std::string> warnings;
  const auto config = ParseModelConfig(R"(
    backend: "${triton_backend}"
    max_batch_size: ${triton_max_batch_size}
    model_transaction_policy { decoupled: ${decoupled_mode} }
    dynamic_batching { preferred_batch_size: [ ${triton_max_batch_size} ]
      max_queue_delay_microseconds: ${max_queue_delay_microseconds} }
    instance_group [ { count: ${bls_instance_count} kind: KIND_CPU } ]
    output [ { name: "logits" data_type: ${logits_datatype} dims: [ -1 ] },
             { name: "logits" data_type: TYPE_FP32 dims: [ -1 ] } ]
    input { name: "table" data_type: ${prompt_embedding_table_data_type} dims: [ -1 ] }
    # ${comment}
  )",
                                       "config.pbtxt", warnings);
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->backend, "tensorrtllm");
  EXPECT_EQ(config->max_batch_size, 0);
  EXPECT_FALSE(config->decoupled);
  EXPECT_TRUE(config->dynamic_batching->preferred_batch_sizes.empty());
  EXPECT_EQ(config->instance_groups[0].count, 1);
  ASSERT_EQ(config->outputs.size(), 1u);  // upstream lists one twice
  EXPECT_EQ(config->outputs[0].type, DataType::kFp32);
  EXPECT_EQ(config->inputs[0].type, DataType::kFp16);
  ASSERT_EQ(warnings.size(), 8u);
  EXPECT_EQ(warnings[0].substr(0, 6), "line 2");
  EXPECT_NE(warnings[1].find("max_batch_size: ${triton_max_batch_size}"), std::string::npos);
}

TEST(ModelConfigTest, ElementsOfListsGoWithTheirComma) {
  std::vector<std::string> warnings;
  EXPECT_EQ(RemovePlaceholders("a: [ 1, ${x}, 2 ]", warnings), "a: [ 1, 2 ]");
  EXPECT_EQ(RemovePlaceholders("a: [ 1, ${x} ]", warnings), "a: [ 1 ]");
  EXPECT_EQ(RemovePlaceholders("a: ${x", warnings), " ");
  EXPECT_TRUE(HasPlaceholder("a ${b} c"));
  EXPECT_FALSE(HasPlaceholder("a ${b"));
}

TEST(ModelConfigTest, ErrorsNameTheLineAndTheField) {
  std::vector<std::string> warnings;
  const auto unknown = ParseModelConfig("name: 'a'\nnum_gpus: 3", "m/config.pbtxt", warnings);
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("m/config.pbtxt: line 2"), std::string_view::npos);
  EXPECT_NE(unknown.status().message().find("num_gpus"), std::string_view::npos);
  EXPECT_FALSE(ParseModelConfigJson(R"({"num_gpus": 3})").ok());
  EXPECT_TRUE(ParseModelConfigJson(R"({"max_batch_size": 3})").ok());
}

TEST(ModelConfigTest, ContradictionsAndWhatDoesNotExistAreRefusedByName) {
  const struct {
    const char* text;
    StatusCode code;
    const char* names;
  } kCases[] = {
      {"max_batch_size: -1", StatusCode::kInvalidArgument, "max_batch_size"},
      {"input { name: 'a' dims: 1 }", StatusCode::kInvalidArgument, "data_type"},
      {"input { name: 'a' data_type: TYPE_FP32 }", StatusCode::kInvalidArgument, "dims"},
      {"input { name: 'a' data_type: TYPE_FP32 dims: 0 }", StatusCode::kInvalidArgument, "'a'"},
      {"input { name: 'a' data_type: TYPE_FP32 dims: 2 reshape { shape: 3 } }",
       StatusCode::kInvalidArgument, "reshape"},
      {"dynamic_batching {}", StatusCode::kInvalidArgument, "max_batch_size"},
      {"max_batch_size: 2 dynamic_batching { preferred_batch_size: 3 }",
       StatusCode::kInvalidArgument, "preferred"},
      {"max_batch_size: 2 dynamic_batching { priority_levels: 2 }", StatusCode::kInvalidArgument,
       "priority"},
      {"max_batch_size: 2 dynamic_batching { preserve_ordering: true priority_levels: 2 "
       "default_priority_level: 1 }",
       StatusCode::kInvalidArgument, "preserve_ordering"},
      {"instance_group { kind: KIND_CPU gpus: 0 }", StatusCode::kInvalidArgument, "gpus"},
      {"platform: 'ensemble'", StatusCode::kInvalidArgument, "step"},
      {"sequence_batching { iterative_sequence: true }", StatusCode::kUnimplemented,
       "sequence_batching.iterative_sequence"},
      {"sequence_batching { oldest {} }", StatusCode::kInvalidArgument, "max_candidate_sequences"},
      {"sequence_batching { direct { minimum_slot_utilization: 2 } }", StatusCode::kInvalidArgument,
       "minimum_slot_utilization"},
      {"sequence_batching { control_input [{ name: 'A' control [{ bool_false_true: [false, true] "
       "}] "
       "}, { name: 'A' control [{ kind: CONTROL_SEQUENCE_END bool_false_true: [false, true] }] }] "
       "}",
       StatusCode::kInvalidArgument, "'A'"},
      {"model_warmup { name: 'w' batch_size: 2 }", StatusCode::kInvalidArgument, "'w'"},
      {"response_cache { enable: true } model_transaction_policy { decoupled: true }",
       StatusCode::kInvalidArgument, "response_cache"},
      {"response_cache { enable: true } sequence_batching {}", StatusCode::kInvalidArgument,
       "response_cache"},
      {"batch_input { target_name: 'x' }", StatusCode::kUnimplemented, "batch_input"},
      {"model_repository_agents { agents { name: 'checksum' } }", StatusCode::kUnimplemented,
       "model_repository_agents"},
  };
  for (const auto& c : kCases) {
    const Status status = ValidateModelConfig(Parse(c.text));
    EXPECT_EQ(status.code(), c.code) << c.text << " -> " << status.ToString();
    EXPECT_NE(status.message().find(c.names), std::string_view::npos)
        << c.text << " -> " << status.ToString();
  }
}

}  // namespace
}  // namespace trireme::server

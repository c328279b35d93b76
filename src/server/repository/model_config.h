// SPDX-License-Identifier: Apache-2.0
// A model's configuration as the server uses it, read from config.pbtxt. Plain data; the functions
// are pure. Protobuf stays inside model_config.cc and read_scheduling.cc.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/core/tensor.h"

namespace trireme::server {

struct TensorConfig {
  std::string name;
  DataType type = DataType::kInvalid;
  Dims dims;                    // -1: any; without the batch dimension
  std::optional<Dims> reshape;  // the shape the backend sees
  bool optional = false;
  bool allow_ragged_batch = false;
  bool is_shape_tensor = false;
  std::string label_filename;  // outputs
};

struct VersionPolicy {
  enum class Kind { kLatest, kAll, kSpecific };
  Kind kind = Kind::kLatest;
  int num_latest = 1;
  std::vector<int64_t> versions;
};

struct InstanceGroup {
  enum class Kind { kAuto, kGpu, kCpu, kModel };
  std::string name;
  Kind kind = Kind::kAuto;
  int count = 1;
  std::vector<int> gpus;
  bool passive = false;
};

struct QueuePolicy {
  bool delay_on_timeout = false;
  uint64_t default_timeout_us = 0;
  bool allow_timeout_override = false;
  uint32_t max_queue_size = 0;
};

struct DynamicBatching {
  std::vector<int> preferred_batch_sizes;
  uint64_t max_queue_delay_us = 0;
  bool preserve_ordering = false;
  uint64_t priority_levels = 0;
  uint64_t default_priority_level = 0;
  QueuePolicy default_queue_policy;
  std::map<uint64_t, QueuePolicy> priority_queue_policy;
};

struct SequenceBatching {
  enum class ControlKind { kStart, kReady, kEnd, kCorrelationId };
  struct Control {
    ControlKind kind = ControlKind::kStart;
    std::string input;
    DataType type = DataType::kInvalid;
    std::string false_value;  // bytes of one element; unused by kCorrelationId
    std::string true_value;
  };
  struct State {
    std::string input;
    std::string output;
    DataType type = DataType::kInvalid;
    Dims dims;
    std::string initial_file;   // "": zeros
    std::string initial_bytes;  // of one element of a batch, when the file is read
    Dims initial_dims;
  };
  uint64_t max_idle_us = 1000000;
  std::vector<Control> controls;
  std::vector<State> states;
  bool oldest = false;  // else direct
  uint64_t max_queue_delay_us = 0;
  float minimum_slot_utilization = 0;      // direct
  int max_candidate_sequences = 0;         // oldest
  std::vector<int> preferred_batch_sizes;  // oldest
  bool preserve_ordering = false;          // oldest
};

// One request that is run on every instance before a model is ready.
struct WarmupSample {
  struct Input {
    std::string name;
    DataType type = DataType::kInvalid;
    Dims dims;
    bool random = false;
    std::string file;  // "": zeros or random
  };
  std::string name;
  uint32_t batch_size = 0;
  uint32_t count = 1;
  std::vector<Input> inputs;
};

struct EnsembleStep {
  std::string model_name;
  int64_t model_version = -1;
  std::map<std::string, std::string> input_map;   // the step's input -> ensemble tensor
  std::map<std::string, std::string> output_map;  // the step's output -> ensemble tensor
};

struct ModelConfig {
  std::string name;
  std::string platform;
  std::string backend;
  std::string runtime;
  VersionPolicy version_policy;
  int max_batch_size = 0;  // 0: the first dimension is data
  std::vector<TensorConfig> inputs;
  std::vector<TensorConfig> outputs;
  std::vector<InstanceGroup> instance_groups;
  std::string default_model_filename;
  std::map<std::string, std::string> metric_tags;
  std::map<std::string, std::string> parameters;  // values with a `${...}` left in are dropped
  std::optional<DynamicBatching> dynamic_batching;
  std::optional<SequenceBatching> sequence_batching;
  std::vector<WarmupSample> warmup;
  bool response_cache = false;
  std::vector<EnsembleStep> ensemble_steps;
  uint32_t max_inflight_requests = 0;
  bool decoupled = false;
  // Of outputs with a label file, one label per line.
  std::map<std::string, std::vector<std::string>> labels;

  // What was declared and does nothing here, or cannot be done, by field name.
  std::vector<std::string> without_effect;
  std::vector<std::string> unsupported;

  std::string json;  // as the configuration extension shows it
  std::string wire;  // serialised inference.ModelConfig

  bool is_ensemble() const { return platform == "ensemble"; }
  const TensorConfig* FindInput(std::string_view tensor) const;
  const TensorConfig* FindOutput(std::string_view tensor) const;
  // The shape of a tensor as metadata and requests have it: with -1 for the batch.
  Dims FullDims(const TensorConfig& tensor) const;
  // Instances to make over all groups, at least 1.
  int num_instances() const;
};

// Reads protobuf text. `${...}` is taken as unset, and each is named in `warnings`. `where` names the
// file in errors. An unknown field is an error that names the line.
StatusOr<ModelConfig> ParseModelConfig(std::string_view text, std::string_view where,
                                       std::vector<std::string>& warnings);
// The strict JSON form of the load extension.
StatusOr<ModelConfig> ParseModelConfigJson(std::string_view json);

// Writes the fields a backend may complete (max_batch_size, inputs, outputs, decoupled, dynamic
// batching, instance groups, names) back into `json` and `wire`.
Status StoreCompletion(ModelConfig& config);

// INVALID_ARGUMENT or UNIMPLEMENTED with the field's name when the configuration contradicts itself
// or asks for what does not exist.
Status ValidateModelConfig(const ModelConfig& config);

}  // namespace trireme::server

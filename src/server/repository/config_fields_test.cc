// SPDX-License-Identifier: Apache-2.0
// Every field of the published ModelConfig, found by walking its schema: it does something, or it is
// named in a warning, or it is refused by name. A field that is none of these fails the test.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/log.h"
#include "model_config.pb.h"
#include "server/repository/model_config.h"

namespace trireme::server {
namespace {

enum class How {
  kTaken,    // reaches the configuration the server works with
  kWarned,   // named among the fields without effect
  kRefused,  // the model does not load, and the error names the field
  kSays,     // only says what is done anyway, or is a name for people
};

struct Field {
  How how = How::kTaken;
  const char* text = "";        // sets the field
  const char* without = "";     // the same without it, where the empty configuration is not enough
  const char* overlooked = "";  // the name in warnings and errors; "": the field's own
};

constexpr char kInput[] = "input { name: 'x' data_type: TYPE_INT32 dims: [-1] }";
constexpr char kOutput[] = "output { name: 'y' data_type: TYPE_INT32 dims: [-1] }";
constexpr char kDynamic[] = "max_batch_size: 4 dynamic_batching {}";

constexpr char kOldest[] =
    "max_batch_size: 4 sequence_batching { oldest { max_candidate_sequences: 2 } }";
constexpr char kStep[] =
    "platform: 'ensemble' ensemble_scheduling { step { model_name: 'a' input_map {key: 'i' value: "
    "'x'} output_map {key: 'o' value: 'y'} } }";
constexpr char kState[] =
    "sequence_batching { state { input_name: 'i' output_name: 'o' data_type: TYPE_FP32 dims: [2] } "
    "}";
constexpr char kSample[] = "model_warmup { name: 'w' batch_size: 1 }";
constexpr char kWarmInput[] =
    "model_warmup { name: 'w' batch_size: 1 inputs { key: 'x' value { } } }";
constexpr char kControl[] =
    "sequence_batching { control_input { name: 'S' control { int32_false_true: [0, 1] } } }";

const std::map<std::string, Field>& Fields() {
  static const auto* fields = new std::map<std::string, Field>{
      {"name", {How::kTaken, "name: 'n'"}},
      {"platform", {How::kTaken, "platform: 'p'"}},
      {"backend", {How::kTaken, "backend: 'b'"}},
      {"runtime", {How::kWarned, "runtime: 'r'"}},
      {"max_batch_size", {How::kTaken, "max_batch_size: 3"}},
      {"default_model_filename", {How::kTaken, "default_model_filename: 'f'"}},
      {"cc_model_filenames", {How::kWarned, "cc_model_filenames { key: 'a' value: 'b' }"}},
      {"metric_tags", {How::kTaken, "metric_tags { key: 'a' value: 'b' }"}},
      {"parameters.string_value",
       {How::kTaken, "parameters { key: 'a' value { string_value: 'b' } }"}},
      {"version_policy.latest.num_versions",
       {How::kTaken, "version_policy { latest { num_versions: 3 } }"}},
      {"version_policy.all", {How::kTaken, "version_policy { all {} }"}},
      {"version_policy.specific.versions",
       {How::kTaken, "version_policy { specific { versions: 3 } }",
        "version_policy { specific {} }"}},

      {"input.name", {How::kTaken, kInput, "input { data_type: TYPE_INT32 dims: [-1] }"}},
      {"input.data_type", {How::kTaken, kInput, "input { name: 'x' dims: [-1] }"}},
      {"input.dims", {How::kTaken, kInput, "input { name: 'x' data_type: TYPE_INT32 }"}},
      {"input.format",
       {How::kWarned,
        "input { name: 'x' data_type: TYPE_INT32 dims: [1, 2, 3] format: FORMAT_NCHW }"}},
      {"input.reshape.shape",
       {How::kTaken,
        "input { name: 'x' data_type: TYPE_INT32 dims: [4] reshape { shape: [2, 2] } }",
        "input { name: 'x' data_type: TYPE_INT32 dims: [4] }"}},
      {"input.is_shape_tensor",
       {How::kTaken, "input { name: 'x' data_type: TYPE_INT32 dims: [-1] is_shape_tensor: true }",
        kInput}},
      {"input.allow_ragged_batch",
       {How::kTaken,
        "input { name: 'x' data_type: TYPE_INT32 dims: [-1] allow_ragged_batch: true }", kInput}},
      {"input.optional",
       {How::kTaken, "input { name: 'x' data_type: TYPE_INT32 dims: [-1] optional: true }",
        kInput}},
      {"input.is_non_linear_format_io",
       {How::kRefused,
        "input { name: 'x' data_type: TYPE_INT32 dims: [-1] is_non_linear_format_io: true }"}},
      {"output.name", {How::kTaken, kOutput, "output { data_type: TYPE_INT32 dims: [-1] }"}},
      {"output.data_type", {How::kTaken, kOutput, "output { name: 'y' dims: [-1] }"}},
      {"output.dims", {How::kTaken, kOutput, "output { name: 'y' data_type: TYPE_INT32 }"}},
      {"output.label_filename",
       {How::kTaken,
        "output { name: 'y' data_type: TYPE_INT32 dims: [-1] label_filename: 'labels.txt' }",
        kOutput}},
      {"output.reshape.shape",
       {How::kTaken,
        "output { name: 'y' data_type: TYPE_INT32 dims: [4] reshape { shape: [2, 2] } }",
        "output { name: 'y' data_type: TYPE_INT32 dims: [4] }"}},
      {"output.is_shape_tensor",
       {How::kTaken, "output { name: 'y' data_type: TYPE_INT32 dims: [-1] is_shape_tensor: true }",
        kOutput}},
      {"output.is_non_linear_format_io",
       {How::kRefused,
        "output { name: 'y' data_type: TYPE_INT32 dims: [-1] is_non_linear_format_io: true }"}},
      {"batch_input.kind", {How::kRefused, "batch_input {}", "", "batch_input"}},
      {"batch_input.target_name",
       {How::kRefused, "batch_input { target_name: 't' }", "", "batch_input"}},
      {"batch_input.data_type",
       {How::kRefused, "batch_input { data_type: TYPE_FP32 }", "", "batch_input"}},
      {"batch_input.source_input",
       {How::kRefused, "batch_input { source_input: 'x' }", "", "batch_input"}},
      {"batch_output.target_name",
       {How::kRefused, "batch_output { target_name: 't' }", "", "batch_output"}},
      {"batch_output.kind", {How::kRefused, "batch_output {}", "", "batch_output"}},
      {"batch_output.source_input",
       {How::kRefused, "batch_output { source_input: 'x' }", "", "batch_output"}},

      {"instance_group.name", {How::kTaken, "instance_group { name: 'g' }", "instance_group {}"}},
      {"instance_group.count", {How::kTaken, "instance_group { count: 2 }", "instance_group {}"}},
      {"instance_group.gpus",
       {How::kTaken, "instance_group { gpus: 0 kind: KIND_GPU }",
        "instance_group { kind: KIND_GPU }"}},
      {"instance_group.kind",
       {How::kTaken, "instance_group { kind: KIND_MODEL }", "instance_group {}"}},
      {"instance_group.profile", {How::kWarned, "instance_group { profile: '0' }"}},
      {"instance_group.passive",
       {How::kTaken, "instance_group { passive: true }", "instance_group {}"}},
      {"instance_group.host_policy", {How::kWarned, "instance_group { host_policy: 'h' }"}},
      {"instance_group.rate_limiter.resources.name",
       {How::kWarned, "instance_group { rate_limiter { resources { name: 'r' } } }", "",
        "rate_limiter"}},
      {"instance_group.rate_limiter.resources.global",
       {How::kWarned, "instance_group { rate_limiter { resources { global: true } } }", "",
        "rate_limiter"}},
      {"instance_group.rate_limiter.resources.count",
       {How::kWarned, "instance_group { rate_limiter { resources { count: 1 } } }", "",
        "rate_limiter"}},
      {"instance_group.rate_limiter.priority",
       {How::kWarned, "instance_group { rate_limiter { priority: 1 } }", "", "rate_limiter"}},
      {"instance_group.secondary_devices.kind",
       {How::kRefused, "instance_group { secondary_devices {} }", "", "secondary_devices"}},
      {"instance_group.secondary_devices.device_id",
       {How::kRefused, "instance_group { secondary_devices { device_id: 1 } }", "",
        "secondary_devices"}},

      {"dynamic_batching.preferred_batch_size",
       {How::kTaken, "max_batch_size: 4 dynamic_batching { preferred_batch_size: 2 }", kDynamic}},
      {"dynamic_batching.max_queue_delay_microseconds",
       {How::kTaken, "max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 2 }",
        kDynamic}},
      {"dynamic_batching.preserve_ordering",
       {How::kTaken, "max_batch_size: 4 dynamic_batching { preserve_ordering: true }", kDynamic}},
      {"dynamic_batching.priority_levels",
       {How::kTaken,
        "max_batch_size: 4 dynamic_batching { priority_levels: 2 default_priority_level: 1 }",
        kDynamic}},
      {"dynamic_batching.default_priority_level",
       {How::kTaken,
        "max_batch_size: 4 dynamic_batching { priority_levels: 2 default_priority_level: 2 }",
        "max_batch_size: 4 dynamic_batching { priority_levels: 2 default_priority_level: 1 }"}},
      {"sequence_batching.max_sequence_idle_microseconds",
       {How::kTaken, "sequence_batching { max_sequence_idle_microseconds: 5 }",
        "sequence_batching {}"}},
      {"sequence_batching.control_input.name",
       {How::kTaken, kControl,
        "sequence_batching { control_input { name: 'T' control { int32_false_true: [0, 1] } } }"}},
      {"sequence_batching.control_input.control.kind",
       {How::kTaken,
        "sequence_batching { control_input { name: 'S' control { kind: CONTROL_SEQUENCE_END "
        "int32_false_true: [0, 1] } } }",
        kControl}},
      {"sequence_batching.control_input.control.int32_false_true",
       {How::kTaken, kControl,
        "sequence_batching { control_input { name: 'S' control { int32_false_true: [0, 2] } } }"}},
      {"sequence_batching.control_input.control.fp32_false_true",
       {How::kTaken,
        "sequence_batching { control_input { name: 'S' control { fp32_false_true: [0, 1] } } }",
        kControl}},
      {"sequence_batching.control_input.control.bool_false_true",
       {How::kTaken,
        "sequence_batching { control_input { name: 'S' control { bool_false_true: [false, true] } "
        "} }",
        kControl}},
      {"sequence_batching.control_input.control.data_type",
       {How::kTaken,
        "sequence_batching { control_input { name: 'S' control { kind: CONTROL_SEQUENCE_CORRID "
        "data_type: TYPE_UINT64 } } }",
        "sequence_batching { control_input { name: 'S' control { kind: CONTROL_SEQUENCE_CORRID "
        "data_type: TYPE_INT32 } } }"}},
      {"sequence_batching.direct.max_queue_delay_microseconds",
       {How::kTaken, "sequence_batching { direct { max_queue_delay_microseconds: 5 } }",
        "sequence_batching {}"}},
      {"sequence_batching.direct.minimum_slot_utilization",
       {How::kTaken, "sequence_batching { direct { minimum_slot_utilization: 0.5 } }",
        "sequence_batching {}"}},
      {"sequence_batching.oldest.max_candidate_sequences",
       {How::kTaken, "sequence_batching { oldest { max_candidate_sequences: 3 } }", kOldest}},
      {"sequence_batching.oldest.preferred_batch_size",
       {How::kTaken,
        "max_batch_size: 4 sequence_batching { oldest { max_candidate_sequences: 2 "
        "preferred_batch_size: 2 } }",
        kOldest}},
      {"sequence_batching.oldest.max_queue_delay_microseconds",
       {How::kTaken,
        "max_batch_size: 4 sequence_batching { oldest { max_candidate_sequences: 2 "
        "max_queue_delay_microseconds: 2 } }",
        kOldest}},
      {"sequence_batching.oldest.preserve_ordering",
       {How::kTaken,
        "max_batch_size: 4 sequence_batching { oldest { max_candidate_sequences: 2 "
        "preserve_ordering: true } }",
        kOldest}},
      {"sequence_batching.state.input_name",
       {How::kTaken, kState,
        "sequence_batching { state { input_name: 'j' output_name: 'o' data_type: TYPE_FP32 dims: "
        "[2] } }"}},
      {"sequence_batching.state.output_name",
       {How::kTaken, kState,
        "sequence_batching { state { input_name: 'i' output_name: 'p' data_type: TYPE_FP32 dims: "
        "[2] } }"}},
      {"sequence_batching.state.data_type",
       {How::kTaken, kState,
        "sequence_batching { state { input_name: 'i' output_name: 'o' data_type: TYPE_FP64 dims: "
        "[2] } }"}},
      {"sequence_batching.state.dims",
       {How::kTaken, kState,
        "sequence_batching { state { input_name: 'i' output_name: 'o' data_type: TYPE_FP32 dims: "
        "[3] } }"}},
      {"sequence_batching.state.initial_state.data_type",
       {How::kRefused,
        "sequence_batching { state { input_name: 'i' output_name: 'o' data_type: TYPE_FP32 dims: "
        "[2] initial_state { dims: [2] data_type: TYPE_FP64 zero_data: true } } }"}},
      {"sequence_batching.state.initial_state.dims",
       {How::kTaken,
        "sequence_batching { state { input_name: 'i' output_name: 'o' data_type: TYPE_FP32 dims: "
        "[-1] initial_state { dims: [4] data_type: TYPE_FP32 zero_data: true } } }",
        "sequence_batching { state { input_name: 'i' output_name: 'o' data_type: TYPE_FP32 dims: "
        "[-1] } }"}},
      {"sequence_batching.state.initial_state.zero_data",
       {How::kSays,
        "sequence_batching { state { input_name: 'i' output_name: 'o' data_type: TYPE_FP32 dims: "
        "[2] initial_state { dims: [2] data_type: TYPE_FP32 zero_data: true } } }",
        kState}},
      {"sequence_batching.state.initial_state.data_file",
       {How::kTaken,
        "sequence_batching { state { input_name: 'i' output_name: 'o' data_type: TYPE_FP32 dims: "
        "[2] initial_state { dims: [2] data_type: TYPE_FP32 data_file: 'f' } } }",
        kState}},
      {"sequence_batching.state.initial_state.name",
       {How::kSays,
        "sequence_batching { state { input_name: 'i' output_name: 'o' data_type: TYPE_FP32 dims: "
        "[2] initial_state { dims: [2] data_type: TYPE_FP32 zero_data: true name: 'n' } } }",
        kState}},
      {"sequence_batching.state.use_same_buffer_for_input_output",
       {How::kWarned,
        "sequence_batching { state { input_name: 'i' output_name: 'o' data_type: TYPE_FP32 dims: "
        "[2] use_same_buffer_for_input_output: true } }"}},
      {"sequence_batching.state.use_growable_memory",
       {How::kWarned,
        "sequence_batching { state { input_name: 'i' output_name: 'o' data_type: TYPE_FP32 dims: "
        "[2] use_growable_memory: true } }"}},
      {"sequence_batching.iterative_sequence",
       {How::kRefused, "sequence_batching { iterative_sequence: true }"}},
      {"ensemble_scheduling.step.model_name",
       {How::kTaken, kStep,
        "platform: 'ensemble' ensemble_scheduling { step { model_name: 'b' input_map {key: 'i' "
        "value: 'x'} output_map {key: 'o' value: 'y'} } }"}},
      {"ensemble_scheduling.step.model_version",
       {How::kTaken,
        "platform: 'ensemble' ensemble_scheduling { step { model_name: 'a' model_version: 2 "
        "input_map {key: 'i' value: 'x'} output_map {key: 'o' value: 'y'} } }",
        kStep}},
      {"ensemble_scheduling.step.input_map",
       {How::kTaken, kStep,
        "platform: 'ensemble' ensemble_scheduling { step { model_name: 'a' input_map {key: 'i' "
        "value: 'z'} output_map {key: 'o' value: 'y'} } }"}},
      {"ensemble_scheduling.step.output_map",
       {How::kTaken, kStep,
        "platform: 'ensemble' ensemble_scheduling { step { model_name: 'a' input_map {key: 'i' "
        "value: 'x'} output_map {key: 'o' value: 'z'} } }"}},
      {"ensemble_scheduling.step.model_namespace",
       {How::kRefused, "ensemble_scheduling { step { model_namespace: 'n' } }"}},
      {"ensemble_scheduling.max_inflight_requests",
       {How::kTaken, "ensemble_scheduling { max_inflight_requests: 3 }", "ensemble_scheduling {}"}},

      {"optimization.graph.level",
       {How::kWarned, "optimization { graph { level: 1 } }", "", "optimization"}},
      {"optimization.priority",
       {How::kWarned, "optimization { priority: PRIORITY_MAX }", "", "optimization"}},
      {"model_warmup.name", {How::kTaken, kSample, "model_warmup { name: 'v' batch_size: 1 }"}},
      {"model_warmup.batch_size", {How::kTaken, kSample, "model_warmup { name: 'w' }"}},
      {"model_warmup.count",
       {How::kTaken, "model_warmup { name: 'w' batch_size: 1 count: 3 }", kSample}},
      {"model_warmup.inputs.data_type",
       {How::kTaken,
        "model_warmup { name: 'w' batch_size: 1 inputs { key: 'x' value { data_type: TYPE_FP32 } } "
        "}",
        kWarmInput}},
      {"model_warmup.inputs.dims",
       {How::kTaken,
        "model_warmup { name: 'w' batch_size: 1 inputs { key: 'x' value { dims: 3 } } }",
        kWarmInput}},
      {"model_warmup.inputs.zero_data",
       {How::kSays,
        "model_warmup { name: 'w' batch_size: 1 inputs { key: 'x' value { zero_data: true } } }",
        kWarmInput}},
      {"model_warmup.inputs.random_data",
       {How::kTaken,
        "model_warmup { name: 'w' batch_size: 1 inputs { key: 'x' value { random_data: true } } }",
        kWarmInput}},
      {"model_warmup.inputs.input_data_file",
       {How::kTaken,
        "model_warmup { name: 'w' batch_size: 1 inputs { key: 'x' value { input_data_file: 'f' } } "
        "}",
        kWarmInput}},
      {"model_operations.op_library_filename",
       {How::kRefused, "model_operations { op_library_filename: 'o' }", "", "model_operations"}},
      {"model_transaction_policy.decoupled",
       {How::kTaken, "model_transaction_policy { decoupled: true }"}},
      {"model_repository_agents.agents.name",
       {How::kRefused, "model_repository_agents { agents { name: 'checksum' } }", "",
        "model_repository_agents"}},
      {"model_repository_agents.agents.parameters",
       {How::kRefused, "model_repository_agents { agents { parameters { key: 'a' value: 'b' } } }",
        "", "model_repository_agents"}},
      {"response_cache.enable", {How::kTaken, "response_cache { enable: true }"}},
      {"model_metrics.metric_control.metric_identifier.family",
       {How::kRefused, "model_metrics { metric_control { metric_identifier { family: 'f' } } }", "",
        "metric_control"}},
      {"model_metrics.metric_control.histogram_options.buckets",
       {How::kRefused, "model_metrics { metric_control { histogram_options { buckets: 1 } } }", "",
        "metric_control"}},
  };
  return *fields;
}

// Queue policies are the same message twice.
std::map<std::string, Field> AllFields() {
  std::map<std::string, Field> fields = Fields();
  static std::set<std::string> texts;  // keeps what the rows point to
  const std::pair<const char*, const char*> policies[] = {
      {"timeout_action", "timeout_action: DELAY"},
      {"default_timeout_microseconds", "default_timeout_microseconds: 9"},
      {"allow_timeout_override", "allow_timeout_override: true"},
      {"max_queue_size", "max_queue_size: 9"}};
  constexpr char kHead[] =
      "max_batch_size: 4 dynamic_batching { priority_levels: 1 "
      "default_priority_level: 1 ";
  for (const auto& [name, text] : policies) {
    const std::string none = std::string(kHead) + "}";
    const std::string own = std::string(kHead) + "default_queue_policy { " + text + " } }";
    const std::string level =
        std::string(kHead) + "priority_queue_policy { key: 1 value { " + text + " } } }";
    fields["dynamic_batching.default_queue_policy." + std::string(name)] = {
        How::kTaken, texts.insert(own).first->c_str(), texts.insert(none).first->c_str()};
    fields["dynamic_batching.priority_queue_policy." + std::string(name)] = {
        How::kTaken, texts.insert(level).first->c_str(), texts.insert(none).first->c_str()};
  }
  return fields;
}

std::string Show(const QueuePolicy& p) {
  return fmt::format("({} {} {} {})", p.delay_on_timeout, p.default_timeout_us,
                     p.allow_timeout_override, p.max_queue_size);
}

std::string Show(const TensorConfig& t) {
  return fmt::format("({} {} {} {} {} {} {} {})", t.name, DataTypeName(t.type), ShapeText(t.dims),
                     t.reshape ? ShapeText(*t.reshape) : "", t.optional, t.allow_ragged_batch,
                     t.is_shape_tensor, t.label_filename);
}

std::string Show(const SequenceBatching& b) {
  std::string text =
      fmt::format("{} {} {} {} {} {}", b.max_idle_us, b.oldest, b.max_queue_delay_us,
                  b.minimum_slot_utilization, b.max_candidate_sequences, b.preserve_ordering);
  for (const int size : b.preferred_batch_sizes) text += fmt::format(" {}", size);
  for (const auto& c : b.controls) {
    text += fmt::format("({} {} {} '{}' '{}')", static_cast<int>(c.kind), c.input,
                        DataTypeName(c.type), c.false_value, c.true_value);
  }
  for (const auto& s : b.states) {
    text += fmt::format("({} {} {} {} {} {})", s.input, s.output, DataTypeName(s.type),
                        ShapeText(s.dims), s.initial_file, ShapeText(s.initial_dims));
  }
  return text;
}

std::string Show(const DynamicBatching& b) {
  std::string text =
      fmt::format("{} {} {} {} {}", b.max_queue_delay_us, b.preserve_ordering, b.priority_levels,
                  b.default_priority_level, Show(b.default_queue_policy));
  for (const int size : b.preferred_batch_sizes) text += fmt::format(" {}", size);
  for (const auto& [level, policy] : b.priority_queue_policy) {
    text += fmt::format("({} {})", level, Show(policy));
  }
  return text;
}

// Everything the server works with, but for what only shows the file again (json, wire).
std::string Show(const ModelConfig& c) {
  std::string text = fmt::format(
      "{} {} {} {} {} {} {} {} {}\n", c.name, c.platform, c.backend, c.max_batch_size,
      c.default_model_filename, c.max_inflight_requests, c.decoupled, c.response_cache,
      fmt::format("{} {}", static_cast<int>(c.version_policy.kind), c.version_policy.num_latest));
  for (const int64_t version : c.version_policy.versions) text += fmt::format("v{} ", version);
  for (const auto& t : c.inputs) text += "in" + Show(t);
  for (const auto& t : c.outputs) text += "out" + Show(t);
  for (const auto& g : c.instance_groups) {
    text += fmt::format("({} {} {} {}", g.name, static_cast<int>(g.kind), g.count, g.passive);
    for (const int gpu : g.gpus) text += fmt::format(" {}", gpu);
    text += ")";
  }
  for (const auto& [key, value] : c.metric_tags) text += fmt::format("tag({} {})", key, value);
  for (const auto& [key, value] : c.parameters) text += fmt::format("par({} {})", key, value);
  if (c.dynamic_batching) text += "dynamic" + Show(*c.dynamic_batching);
  if (c.sequence_batching) text += "sequence" + Show(*c.sequence_batching);
  for (const auto& w : c.warmup) {
    text += fmt::format("warm({} {} {}", w.name, w.batch_size, w.count);
    for (const auto& i : w.inputs) {
      text += fmt::format("({} {} {} {} {})", i.name, DataTypeName(i.type), ShapeText(i.dims),
                          i.random, i.file);
    }
  }
  for (const auto& s : c.ensemble_steps) {
    text += fmt::format("step({} {}", s.model_name, s.model_version);
    for (const auto& [key, value] : s.input_map) text += fmt::format(" {}={}", key, value);
    for (const auto& [key, value] : s.output_map) text += fmt::format(" {}={}", key, value);
  }
  return text;
}

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

// Paths of the fields that hold values; `optimization` counts as a whole below its first members.
void Collect(const Descriptor* message, const std::string& prefix,
             std::vector<std::string>& paths) {
  for (int i = 0; i < message->field_count(); ++i) {
    const FieldDescriptor* field = message->field(i);
    const std::string path = prefix + field->name();
    const Descriptor* inner = field->message_type();
    if (field->is_map()) inner = inner->map_value()->message_type();
    if (inner == nullptr || inner->field_count() == 0) {
      paths.push_back(path);
    } else {
      Collect(inner, path + ".", paths);
    }
  }
}

StatusOr<ModelConfig> Parse(std::string_view text) {
  std::vector<std::string> warnings;
  return ParseModelConfig(text, "config.pbtxt", warnings);
}

void Check(const std::string& path, const Field& field) {
  SCOPED_TRACE(path);
  std::string name = field.overlooked;
  if (name.empty()) name = path.substr(path.rfind('.') + 1);
  const StatusOr<ModelConfig> config = Parse(field.text);
  const Status status = config.ok() ? ValidateModelConfig(*config) : config.status();
  if (field.how == How::kRefused) {
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.message().find(name), std::string_view::npos) << status.ToString();
    return;
  }
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  const std::string& warned = fmt::format("{}", fmt::join(config->without_effect, "; "));
  if (field.how == How::kWarned) {
    EXPECT_NE(warned.find(name), std::string::npos) << warned;
    return;
  }
  const StatusOr<ModelConfig> without = Parse(field.without);
  ASSERT_TRUE(without.ok()) << without.status().ToString();
  if (field.how == How::kSays) {
    EXPECT_EQ(Show(*config), Show(*without));
  } else {
    EXPECT_NE(Show(*config), Show(*without)) << "the field changes nothing";
  }
}

TEST(ConfigFieldsTest, EveryFieldDoesSomethingOrIsNamed) {
  ASSERT_TRUE(SetLogLevel("error").ok());
  std::vector<std::string> paths;
  Collect(inference::ModelConfig::descriptor(), "", paths);
  EXPECT_GT(paths.size(), 100u);
  const std::map<std::string, Field> fields = AllFields();
  std::set<std::string> seen;
  for (const std::string& path : paths) {
    seen.insert(path);
    const auto found = fields.find(path);
    if (found != fields.end()) {
      Check(path, found->second);
    } else if (path.rfind("optimization.", 0) != 0) {
      ADD_FAILURE() << "nobody says what " << path << " does";
    }
  }
  for (const auto& [path, field] : fields) {
    EXPECT_EQ(seen.count(path), 1u) << path << " is no field of the schema";
  }
}

}  // namespace
}  // namespace trireme::server

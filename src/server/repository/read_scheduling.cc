// SPDX-License-Identifier: Apache-2.0
#include "server/repository/read_scheduling.h"

#include <filesystem>

#include "base/mapped_file.h"
#include "base/status.h"
#include "model_config.pb.h"

namespace trireme::server {
namespace {

using Kind = SequenceBatching::ControlKind;
using Message = inference::ModelSequenceBatching;

template <typename T>
std::string BytesOf(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}

template <typename T, typename Values>
bool TakePair(const Values& values, DataType type, SequenceBatching::Control& control) {
  if (values.size() != 2) return false;
  control.type = type;
  control.false_value = BytesOf(static_cast<T>(values[0]));
  control.true_value = BytesOf(static_cast<T>(values[1]));
  return true;
}

StatusOr<SequenceBatching::Control> ReadControl(const std::string& input,
                                                const Message::Control& from,
                                                const std::string& model) {
  SequenceBatching::Control control{.kind = static_cast<Kind>(from.kind()), .input = input};
  const std::string& name = Message::Control::Kind_Name(from.kind());
  switch (from.kind()) {
    case Message::Control::CONTROL_SEQUENCE_START: control.kind = Kind::kStart; break;
    case Message::Control::CONTROL_SEQUENCE_END: control.kind = Kind::kEnd; break;
    case Message::Control::CONTROL_SEQUENCE_READY: control.kind = Kind::kReady; break;
    default: control.kind = Kind::kCorrelationId; break;
  }
  if (control.kind == Kind::kCorrelationId) {
    control.type = static_cast<DataType>(from.data_type());
    for (const DataType type : {DataType::kUint64, DataType::kInt64, DataType::kUint32,
                                DataType::kInt32, DataType::kBytes}) {
      if (control.type == type) return control;
    }
    return InvalidArgument(
        "model '{}': control '{}' of kind {} must have a data_type of UINT64, INT64, UINT32, INT32 "
        "or "
        "STRING",
        model, input, name);
  }
  const int given = !from.int32_false_true().empty() + !from.fp32_false_true().empty() +
                    !from.bool_false_true().empty();
  const bool whole = TakePair<int32_t>(from.int32_false_true(), DataType::kInt32, control) ||
                     TakePair<float>(from.fp32_false_true(), DataType::kFp32, control) ||
                     TakePair<bool>(from.bool_false_true(), DataType::kBool, control);
  if (given == 1 && whole) return control;
  return InvalidArgument(
      "model '{}': control '{}' of kind {} must have one of 'int32_false_true', 'fp32_false_true' "
      "and 'bool_false_true', with exactly 2 entries",
      model, input, name);
}

StatusOr<SequenceBatching::State> ReadState(const Message::State& from, const std::string& model) {
  SequenceBatching::State state;
  state.input = from.input_name();
  state.output = from.output_name();
  state.type = static_cast<DataType>(from.data_type());
  state.dims.assign(from.dims().begin(), from.dims().end());
  if (state.input.empty() || state.output.empty() || state.type == DataType::kInvalid) {
    return InvalidArgument(
        "model '{}': a state of sequence_batching needs input_name, output_name and data_type",
        model);
  }
  state.initial_dims = state.dims;
  for (int64_t& dim : state.initial_dims) dim = dim == -1 ? 1 : dim;
  if (from.initial_state_size() > 1) {
    return InvalidArgument("model '{}': state '{}' has several initial states", model, state.input);
  }
  if (from.initial_state_size() == 1) {
    const auto& initial = from.initial_state(0);
    state.initial_dims.assign(initial.dims().begin(), initial.dims().end());
    state.initial_file = initial.data_file();
    if (initial.data_type() != from.data_type()) {
      return InvalidArgument("model '{}': state '{}' and its initial state differ in data_type",
                             model, state.input);
    }
  }
  for (const int64_t dim : state.initial_dims) {
    if (dim > 0) continue;
    return InvalidArgument("model '{}': the initial state of '{}' needs fixed dims, not {}", model,
                           state.input, ShapeText(state.initial_dims));
  }
  return state;
}

}  // namespace

Status ReadSequenceBatching(const Message& from, ModelConfig& config) {
  SequenceBatching batching;
  if (from.max_sequence_idle_microseconds() > 0) {
    batching.max_idle_us = from.max_sequence_idle_microseconds();
  }
  for (const auto& input : from.control_input()) {
    for (const auto& each : input.control()) {
      TRIREME_ASSIGN_OR_RETURN(SequenceBatching::Control control,
                               ReadControl(input.name(), each, config.name));
      batching.controls.push_back(std::move(control));
    }
  }
  for (const auto& each : from.state()) {
    TRIREME_ASSIGN_OR_RETURN(SequenceBatching::State state, ReadState(each, config.name));
    batching.states.push_back(std::move(state));
    if (each.use_same_buffer_for_input_output() || each.use_growable_memory()) {
      config.without_effect.push_back(
          "sequence_batching.state.use_same_buffer_for_input_output, "
          "use_growable_memory (states are passed on, not copied)");
    }
  }
  if (from.has_direct()) {
    batching.max_queue_delay_us = from.direct().max_queue_delay_microseconds();
    batching.minimum_slot_utilization = from.direct().minimum_slot_utilization();
  }
  if (from.has_oldest()) {
    batching.oldest = true;
    batching.max_candidate_sequences = from.oldest().max_candidate_sequences();
    batching.max_queue_delay_us = from.oldest().max_queue_delay_microseconds();
    batching.preferred_batch_sizes.assign(from.oldest().preferred_batch_size().begin(),
                                          from.oldest().preferred_batch_size().end());
    batching.preserve_ordering = from.oldest().preserve_ordering();
  }
  if (from.iterative_sequence()) {
    config.unsupported.push_back("sequence_batching.iterative_sequence");
  }
  config.sequence_batching = std::move(batching);
  return OkStatus();
}

void ReadWarmup(const inference::ModelConfig& from, ModelConfig& config) {
  for (const auto& each : from.model_warmup()) {
    WarmupSample& sample = config.warmup.emplace_back();
    sample.name = each.name();
    sample.batch_size = each.batch_size();
    sample.count = std::max<uint32_t>(1, each.count());
    for (const auto& [name, input] : each.inputs()) {
      sample.inputs.push_back({.name = name,
                               .type = static_cast<DataType>(input.data_type()),
                               .dims = {input.dims().begin(), input.dims().end()},
                               .random = input.random_data(),
                               .file = input.input_data_file()});
    }
  }
}

Status CompleteInitialStates(const std::string& model_dir, SequenceBatching& batching) {
  for (SequenceBatching::State& state : batching.states) {
    TRIREME_ASSIGN_OR_RETURN(const int64_t count, ElementCount(state.initial_dims));
    // A zero of BYTES is an empty string, which is its length of four bytes.
    const int64_t element = state.type == DataType::kBytes ? 4 : ElementBytes(state.type);
    constexpr int64_t kMaxStateBytes = int64_t{1} << 40;
    if (count > kMaxStateBytes / element) {
      return InvalidArgument("the initial state of '{}' is too large", state.input);
    }
    if (state.initial_file.empty()) {
      state.initial_bytes.assign(static_cast<size_t>(count * element), '\0');
      continue;
    }
    const auto path = std::filesystem::path(model_dir) / "initial_state" / state.initial_file;
    TRIREME_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    state.initial_bytes = std::string(file.text());
    const Tensor tensor = {path.string(), state.type, state.initial_dims, state.initial_bytes,
                           nullptr};
    TRIREME_RETURN_IF_ERROR(CheckByteSize(tensor));
  }
  return OkStatus();
}

}  // namespace trireme::server

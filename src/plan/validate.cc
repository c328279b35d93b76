// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.h"

namespace trireme::plan {
namespace {

Status CheckIndices(std::span<const int> indices, size_t limit, const Launch& launch,
                    std::string_view what) {
  for (int index : indices) {
    if (index < 0 || index >= static_cast<int>(limit)) {
      return InvalidArgument("plan: launch '{}' names {} {}, there are {}", launch.name, what,
                             index, limit);
    }
  }
  return OkStatus();
}

Status CheckLifetime(const Plan& plan, int buffer, int launch) {
  const Buffer& b = plan.buffers[buffer];
  if (launch < b.first || launch > b.last) {
    return InvalidArgument("plan: launch {} uses buffer {} outside its life [{}, {}]", launch,
                           buffer, b.first, b.last);
  }
  return OkStatus();
}

}  // namespace

Status ValidatePlan(const Plan& plan) {
  constexpr int64_t kMaxWidth = int64_t{1} << 31;
  for (const Buffer& buffer : plan.buffers) {
    if (buffer.width <= 0 || buffer.width > kMaxWidth) {
      return InvalidArgument("plan: a buffer has width {}", buffer.width);
    }
  }
  for (const Weight& weight : plan.weights) {
    if (weight.num_bytes <= 0) return InvalidArgument("plan: weight '{}' is empty", weight.name);
  }
  std::vector<bool> written(plan.buffers.size(), false);
  for (size_t i = 0; i < plan.launches.size(); ++i) {
    const Launch& launch = plan.launches[i];
    TRIREME_RETURN_IF_ERROR(CheckIndices(launch.inputs, plan.buffers.size(), launch, "buffer"));
    TRIREME_RETURN_IF_ERROR(CheckIndices(launch.outputs, plan.buffers.size(), launch, "buffer"));
    TRIREME_RETURN_IF_ERROR(CheckIndices(launch.weights, plan.weights.size(), launch, "weight"));
    TRIREME_RETURN_IF_ERROR(CheckIndices(launch.waits_on, i, launch, "launch"));
    for (int input : launch.inputs) {
      if (!written[input]) {
        return InvalidArgument("plan: launch '{}' reads buffer {} before it is written",
                               launch.name, input);
      }
      TRIREME_RETURN_IF_ERROR(CheckLifetime(plan, input, static_cast<int>(i)));
    }
    for (int output : launch.outputs) {
      TRIREME_RETURN_IF_ERROR(CheckLifetime(plan, output, static_cast<int>(i)));
      written[output] = true;
    }
  }
  if (plan.logits_buffer < 0 || plan.logits_buffer >= static_cast<int>(plan.buffers.size()) ||
      !written[plan.logits_buffer]) {
    return InvalidArgument("plan: no launch writes the logits");
  }
  if (plan.buffers[plan.logits_buffer].width != plan.vocab_size) {
    return InvalidArgument("plan: the logits have width {}, the vocabulary {}",
                           plan.buffers[plan.logits_buffer].width, plan.vocab_size);
  }
  if (plan.num_layers <= 0 || plan.num_kv_heads <= 0 || plan.head_dim <= 0) {
    return InvalidArgument("plan: {} layers of {} KV heads of {}", plan.num_layers,
                           plan.num_kv_heads, plan.head_dim);
  }
  return OkStatus();
}

}  // namespace trireme::plan

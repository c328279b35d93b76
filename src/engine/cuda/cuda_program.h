// SPDX-License-Identifier: Apache-2.0
// CudaProgram: a plan bound to CUDA kernels, weights and memory; submits one step without allocating
// or waiting, so that it can be captured. Engine thread only.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "device/cuda/buffer.h"
#include "device/cuda/launch.h"
#include "device/cuda/stream.h"
#include "engine/cuda/cuda_weights.h"
#include "engine/cuda/decode_region_layers.h"
#include "engine/cuda/launch_timer.h"
#include "engine/cuda/linear_bindings.h"
#include "kernels/cuda/types.h"
#include "plan/plan.h"

namespace trireme::engine {

struct CudaProgramOptions {
  int64_t max_tokens = 0;
  int64_t max_logit_rows = 0;
  int max_seqs = 0;
  int max_seq_len = 0;
  int tokens_per_block = 0;
};

class CudaProgram {
 public:
  // Launches over token rows; launches over logit rows, which read what the trunk left.
  enum class Part { kTrunk, kHead };

  // Borrows plan and weights, which must outlive the program.
  static StatusOr<std::unique_ptr<CudaProgram>> Bind(const plan::Plan& plan,
                                                     const CudaWeights& weights,
                                                     const CudaProgramOptions& options,
                                                     cuda::LaunchContext& context);

  void set_kv_pool(std::byte* pool) { kv_.pool = pool; }

  // Submits to context.stream. An error names the launch. `timer` may be null.
  Status Run(Part part, const cuda::StepView& step, cuda::LaunchContext& context,
             LaunchTimer* timer) const;

  // Whether a step of these sizes goes through all layers in one launch.
  bool TakesRegion(const cuda::StepView& step, const cuda::LaunchContext& context) const {
    return region_.Serves(step, kv_, context);
  }

  // Device memory, row-major [max_logit_rows, vocab_size]; of the last Run.
  float* logits() const;

 private:
  friend class CudaLaunchBinder;
  using LaunchFn = std::function<Status(const cuda::StepView&, cuda::LaunchContext&)>;
  struct BoundLaunch {
    std::string name;
    int index = 0;  // in the plan
    Part part = Part::kTrunk;
    LaunchFn run;
  };

  Status RunRegion(const cuda::StepView& step, cuda::LaunchContext& context) const;

  explicit CudaProgram(const plan::Plan& plan) : plan_(plan) {}

  const plan::Plan& plan_;
  plan::MemoryPlan memory_;
  cuda::DeviceBuffer arena_;
  cuda::DeviceBuffer workspace_;
  std::unique_ptr<LinearBindings> linears_;
  std::map<int, cuda::DeviceBuffer> attention_plans_;  // by window
  std::vector<cuda::DeviceBuffer> tables_;             // rotary tables, slopes
  cuda::KvView kv_;
  std::vector<BoundLaunch> launches_;
  DecodeRegionLayers region_;
};

}  // namespace trireme::engine

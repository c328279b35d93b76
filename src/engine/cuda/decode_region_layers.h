// SPDX-License-Identifier: Apache-2.0
// Finds a plan's decoder layers that DecodeRegion runs in one launch, and runs them. Bound once;
// engine thread only.
#pragma once

#include <optional>
#include <vector>

#include "base/status.h"
#include "device/cuda/buffer.h"
#include "device/cuda/launch.h"
#include "kernels/cuda/decode_region.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/paged_attention.h"

namespace trireme::engine {

class DecodeRegionLayers {
 public:
  // Beyond these the region is slower than launches of their own (docs/performance.md).
  static constexpr int kLongestSeq = 4096;
  static constexpr int kMostSeqs = 2;

  // Is shown the launches of a trunk in their order.
  void AddLinear(const cuda::LinearProblem& problem, const cuda::LinearOperands& operands);
  // `rope`, `attention`: without step and cache.
  void AddAttention(const cuda::RopeKvWriteParams& rope,
                    const cuda::PagedAttentionParams& attention, float kv_scale);
  // One that no region holds.
  void AddOther();

  // After the last launch: takes the first run of layers of one shape, each a linear layer of a norm,
  // attention over all positions, a linear layer with a residual, a gated one of a norm and another
  // with a residual. There may be none.
  Status Finish(const cuda::KvView& kv, const cuda::LaunchContext& context);

  // Launches shown that the region stands for: [first_launch, end_launch).
  int first_launch() const { return first_launch_; }
  int end_launch() const { return first_launch_ + kLaunches * params_.num_layers; }

  // Whether the region runs a step of these sizes.
  bool Serves(const cuda::StepView& step, const cuda::KvView& kv,
              const cuda::LaunchContext& context) const;
  cudaError_t Run(const cuda::StepView& step, const cuda::KvView& kv,
                  cuda::LaunchContext& context) const;

 private:
  static constexpr int kLaunches = 5;  // of a layer

  struct Linear {
    cuda::LinearProblem problem;
    cuda::LinearOperands operands;
  };
  struct Attention {
    cuda::RopeKvWriteParams rope;
    cuda::PagedAttentionParams params;
    float kv_scale = 1.0f;
  };
  struct Launch {
    std::optional<Linear> linear;
    std::optional<Attention> attention;
  };

  // The layer that starts with launch `first`, whose shape goes to `shape`.
  std::optional<cuda::RegionLayer> LayerAt(size_t first, cuda::DecodeRegionParams& shape) const;
  cuda::DecodeRegionParams ParamsOf(const cuda::StepView& step, const cuda::KvView& kv) const;

  std::vector<Launch> launches_;  // until Finish
  int first_launch_ = 0;
  cuda::DecodeRegionParams params_;  // without step, cache and rows; of no layers: none was found
  cuda::DeviceBuffer layers_;
  cuda::DeviceBuffer workspace_;
};

}  // namespace trireme::engine

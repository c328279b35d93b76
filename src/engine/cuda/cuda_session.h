// SPDX-License-Identifier: Apache-2.0
// Session on the GPU: Forward and Sample submit work and return, Await reads one step late. Engine
// thread only.
//
//   Forward = new slots' state, block copies, one copy of the packed step, then the launches of the
//   step: replayed from a graph where every sequence decodes, else submitted one by one.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "device/cuda/bandwidth.h"
#include "device/cuda/buffer.h"
#include "device/cuda/device_info.h"
#include "device/cuda/launch.h"
#include "device/cuda/stream.h"
#include "engine/cuda/cuda_program.h"
#include "engine/cuda/cuda_sampler.h"
#include "engine/cuda/cuda_step.h"
#include "engine/cuda/cuda_weights.h"
#include "engine/cuda/launch_timer.h"
#include "engine/cuda/step_clock.h"
#include "engine/engine_folder.h"
#include "engine/session.h"

namespace trireme::engine {

class CudaSession : public Session {
 public:
  static StatusOr<std::unique_ptr<Session>> Load(LoadedEngine engine,
                                                 const SessionOptions& options);
  ~CudaSession() override;

  const EngineInfo& info() const override { return info_; }
  const SessionLimits& limits() const override { return limits_; }
  const KvLayout& kv_layout() const override { return kv_layout_; }
  int num_kv_blocks() const override { return num_kv_blocks_; }
  int max_blocks_per_seq() const override { return max_blocks_per_seq_; }
  int max_steps_in_flight() const override { return 2; }

  void ResetSlot(int slot, const SlotRequest& request) override;
  Status Forward(const StepInput& input) override;
  StatusOr<std::vector<LaunchProfile>> ProfileForward(const StepInput& input) override;
  StatusOr<double> MeasureBandwidth() override { return cuda::MeasureCopyBandwidth(); }
  Status Sample(std::span<const int> slots) override;
  StatusOr<std::vector<SampledToken>> Await() override;
  std::optional<StepTiming> LastTiming() const override { return last_timing_; }
  StatusOr<std::span<const float>> Logits(int row) override;

 private:
  explicit CudaSession(LoadedEngine engine) : engine_(std::move(engine)) {}
  Status Initialise(const SessionOptions& options);
  Status AllocateKvCache(const KvCacheConfig& config);
  cuda::StepView DecodeView(int size, int longest) const;
  struct GraphKey {
    int size = 0;  // the bucket
    bool region = false;
    auto operator<=>(const GraphKey&) const = default;
  };
  GraphKey KeyOf(const cuda::StepView& view) const;
  Status CaptureGraph(const cuda::StepView& view);
  Status CaptureGraphs();
  void FillInfo();

  Status CopyBlocks(const StepInput& input);
  // Submits what the launches read.
  Status Send(const StepInput& input);
  // Sizes of the launches of the packed step; `decodes`: of the bucket that serves it.
  struct StepShape {
    cuda::StepView view;
    bool decodes = false;
  };
  StepShape ShapeOfStep() const;
  Status RunLaunches(const StepInput& input, const cuda::StepView& view, LaunchTimer* timer);
  Status ComputeAllLogits(const StepInput& input);
  Status ReadLogits(int first_row, int num_rows, std::vector<float>& target, size_t offset);

  LoadedEngine engine_;
  cuda::DeviceInfo device_;
  EngineInfo info_;
  SessionLimits limits_;
  KvLayout kv_layout_;
  int num_kv_blocks_ = 0;
  int max_blocks_per_seq_ = 0;
  int max_logit_rows_ = 0;

  cuda::Stream stream_;
  cuda::LaunchContext context_;
  CudaWeights weights_;
  cuda::DeviceBuffer kv_pool_;
  std::unique_ptr<CudaProgram> program_;
  CudaStep step_;
  CudaSampler sampler_;
  StepClock clock_;
  std::optional<StepTiming> last_timing_;
  std::vector<int> decode_buckets_;             // rising
  std::map<GraphKey, cuda::GraphExec> graphs_;  // none when they are not wanted

  // Rows of logits beyond the last one of a sequence are computed apart, a few at a time.
  cuda::DeviceBuffer all_rows_;                   // counts and logit rows of one such pass
  std::map<int, std::vector<float>> row_logits_;  // by row of the last input; filled on demand
  std::vector<bool> wants_all_;                   // by row of the last input
  Status reset_error_;                            // of a ResetSlot, which cannot say so itself
};

}  // namespace trireme::engine

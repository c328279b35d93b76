// SPDX-License-Identifier: Apache-2.0
// What the slots remember on the GPU, and the way of sampled tokens back to the host. Engine thread
// only.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "device/cuda/buffer.h"
#include "device/cuda/launch.h"
#include "device/cuda/staging_ring.h"
#include "device/cuda/stream.h"
#include "engine/session.h"
#include "kernels/cuda/sampling.h"

namespace trireme::engine {

class CudaSampler {
 public:
  static StatusOr<CudaSampler> Create(const SessionLimits& limits, int vocab_size);

  // Notes the new request of a slot; LoadSlots sends it.
  Status ResetSlot(int slot, const SlotRequest& request, const cuda::Stream& stream);
  Status LoadSlots(const cuda::Stream& stream, cuda::LaunchContext& context);

  const int32_t* last_tokens() const { return slots_.last_tokens; }

  // Samples `num_rows` rows of logits into the next result buffer.
  Status Sample(const float* logits, const cuda::SampleRow* rows, const int32_t* count,
                int num_rows, const cuda::Stream& stream, cuda::LaunchContext& context);
  // Waits for the oldest Sample not yet awaited.
  StatusOr<std::vector<SampledToken>> Await();

 private:
  // Tokens of one Sample, written by the GPU into pinned memory.
  struct Results {
    cuda::PinnedBuffer tokens;
    cuda::Event written;
    int count = 0;
  };

  Status GrowWords(const cuda::Stream& stream);
  StatusOr<const float*> SendBias(int slot, std::span<const float> bias,
                                  const cuda::Stream& stream);

  SessionLimits limits_;
  cuda::SamplingSlots slots_;
  cuda::DeviceBuffer states_;
  cuda::DeviceBuffer last_tokens_;
  cuda::DeviceBuffer tokens_;
  cuda::DeviceBuffer words_;
  cuda::DeviceBuffer counts_;
  cuda::DeviceBuffer workspace_;
  std::vector<cuda::DeviceBuffer> biases_;  // by slot

  std::vector<cuda::StagedSlot> staged_;
  std::vector<int32_t> staged_words_;
  cuda::StagingRing staging_;
  cuda::DeviceBuffer staged_on_device_;

  std::array<Results, 3> results_;
  uint64_t num_sampled_ = 0;
  uint64_t num_awaited_ = 0;
};

}  // namespace trireme::engine

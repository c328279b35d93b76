// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/bandwidth.h"

#include <algorithm>

#include "device/cuda/buffer.h"
#include "device/cuda/cuda_status.h"
#include "device/cuda/stream.h"

namespace trireme::cuda {

StatusOr<double> MeasureCopyBandwidth() {
  constexpr int64_t kBytes = int64_t{512} << 20;  // far more than the L2 holds
  constexpr int kRounds = 5;
  TRIREME_ASSIGN_OR_RETURN(const Stream stream, Stream::Create());
  TRIREME_ASSIGN_OR_RETURN(const DeviceBuffer from,
                           DeviceBuffer::Allocate(kBytes, "memory to measure bandwidth with"));
  TRIREME_ASSIGN_OR_RETURN(const DeviceBuffer to,
                           DeviceBuffer::Allocate(kBytes, "memory to measure bandwidth with"));
  TRIREME_ASSIGN_OR_RETURN(const TimedEvent begin, TimedEvent::Create());
  TRIREME_ASSIGN_OR_RETURN(const TimedEvent end, TimedEvent::Create());
  double best = 0;
  for (int round = 0; round < kRounds; ++round) {
    TRIREME_RETURN_IF_ERROR(begin.Record(stream.get()));
    TRIREME_CUDA_RETURN_IF_ERROR(
        cudaMemcpyAsync(to.data(), from.data(), kBytes, cudaMemcpyDeviceToDevice, stream.get()),
        "measuring bandwidth");
    TRIREME_RETURN_IF_ERROR(end.Record(stream.get()));
    TRIREME_RETURN_IF_ERROR(end.Synchronize());
    TRIREME_ASSIGN_OR_RETURN(const double us, end.MicrosecondsSince(begin));
    best = std::max(best, 2.0 * kBytes / (1e-6 * us));
  }
  return best;
}

}  // namespace trireme::cuda

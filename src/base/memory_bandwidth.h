// SPDX-License-Identifier: Apache-2.0
// Read bandwidth of main memory, measured. Measures alone: nothing else should run meanwhile.
#pragma once

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"

namespace trireme {

class ReadBandwidthMeter {
 public:
  // Takes half a gigabyte, far more than the caches hold.
  explicit ReadBandwidthMeter(int num_threads);

  // Bytes per second that `num_threads` pinned threads (0: one per processor) read together: the
  // best of a few passes, some 50 ms in all. A virtual machine's bandwidth moves within seconds, so
  // measure beside what is compared.
  double Measure();

 private:
  ThreadPool pool_;
  AlignedBuffer buffer_;
};

}  // namespace trireme

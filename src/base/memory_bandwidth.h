// SPDX-License-Identifier: Apache-2.0
// Read bandwidth of main memory, and how far two processors are apart, measured. Measures alone:
// nothing else should run meanwhile.
#pragma once

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"

namespace trireme {

class ReadBandwidthMeter {
 public:
  // Takes half a gigabyte, far more than the caches hold.
  explicit ReadBandwidthMeter(int num_threads);

  // Bytes per second that `num_threads` threads (0: one per processor), each pinned to a processor of
  // its own, read together: the best of a few passes, some 50 ms in all. A virtual machine's bandwidth
  // moves within seconds, so measure beside what is compared. The calling thread only waits.
  double Measure();

 private:
  double BestPass();

  ThreadPool pool_;
  AlignedBuffer buffer_;
};

// Nanoseconds that a cache line takes from the first processor of this process to the second: some
// 25 within one core complex, 100 and more between chiplets, which also have other bandwidths. A
// virtual machine's processors move between the two. 0 with one processor.
double ProcessorHopNs();

}  // namespace trireme

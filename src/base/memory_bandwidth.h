// SPDX-License-Identifier: Apache-2.0
// Read bandwidth of main memory, measured. Takes about a second; run it alone.
#pragma once

namespace trireme {

// Bytes per second that `num_threads` pinned threads (0: one per processor) read together from
// buffers far larger than the caches: the best of several passes.
double MeasureReadBandwidth(int num_threads);

}  // namespace trireme

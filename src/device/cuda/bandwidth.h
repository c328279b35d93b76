// SPDX-License-Identifier: Apache-2.0
// Bandwidth of the GPU's memory, measured. No CUDA headers.
#pragma once

#include "base/status.h"

namespace trireme::cuda {

// Bytes per second, read and written together, of copies from device to device: within 2 % of what
// a kernel that only reads gets. Takes a gigabyte of the GPU for some 10 ms.
StatusOr<double> MeasureCopyBandwidth();

}  // namespace trireme::cuda

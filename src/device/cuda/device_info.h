// SPDX-License-Identifier: Apache-2.0
// What the GPU and its driver are. No CUDA headers: folders outside cuda/ may include it where
// TRIREME_HAS_CUDA is defined. Thread-safe.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace trireme::cuda {

struct DeviceInfo {
  std::string name;        // "NVIDIA H200"
  int driver_version = 0;  // of the CUDA interface: 13000 is 13.0
  int compute_major = 0;
  int compute_minor = 0;
  int num_sms = 0;
  int64_t total_bytes = 0;
  int64_t l2_bytes = 0;
};

// The GPU that this process uses (the first visible one). FAILED_PRECONDITION names what is missing
// and the remedy: no driver, a driver too old, no GPU, a GPU this program holds no code for.
StatusOr<DeviceInfo> GetDeviceInfo();

// "NVIDIA H200, driver for CUDA 13.0", or why there is none.
std::string DeviceText();

}  // namespace trireme::cuda

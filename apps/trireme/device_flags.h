// SPDX-License-Identifier: Apache-2.0
// Flags of run, serve and bench about how a GPU is driven. Main thread only.
#pragma once

#include <string>

#include "cli.h"
#include "trireme/executor.h"

namespace trireme::cli {

struct DeviceFlags {
  std::string enable_cuda_graph = "true";
  std::string enable_trt_overlap = "true";
};

void AddDeviceFlags(CommandLine& line, DeviceFlags& flags);
Status ApplyDeviceFlags(const DeviceFlags& flags, ExecutorConfig& executor);

}  // namespace trireme::cli

// SPDX-License-Identifier: Apache-2.0
#include "device_flags.h"

#include "base/status.h"

namespace trireme::cli {

void AddDeviceFlags(CommandLine& line, DeviceFlags& flags) {
  line.Add("--enable_cuda_graph,--cuda_graph_mode", flags.enable_cuda_graph,
           "GPU: replay decode steps from captured graphs, true or false; the output is the same");
  line.Add("--enable_trt_overlap", flags.enable_trt_overlap,
           "GPU: submit a step before the one before it is read back, true or false; the output is "
           "the same");
}

Status ApplyDeviceFlags(const DeviceFlags& flags, ExecutorConfig& executor) {
  TRIREME_ASSIGN_OR_RETURN(executor.cuda_graphs,
                           ParseBool(flags.enable_cuda_graph, "enable_cuda_graph"));
  TRIREME_ASSIGN_OR_RETURN(executor.overlap_steps,
                           ParseBool(flags.enable_trt_overlap, "enable_trt_overlap"));
  return OkStatus();
}

}  // namespace trireme::cli

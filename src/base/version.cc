// SPDX-License-Identifier: Apache-2.0
#include "base/version.h"

#include <fmt/core.h>

#include "base/cpu_features.h"

namespace trireme {

std::string_view Version() { return TRIREME_VERSION; }

std::string VersionText(std::string_view commit) {
  const CpuFeatures& features = HostCpuFeatures();
  return fmt::format("trireme {}\ncommit: {}\ncpu: {}; kernels: {}; processors: {}\ncuda: {}",
                     Version(), commit, CpuFeaturesText(features), IsaName(BestIsa(features)),
                     features.num_cpus, TRIREME_CUDA_TEXT);
}

}  // namespace trireme

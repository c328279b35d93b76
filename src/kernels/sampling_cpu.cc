// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu_variants.h"
#include "kernels/sampling.h"

namespace trireme::kernels {
namespace {

KernelVariant g_generic("sampling.generic", Isa::kGeneric);

}  // namespace

int64_t SampleWorkspaceBytes(int64_t vocab_size, int num_threads) { return 64; }

void Sample(const SampleParams& params, CpuContext& context) {
  g_generic.Count();
  SampleReference(params);
}

}  // namespace trireme::kernels

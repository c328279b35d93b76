// SPDX-License-Identifier: Apache-2.0
// What the processor at hand can do. Pure after the first call; thread-safe.
#pragma once

#include <string>

namespace trireme {

struct CpuFeatures {
  bool avx2 = false;    // AVX2 + FMA + F16C + BMI2
  bool avx512 = false;  // AVX-512 F/BW/DQ/VL/VBMI with VNNI and BF16
  bool amx = false;     // AMX tiles with INT8 and BF16, usable by this process
  int num_cpus = 1;     // processors this process may run on
};

const CpuFeatures& HostCpuFeatures();

// "avx2 avx512 (vnni, bf16)" and so on, for logs and --version.
std::string CpuFeaturesText(const CpuFeatures& features);

// Instruction sets that kernels are written for, each a superset of those before it.
enum class Isa { kGeneric, kAvx2, kAvx512 };

// The best of `features`.
Isa BestIsa(const CpuFeatures& features);
std::string IsaName(Isa isa);

}  // namespace trireme

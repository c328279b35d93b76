// SPDX-License-Identifier: Apache-2.0
// Which kernel variants exist in this program and how often each ran. Thread-safe, lock-free.
//
// A variant is a namespace-scope object of the file that dispatches to it:
//   KernelVariant g_rms_norm_avx512("rms_norm.avx512", Isa::kAvx512);
//   ...
//   g_rms_norm_avx512.Count();
// Tests fail on a variant that the host can run and that no test ran; a dispatch count per call is
// the whole cost.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/cpu_features.h"

namespace trireme::kernels {

class KernelVariant {
 public:
  // `name`: "family.variant", a string literal. Objects must live as long as the program.
  KernelVariant(const char* name, Isa isa);
  KernelVariant(const KernelVariant&) = delete;
  KernelVariant& operator=(const KernelVariant&) = delete;

  void Count() { count_.fetch_add(1, std::memory_order_relaxed); }

  const char* name() const { return name_; }
  Isa isa() const { return isa_; }
  uint64_t count() const { return count_.load(std::memory_order_relaxed); }
  const KernelVariant* next() const { return next_; }

 private:
  const char* name_;
  Isa isa_;
  const KernelVariant* next_;
  std::atomic<uint64_t> count_{0};
};

struct KernelVariantCount {
  std::string name;
  Isa isa = Isa::kGeneric;
  uint64_t count = 0;
};

// Every variant linked into the program, sorted by name.
std::vector<KernelVariantCount> KernelVariantLog();

}  // namespace trireme::kernels

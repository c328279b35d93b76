// SPDX-License-Identifier: Apache-2.0
#include "kernels/variant_log.h"

#include <algorithm>

namespace trireme::kernels {
namespace {

// Head of the list of variants. Constant-initialised, so that registration from any file's static
// initialisers finds it ready.
constinit std::atomic<const KernelVariant*> g_variants{nullptr};

}  // namespace

KernelVariant::KernelVariant(const char* name, Isa isa) : name_(name), isa_(isa) {
  next_ = g_variants.load(std::memory_order_relaxed);
  while (!g_variants.compare_exchange_weak(next_, this, std::memory_order_release,
                                           std::memory_order_relaxed)) {
  }
}

std::vector<KernelVariantCount> KernelVariantLog() {
  std::vector<KernelVariantCount> log;
  for (const KernelVariant* v = g_variants.load(std::memory_order_acquire); v; v = v->next()) {
    log.push_back({v->name(), v->isa(), v->count()});
  }
  std::sort(log.begin(), log.end(), [](const KernelVariantCount& a, const KernelVariantCount& b) {
    return a.name < b.name;
  });
  return log;
}

}  // namespace trireme::kernels

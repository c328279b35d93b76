// SPDX-License-Identifier: Apache-2.0
// What a CPU kernel is given besides its operands. Owned by one Session; engine thread only.
#pragma once

#include "base/cpu_features.h"
#include "base/thread_pool.h"

namespace trireme::kernels {

struct CpuContext {
  ThreadPool* pool = nullptr;
  Isa isa = Isa::kGeneric;  // kernels take the best variant they have at or below it
};

}  // namespace trireme::kernels

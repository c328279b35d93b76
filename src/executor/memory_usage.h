// SPDX-License-Identifier: Apache-2.0
// Memory of this process. Thread-safe.
#pragma once

#include <cstdint>

namespace trireme::executor {

// Resident bytes, 0 when the system does not tell.
int64_t ResidentMemoryBytes();

}  // namespace trireme::executor

// SPDX-License-Identifier: Apache-2.0
// How much memory the machine and this process have. Thread-safe.
#pragma once

#include <cstdint>

namespace trireme {

// What can be taken without swapping: the kernel's MemAvailable, within the control group's limit.
int64_t AvailableMemoryBytes();

// Resident memory of this process.
int64_t ResidentMemoryBytes();

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the engine container. Every byte that an accepted file hands out is read.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "formats/engine_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = ::memfd_create("engine", 0);
  TRIREME_CHECK_GE(fd, 0);
  TRIREME_CHECK_EQ(::write(fd, data, size), static_cast<ssize_t>(size));
  const auto engine = trireme::EngineFile::Open("/proc/self/fd/" + std::to_string(fd));
  if (engine.ok()) {
    volatile unsigned sum = 0;
    for (const char c : (*engine)->config_json()) sum = sum + static_cast<uint8_t>(c);
    for (const char c : (*engine)->plan_json()) sum = sum + static_cast<uint8_t>(c);
    for (const trireme::EngineTensorEntry& entry : (*engine)->tensors()) {
      const auto bytes = (*engine)->Bytes(entry.name);
      TRIREME_CHECK(bytes.ok());
      for (const std::byte b : *bytes) sum = sum + static_cast<unsigned>(b);
    }
  }
  ::close(fd);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the engine container. Every byte that an accepted file hands out is read.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/crc32c.h"
#include "formats/engine_file.h"

namespace {

// Gives the header the checksum it should have, so that what lies behind the check is reached.
void Seal(std::vector<uint8_t>& file) {
  uint64_t header_bytes = 0;
  if (file.size() < 24) return;
  std::memcpy(&header_bytes, file.data() + 16, sizeof(header_bytes));
  if (header_bytes > file.size() - 24) return;
  const uint32_t crc =
      trireme::Crc32c(std::as_bytes(std::span(file)).subspan(16, 8 + header_bytes));
  std::memcpy(file.data() + 12, &crc, sizeof(crc));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> file(data, data + size);
  Seal(file);
  const int fd = ::memfd_create("engine", 0);
  TRIREME_CHECK_GE(fd, 0);
  TRIREME_CHECK_EQ(::write(fd, file.data(), size), static_cast<ssize_t>(size));
  const auto engine = trireme::EngineFile::Open("/proc/self/fd/" + std::to_string(fd));
  if (engine.ok()) {
    volatile unsigned sum = 0;
    for (const char c : (*engine)->config_json()) sum = sum + static_cast<uint8_t>(c);
    for (const char c : (*engine)->plan_json()) sum = sum + static_cast<uint8_t>(c);
    for (const trireme::EngineTensorEntry& entry : (*engine)->tensors()) {
      const auto bytes = (*engine)->Bytes(entry.name);
      TRIREME_CHECK(bytes.ok());
      for (const std::byte b : *bytes) sum = sum + static_cast<unsigned>(b);
      sum = sum + static_cast<unsigned>((*engine)->Verify(entry.name).ok());
    }
  }
  ::close(fd);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// Fuzz target: a timing cache from elsewhere is read or refused.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "compile/timing_cache.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int fd = ::memfd_create("cache", 0);
  TRIREME_CHECK_GE(fd, 0);
  TRIREME_CHECK_EQ(::write(fd, data, size), static_cast<ssize_t>(size));
  trireme::compile::TimingCache cache("cpu");
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  if (cache.Load(path).ok()) (void)cache.Find("linear");
  ::close(fd);
  return 0;
}

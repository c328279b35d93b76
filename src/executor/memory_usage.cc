// SPDX-License-Identifier: Apache-2.0
#include "executor/memory_usage.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>

namespace trireme::executor {

int64_t ResidentMemoryBytes() {
  const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  char text[128] = {};
  const ssize_t size = read(file, text, sizeof(text) - 1);
  close(file);
  long long pages = 0;
  if (size <= 0 || std::sscanf(text, "%*s %lld", &pages) != 1) return 0;
  return pages * sysconf(_SC_PAGESIZE);
}

}  // namespace trireme::executor

// SPDX-License-Identifier: Apache-2.0
#include "base/memory_info.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "base/mapped_file.h"

namespace trireme {
namespace {

// The first decimal number at or after `from`.
std::optional<int64_t> NumberAfter(std::string_view text, size_t from) {
  const size_t begin = text.find_first_of("0123456789", from);
  if (begin == std::string_view::npos) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + begin, text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::optional<int64_t> NumberIn(const char* path, std::string_view key) {
  const StatusOr<std::string> text = ReadFile(path, 1 << 20);
  if (!text.ok()) return std::nullopt;
  const size_t at = text->find(key);
  if (at == std::string::npos) return std::nullopt;
  return NumberAfter(*text, at + key.size());
}

}  // namespace

int64_t AvailableMemoryBytes() {
  int64_t available = std::numeric_limits<int64_t>::max();
  if (const auto kilobytes = NumberIn("/proc/meminfo", "MemAvailable:")) {
    available = *kilobytes * 1024;
  }
  // "max" holds no digits, so a control group without a limit changes nothing.
  const auto limit = NumberIn("/sys/fs/cgroup/memory.max", "");
  const auto used = NumberIn("/sys/fs/cgroup/memory.current", "");
  if (limit && used) available = std::min(available, std::max<int64_t>(0, *limit - *used));
  return available;
}

int64_t ResidentMemoryBytes() {
  const StatusOr<std::string> text = ReadFile("/proc/self/statm", 1 << 12);
  if (!text.ok()) return 0;
  const size_t second = text->find(' ');
  if (second == std::string::npos) return 0;
  return NumberAfter(*text, second).value_or(0) * ::sysconf(_SC_PAGESIZE);
}

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
#include "progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace trireme::cli {
namespace {

using std::chrono::duration;

// "24.1 of 48.2 MB", "3 of 33 layers".
std::string Amounts(std::string_view unit, int64_t done, int64_t total) {
  if (unit != "bytes") return fmt::format("{} of {} {}", done, total, unit);
  return fmt::format("{:.1f} of {:.1f} MB", static_cast<double>(done) * 1e-6,
                     static_cast<double>(total) * 1e-6);
}

std::string Rate(std::string_view unit, double per_second) {
  if (unit != "bytes") return fmt::format("{:.0f} {}/s", per_second, unit);
  return fmt::format("{:.1f} MB/s", per_second * 1e-6);
}

}  // namespace

Progress::Progress() : terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  MutexLock lock(mutex_);
  if (open_line_) std::fputc('\n', stderr);
}

void Progress::Update(std::string_view stage, std::string_view unit, int64_t done, int64_t total) {
  MutexLock lock(mutex_);
  const Clock::time_point now = Clock::now();
  if (stage != stage_) {
    if (open_line_) std::fputc('\n', stderr);
    open_line_ = false;
    stage_ = stage;
    begin_ = now;
    printed_ = now;
  }
  const bool last = done >= total;
  const double wait_s = terminal_ ? 0.1 : 5.0;
  if (!last && duration<double>(now - printed_).count() < wait_s) return;
  printed_ = now;
  Print(unit, done, total, last);
}

void Progress::Print(std::string_view unit, int64_t done, int64_t total, bool last) {
  const double seconds = std::max(1e-3, duration<double>(Clock::now() - begin_).count());
  const double rate = static_cast<double>(done) / seconds;
  const double left_s = rate > 0 ? static_cast<double>(total - done) / rate : 0;
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1.0;
  const std::string tail = last ? fmt::format("in {:.1f} s", seconds)
                                : fmt::format("{}, {:.0f} s left", Rate(unit, rate), left_s);
  if (!terminal_) {
    fmt::print(stderr, "{}: {}, {}\n", stage_, Amounts(unit, done, total), tail);
    return;
  }
  constexpr int kBarWidth = 30;
  const int filled = static_cast<int>(share * kBarWidth);
  fmt::print(stderr, "\r\033[K{} [{}{}] {:3.0f} % {}", stage_, std::string(filled, '='),
             std::string(kBarWidth - filled, ' '), share * 100, tail);
  open_line_ = !last;
  if (last) std::fputc('\n', stderr);
  std::fflush(stderr);
}

}  // namespace trireme::cli

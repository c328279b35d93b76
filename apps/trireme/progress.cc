// SPDX-License-Identifier: Apache-2.0
#include "progress.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace trireme::cli {
namespace {

using std::chrono::duration;

std::string Amount(double value, const std::string& unit) {
  if (unit == "bytes") return fmt::format("{:.1f} MB", value / 1e6);
  return fmt::format("{:.0f} {}", value, unit);
}

}  // namespace

Progress::Progress(std::string_view unit) : unit_(unit), terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  MutexLock lock(mutex_);
  if (open_line_) std::fputc('\n', stderr);
}

void Progress::Update(std::string_view stage, int64_t done, int64_t total) {
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
  Print(done, total, last);
}

void Progress::Print(int64_t done, int64_t total, bool last) {
  const double seconds = std::max(1e-3, duration<double>(Clock::now() - begin_).count());
  const double rate = static_cast<double>(done) / seconds;
  const double left_s = rate > 0 ? static_cast<double>(total - done) / rate : 0;
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1.0;
  const std::string tail = last ? fmt::format("in {:.1f} s", seconds)
                                : fmt::format("{}/s, {:.0f} s left", Amount(rate, unit_), left_s);
  if (!terminal_) {
    fmt::print(stderr, "{}: {} of {}, {}\n", stage_, Amount(static_cast<double>(done), unit_),
               Amount(static_cast<double>(total), unit_), tail);
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

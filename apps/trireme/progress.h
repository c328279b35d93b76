// SPDX-License-Identifier: Apache-2.0
// Progress of long work on stderr: a bar with rate and time left on a terminal, plain lines about
// every five seconds elsewhere. Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/mutex.h"

namespace trireme::cli {

class Progress {
 public:
  Progress();
  ~Progress();

  // A new `stage` starts its own clock. `unit`: "bytes" are shown in MB.
  void Update(std::string_view stage, std::string_view unit, int64_t done, int64_t total);

 private:
  using Clock = std::chrono::steady_clock;

  void Print(std::string_view unit, int64_t done, int64_t total, bool last) REQUIRES(mutex_);

  const bool terminal_;
  Mutex mutex_;
  std::string stage_ GUARDED_BY(mutex_);
  Clock::time_point begin_ GUARDED_BY(mutex_);
  Clock::time_point printed_ GUARDED_BY(mutex_);
  bool open_line_ GUARDED_BY(mutex_) = false;
};

}  // namespace trireme::cli

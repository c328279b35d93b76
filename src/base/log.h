// SPDX-License-Identifier: Apache-2.0
// Logging: key=value lines on stderr through spdlog. Thread-safe. The logger is the one global.
//
//   LogInfo("engine_loaded path={} seconds={:.2f}", path, seconds);
//
// spdlog stays out of this header: it would take seconds of every file that logs.
#pragma once

#include <fmt/core.h>

#include <string_view>
#include <utility>

#include "base/status.h"

namespace trireme {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Lines under the level of SetLogLevel ("info" until then) are neither formatted nor written.
bool LogEnabled(LogLevel level);
void WriteLogLine(LogLevel level, std::string_view line);

// "trace", "debug" (also "verbose"), "info", "warning", "error" or "off".
Status SetLogLevel(std::string_view level);

template <typename... Args>
void Log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(level)) WriteLogLine(level, fmt::format(format, std::forward<Args>(args)...));
}

template <typename... Args>
void LogDebug(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kDebug, format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kInfo, format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogWarning(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kWarning, format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kError, format, std::forward<Args>(args)...);
}

}  // namespace trireme

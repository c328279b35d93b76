// SPDX-License-Identifier: Apache-2.0
// Logging: key=value lines on stderr through spdlog. Thread-safe. The logger is the one global.
//
//   LogInfo("engine_loaded path={} seconds={:.2f}", path, seconds);
#pragma once

#include <spdlog/spdlog.h>

#include <string_view>
#include <utility>

#include "base/status.h"

namespace trireme {

// The process-wide logger: writes to stderr, level "info" until SetLogLevel.
spdlog::logger& Logger();

// "trace", "debug" (also "verbose"), "info", "warning", "error" or "off".
Status SetLogLevel(std::string_view level);

template <typename... Args>
void LogDebug(fmt::format_string<Args...> format, Args&&... args) {
  Logger().debug(format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  Logger().info(format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogWarning(fmt::format_string<Args...> format, Args&&... args) {
  Logger().warn(format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) {
  Logger().error(format, std::forward<Args>(args)...);
}

}  // namespace trireme

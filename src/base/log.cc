// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>

#include "base/log_text.h"

namespace trireme {
namespace {

spdlog::logger& Logger() {
  // Leaked: threads may log while static objects are destroyed.
  static spdlog::logger* logger = [] {
    auto* made =
        new spdlog::logger("trireme", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
    made->flush_on(spdlog::level::warn);
    return made;
  }();
  return *logger;
}

spdlog::level::level_enum LevelOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: break;
  }
  return spdlog::level::err;
}

}  // namespace

bool LogEnabled(LogLevel level) { return Logger().should_log(LevelOf(level)); }

void WriteLogLine(LogLevel level, std::string_view line) {
  // What a message quotes may hold line feeds; a line of the log is one line all the same.
  std::string escaped;
  if (HasControls(line)) {
    escaped = EscapeControls(line);
    line = escaped;
  }
  Logger().log(LevelOf(level), spdlog::string_view_t(line.data(), line.size()));
}

Status SetLogLevel(std::string_view level) {
  if (level == "trace") {
    Logger().set_level(spdlog::level::trace);
  } else if (level == "debug" || level == "verbose") {
    Logger().set_level(spdlog::level::debug);
  } else if (level == "info") {
    Logger().set_level(spdlog::level::info);
  } else if (level == "warning" || level == "warn") {
    Logger().set_level(spdlog::level::warn);
  } else if (level == "error" || level == "internal_error") {
    Logger().set_level(spdlog::level::err);
  } else if (level == "off") {
    Logger().set_level(spdlog::level::off);
  } else {
    return InvalidArgument(
        "unknown log level '{}'; use trace, debug, verbose, info, warning, error or off", level);
  }
  return OkStatus();
}

}  // namespace trireme

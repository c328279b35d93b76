// SPDX-License-Identifier: Apache-2.0
#include "server/core/log_settings.h"

#include "base/log.h"
#include "base/status.h"

namespace trireme::server {
namespace {

constexpr char kFormat[] = "ISO8601";

Status ChangeOne(const std::string& key, const LogSetting& value, LogSettingMap& settings) {
  if (key == "log_file") {
    return Unimplemented("log file location can not be updated through network protocol");
  }
  const auto found = settings.find(key);
  if (found == settings.end()) return InvalidArgument("unknown log setting '{}'", key);
  if (found->second.index() != value.index()) {
    constexpr const char* kTypes[] = {"a boolean", "an unsigned integer", "a string"};
    return InvalidArgument("log setting '{}' takes {}", key, kTypes[found->second.index()]);
  }
  if (key == "log_format" && std::get<std::string>(value) != kFormat) {
    return InvalidArgument("log_format '{}' does not exist here; lines are always {}",
                           std::get<std::string>(value), kFormat);
  }
  found->second = value;
  return OkStatus();
}

}  // namespace

LogSettingMap CurrentLogSettings() {
  return {{"log_file", std::string()},
          {"log_info", LogEnabled(LogLevel::kInfo)},
          {"log_warning", LogEnabled(LogLevel::kWarning)},
          {"log_error", LogEnabled(LogLevel::kError)},
          {"log_verbose_level", LogEnabled(LogLevel::kDebug) ? 1u : 0u},
          {"log_format", std::string(kFormat)}};
}

Status ChangeLogSettings(const LogSettingMap& changes) {
  LogSettingMap settings = CurrentLogSettings();
  for (const auto& [key, value] : changes) {
    TRIREME_RETURN_IF_ERROR(ChangeOne(key, value, settings));
  }
  const bool info = std::get<bool>(settings["log_info"]);
  const bool warning = std::get<bool>(settings["log_warning"]);
  const bool error = std::get<bool>(settings["log_error"]);
  const uint32_t verbose = std::get<uint32_t>(settings["log_verbose_level"]);
  if ((info && !warning) || (warning && !error)) {
    return InvalidArgument(
        "levels form a ladder: log_info needs log_warning, and log_warning needs log_error");
  }
  // Verbose lines are below info, so they go when info goes; above 0 all numbers are one level.
  const char* level = "off";
  if (error) level = "error";
  if (warning) level = "warning";
  if (info) level = verbose > 0 ? "debug" : "info";
  return SetLogLevel(level);
}

}  // namespace trireme::server

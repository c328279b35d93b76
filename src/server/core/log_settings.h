// SPDX-License-Identifier: Apache-2.0
// The logging extension: reads and changes what the process logs. Thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>

#include "trireme/status.h"

namespace trireme::server {

using LogSetting = std::variant<bool, uint32_t, std::string>;
using LogSettingMap = std::map<std::string, LogSetting>;

// log_file, log_info, log_warning, log_error, log_verbose_level, log_format.
LogSettingMap CurrentLogSettings();

// All of `changes` or none. Levels form a ladder here: info needs warning, and warning needs error.
Status ChangeLogSettings(const LogSettingMap& changes);

}  // namespace trireme::server

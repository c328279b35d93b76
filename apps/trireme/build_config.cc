// SPDX-License-Identifier: Apache-2.0
#include "build_config.h"

#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "base/status.h"

namespace trireme::cli {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxBytes = 16 << 20;

// Members named otherwise than their flag.
constexpr std::pair<std::string_view, std::string_view> kOtherNames[] = {
    {"network_name", "model_name"},
    {"use_strip_plan", "strip_plan"},
};

class Reader {
 public:
  Reader(const std::string& path, const CommandLine& line) : path_(path), line_(line) {}

  Status ReadObject(const json& object, bool plugins) {
    for (const auto& [key, value] : object.items()) {
      if (key == "plugin_config" && value.is_object()) {
        TRIREME_RETURN_IF_ERROR(ReadObject(value, /*plugins=*/true));
      } else if (value.is_object()) {
        TRIREME_RETURN_IF_ERROR(CheckFeature(key, value));
      } else {
        TRIREME_RETURN_IF_ERROR(ReadMember(key, value, plugins));
      }
    }
    return OkStatus();
  }

  std::vector<std::string> TakeFlags() { return std::move(flags_); }

 private:
  Status ReadMember(const std::string& key, const json& value, bool plugins) {
    if (IsUnset(key, value, plugins)) return OkStatus();
    std::string name = key;
    for (const auto& [member, flag] : kOtherNames) {
      if (key == member) name = flag;
    }
    if (!line_.Knows("--" + name)) {
      return InvalidArgument("--build_config '{}': no flag is called '{}'", path_, key);
    }
    if (value.is_boolean() && line_.IsSwitch("--" + name)) {
      flags_.push_back("--" + name);
    } else if (value.is_boolean()) {
      flags_.push_back(fmt::format("--{}={}", name, value.get<bool>() ? "enable" : "disable"));
    } else if (value.is_number() || value.is_string()) {
      flags_.push_back(fmt::format("--{}={}", name,
                                   value.is_string() ? value.get<std::string>() : value.dump()));
    } else {
      return InvalidArgument("--build_config '{}': '{}' must be a number, a text or a boolean",
                             path_, key);
    }
    return OkStatus();
  }

  // What the file writes for an option that nobody chose.
  static bool IsUnset(const std::string& key, const json& value, bool plugins) {
    if (value.is_null() || value == "") return true;
    if (value.is_boolean() && !value.get<bool>() && !plugins) return true;
    if (key == "speculative_decoding_mode") return value == 1 || value == "NONE";
    // The dtype of plugins is the checkpoint's, in the reference too.
    return plugins && key == "dtype";
  }

  // Objects describe features; those that are off hold only defaults.
  Status CheckFeature(const std::string& key, const json& object) const {
    const auto is = [&](const char* member, const json& wanted) {
      const auto found = object.find(member);
      return found == object.end() || *found == wanted;
    };
    if (key == "lora_config" && is("lora_dir", json::array())) return OkStatus();
    if (key == "auto_parallel_config" && is("enabled", false) && is("world_size", 1)) {
      return OkStatus();
    }
    return Unimplemented("--build_config '{}': '{}' belongs to a feature that does not exist yet",
                         path_, key);
  }

  const std::string& path_;
  const CommandLine& line_;
  std::vector<std::string> flags_;
};

}  // namespace

StatusOr<std::vector<std::string>> FlagsOfBuildConfig(const std::string& path,
                                                      const CommandLine& line) {
  StatusOr<std::string> text = ReadFile(path, kMaxBytes);
  if (!text.ok()) return text.status().WithContext("--build_config");
  const json root = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!root.is_object()) {
    return InvalidArgument("--build_config '{}' is not a JSON object", path);
  }
  const auto nested = root.find("build_config");
  const bool whole_engine = nested != root.end() && nested->is_object();
  Reader reader(path, line);
  TRIREME_RETURN_IF_ERROR(reader.ReadObject(whole_engine ? *nested : root, /*plugins=*/false));
  return reader.TakeFlags();
}

}  // namespace trireme::cli

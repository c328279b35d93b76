// SPDX-License-Identifier: Apache-2.0
// trireme fill-template: puts values for the ${...} of a config.pbtxt. Replaces fill_template.py.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/mapped_file.h"
#include "base/status.h"
#include "cli.h"
#include "commands.h"

namespace trireme::cli {
namespace {

constexpr std::string_view kName = "fill-template";

// Filled when the command line does not say otherwise.
const std::map<std::string, std::string> kDefaults = {{"max_queue_delay_microseconds", "0"},
                                                      {"max_queue_size", "0"}};

// Of templates before; nothing here needs them.
constexpr std::pair<std::string_view, std::string_view> kRetired[] = {
    {"tokenizer_type", "the tokenizer's files say what it is"},
    {"enable_trt_overlap", "steps always overlap"},
    {"max_num_sequences", "the engine's max_batch_size decides"},
    {"lora_cache_host_memory_bytes", "there are no adapters at run time"},
};

// Up to the next `separator` that no backslash stands before; the backslash before one goes.
std::string TakeUntil(std::string_view& text, char separator) {
  std::string taken;
  while (!text.empty() && text.front() != separator) {
    const bool escaped =
        text.size() > 1 && text.front() == '\\' && (text[1] == ',' || text[1] == ':');
    if (escaped) text.remove_prefix(1);
    taken += text.front();
    text.remove_prefix(1);
  }
  return taken;
}

// "key:value,key:value"; \, and \: stand for themselves, and further colons belong to the value.
StatusOr<std::map<std::string, std::string>> ParseSubstitutions(std::string_view text) {
  std::map<std::string, std::string> values;
  while (!text.empty()) {
    std::string_view rest = text;
    std::string key = TakeUntil(rest, ':');
    const bool has_colon = !rest.empty();
    const size_t comma = text.find(',');
    if (!has_colon || key.find(',') != std::string::npos) {
      return InvalidArgument(
          "'{}' has no ':'; substitutions are KEY:VALUE,KEY:VALUE, and a comma inside a value is "
          "written \\,",
          text.substr(0, comma));
    }
    rest.remove_prefix(1);
    values[key] = TakeUntil(rest, ',');
    if (!rest.empty()) rest.remove_prefix(1);
    text = rest;
  }
  return values;
}

bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// Replaces ${key} and $key, as Python's string.Template does; unknown keys stay. `seen` gathers the
// keys of the template.
std::string Substitute(std::string_view text, const std::map<std::string, std::string>& values,
                       std::map<std::string, bool>& seen) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (text[at] != '$') {
      out += text[at++];
      continue;
    }
    const bool braced = at + 1 < text.size() && text[at + 1] == '{';
    const size_t begin = at + (braced ? 2 : 1);
    size_t end = begin;
    while (end < text.size() && IsWord(text[end])) ++end;
    const bool is_key = end > begin && std::isdigit(static_cast<unsigned char>(text[begin])) == 0 &&
                        (!braced || (end < text.size() && text[end] == '}'));
    const std::string key(text.substr(begin, end - begin));
    const size_t next = is_key ? end + (braced ? 1 : 0) : at + 1;
    if (is_key) seen[key] = true;
    const auto value = values.find(key);
    if (is_key && value != values.end()) {
      out += value->second;
    } else {
      out += text.substr(at, next - at);
    }
    at = next;
  }
  return out;
}

// Every key given must be in the template; the nearest that is there is named.
Status CheckKeys(const std::map<std::string, std::string>& given,
                 const std::map<std::string, bool>& seen, const std::string& file) {
  for (const auto& [key, value] : given) {
    if (seen.count(key) > 0) continue;
    const auto retired = std::ranges::find(kRetired, std::string_view(key),
                                           &std::pair<std::string_view, std::string_view>::first);
    if (retired != std::end(kRetired)) {
      fmt::print(stderr, "trireme {}: {} has no '{}' and needs none: {}\n", kName, file, key,
                 retired->second);
      continue;
    }
    std::string nearest;
    int best = 1 << 20;
    for (const auto& [other, unused] : seen) {
      const int distance = EditDistance(key, other);
      if (distance < best) {
        best = distance;
        nearest = other;
      }
    }
    return InvalidArgument(
        "{} has no ${{{}}}{}", file, key,
        nearest.empty() ? "; it holds none at all" : "; did you mean ${" + nearest + "}?");
  }
  return OkStatus();
}

// Replaces the file in one step; its permissions stay.
Status Replace(const std::string& file, const std::string& text) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path target = fs::weakly_canonical(file, error);
  const fs::path temporary = target.string() + ".filling";
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  if (!out) {
    fs::remove(temporary, error);
    return Unavailable("cannot write {}", temporary.string());
  }
  const auto permissions = fs::status(target, error).permissions();
  if (!error) fs::permissions(temporary, permissions, error);
  fs::rename(temporary, target, error);
  if (!error) return OkStatus();
  const Status failed = ErrnoStatus(error.value(), "cannot replace " + target.string());
  fs::remove(temporary, error);
  return failed;
}

Status Fill(const std::string& file, const std::string& substitutions, bool in_place) {
  TRIREME_ASSIGN_OR_RETURN(const auto given, ParseSubstitutions(substitutions));
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(file, 64 << 20));
  std::map<std::string, std::string> values = kDefaults;
  for (const auto& [key, value] : given) values[key] = value;
  std::map<std::string, bool> seen;
  const std::string filled = Substitute(text, values, seen);
  TRIREME_RETURN_IF_ERROR(CheckKeys(given, seen, file));
  if (in_place) return Replace(file, filled);
  fmt::print("{}", filled);
  return OkStatus();
}

}  // namespace

int RunFillTemplate(std::span<const std::string> arguments) {
  std::string file;
  std::string substitutions;
  bool in_place = false;
  CommandLine line(kName, "Put values for the ${...} of a model configuration.",
                   {"trireme fill-template -i repo/preprocessing/config.pbtxt "
                    "tokenizer_dir:/models/qwen2,triton_max_batch_size:8"});
  line.AddSwitch("-i,--in_place", in_place, "change the file; else the result is printed");
  line.AddPositional("file", file, "a config.pbtxt");
  line.AddPositional("substitutions", substitutions,
                     "KEY:VALUE,KEY:VALUE; \\, and \\: stand for a comma and a colon in a value");
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (file.empty() || substitutions.empty()) {
    return FailUsage(kName, InvalidArgument("give a file and KEY:VALUE,KEY:VALUE"));
  }
  const Status status = Fill(file, substitutions, in_place);
  return status.ok() ? kExitOk : Fail(kName, status);
}

}  // namespace trireme::cli

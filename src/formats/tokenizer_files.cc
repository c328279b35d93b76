// SPDX-License-Identifier: Apache-2.0
#include "formats/tokenizer_files.h"

#include <filesystem>

namespace trireme {
namespace {

constexpr const char* kNames[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
};

bool IsTokenizerFile(const std::filesystem::path& path) {
  for (const char* name : kNames) {
    if (path.filename() == name) return true;
  }
  return path.extension() == ".tiktoken";
}

}  // namespace

Status CopyTokenizerFiles(const std::string& from, const std::string& to) {
  std::error_code error;
  std::filesystem::directory_iterator entries(from, error);
  if (error) return ErrnoStatus(error.value(), "cannot list '" + from + "'");
  for (const std::filesystem::directory_entry& entry : entries) {
    if (!IsTokenizerFile(entry.path()) || !entry.is_regular_file(error)) continue;
    const std::filesystem::path target = std::filesystem::path(to) / entry.path().filename();
    if (std::filesystem::equivalent(entry.path(), target, error)) continue;
    std::filesystem::copy_file(entry.path(), target,
                               std::filesystem::copy_options::overwrite_existing, error);
    if (error) return ErrnoStatus(error.value(), "cannot copy to '" + target.string() + "'");
  }
  return OkStatus();
}

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
// Tokenizer::Load: picks the layout of a model folder. No state.
#include "trireme/tokenizer.h"

#include <filesystem>

#include "base/mapped_file.h"
#include "base/status.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"

namespace trireme {
namespace {

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

StatusOr<TokenizerParts> LoadParts(const std::string& dir) {
  const std::string json_path = dir + "/tokenizer.json";
  if (Exists(json_path)) {
    TRIREME_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(json_path));
    StatusOr<TokenizerParts> parts = ParseTokenizerJson(file.text());
    if (!parts.ok()) return parts.status().WithContext(json_path);
    return parts;
  }
  return NotFound(
      "{}: no tokenizer found; wanted tokenizer.json, vocab.json with merges.txt, or "
      "tokenizer.model",
      dir);
}

}  // namespace

StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& dir) {
  TRIREME_ASSIGN_OR_RETURN(const TokenizerConfig config, ReadTokenizerConfig(dir));
  TRIREME_ASSIGN_OR_RETURN(TokenizerParts parts, LoadParts(dir));
  TRIREME_RETURN_IF_ERROR(ApplyTokenizerConfig(config, parts));
  return MakePipeline(std::move(parts));
}

}  // namespace trireme

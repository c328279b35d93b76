// SPDX-License-Identifier: Apache-2.0
// Tokenizer::Load: picks the layout of a model folder. No state.
#include "trireme/tokenizer.h"

#include <filesystem>

#include "base/mapped_file.h"
#include "base/status.h"
#include "text/sentencepiece.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"
#include "text/vocab_files.h"

namespace trireme {
namespace {

bool Exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

// The one file of `dir` with this ending, "" when there is none.
std::string FileWithEnding(const std::string& dir, std::string_view ending) {
  std::error_code error;
  std::string found;
  for (std::filesystem::directory_iterator at(dir, error), end; !error && at != end;
       at.increment(error)) {
    const std::string path = at->path().string();
    if (path.ends_with(ending) && (found.empty() || path < found)) found = path;
  }
  return found;
}

template <typename Parse>
StatusOr<TokenizerParts> ParseFile(const std::string& path, Parse parse) {
  TRIREME_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  StatusOr<TokenizerParts> parts = parse(file.text());
  if (!parts.ok()) return parts.status().WithContext(path);
  return parts;
}

StatusOr<TokenizerParts> LoadParts(const std::string& dir, const TokenizerConfig& config) {
  if (const std::string path = dir + "/tokenizer.json"; Exists(path))
    return ParseFile(path, ParseTokenizerJson);
  if (const std::string vocab = dir + "/vocab.json", merges = dir + "/merges.txt";
      Exists(vocab) && Exists(merges)) {
    TRIREME_ASSIGN_OR_RETURN(const MappedFile merges_file, MappedFile::Open(merges));
    return ParseFile(vocab, [&](std::string_view text) {
      return ParseVocabAndMerges(text, merges_file.text(), config);
    });
  }
  for (const char* name : {"/tokenizer.model", "/spiece.model", "/sentencepiece.bpe.model"}) {
    if (!Exists(dir + name)) continue;
    return ParseFile(dir + name, [&](std::string_view bytes) -> StatusOr<TokenizerParts> {
      if (LooksLikeTiktoken(bytes)) return ParseTiktoken(bytes, config);
      return ParseSentencePiece(bytes, {.prefix_each_part = config.legacy.value_or(true)});
    });
  }
  if (const std::string path = FileWithEnding(dir, ".tiktoken"); !path.empty())
    return ParseFile(path, [&](std::string_view text) { return ParseTiktoken(text, config); });
  if (const std::string path = dir + "/vocab.txt"; Exists(path))
    return ParseFile(path, [&](std::string_view text) { return ParseVocabText(text, config); });
  return NotFound(
      "{}: no tokenizer found; wanted tokenizer.json, vocab.json with merges.txt, tokenizer.model, "
      "a .tiktoken file or vocab.txt",
      dir);
}

}  // namespace

StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Load(const std::string& dir) {
  TRIREME_ASSIGN_OR_RETURN(const TokenizerConfig config, ReadTokenizerConfig(dir));
  TRIREME_ASSIGN_OR_RETURN(TokenizerParts parts, LoadParts(dir, config));
  TRIREME_RETURN_IF_ERROR(ApplyTokenizerConfig(config, parts));
  return MakePipeline(std::move(parts));
}

}  // namespace trireme

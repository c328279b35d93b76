// SPDX-License-Identifier: Apache-2.0
#include "formats/text_dataset.h"

#include <algorithm>
#include <filesystem>

#include "base/mapped_file.h"
#include "formats/json_text.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxTextBytes = size_t{64} << 20;  // read of one plain file
constexpr size_t kMaxLineBytes = size_t{8} << 20;   // of JSON

bool IsJsonLines(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".jsonl" || extension == ".ndjson" || extension == ".json";
}

bool IsPlainText(const fs::path& path) {
  const std::string extension = path.extension().string();
  return extension == ".txt" || extension == ".text" || extension == ".md";
}

class Reader {
 public:
  explicit Reader(const TextDatasetOptions& options) : options_(options) {}

  Status ReadFile(const fs::path& path) {
    if (path.extension() == ".parquet") {
      return Unimplemented(
          "'{}': parquet files are not read yet; write the text column as JSON lines",
          path.string());
    }
    TRIREME_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path.string()));
    if (IsJsonLines(path)) return ReadLines(file.text(), path.string());
    if (options_.wants_targets) {
      return InvalidArgument(
          "'{}' is no JSON lines (.jsonl, .ndjson or .json) of texts and summaries", path.string());
    }
    std::string_view text = file.text().substr(0, kMaxTextBytes);
    // A code point that the limit cut in two is left out.
    while (text.size() == kMaxTextBytes && (text.back() & 0x80) != 0) text.remove_suffix(1);
    Add(std::string(text), /*is_whole_file=*/true, {});
    return OkStatus();
  }

  Status ReadFolder(const fs::path& folder) {
    std::error_code error;
    std::vector<fs::path> files;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
      const fs::path& path = it->path();
      if (IsJsonLines(path) || IsPlainText(path) || path.extension() == ".parquet") {
        files.push_back(path);
      }
    }
    if (error) return InvalidArgument("'{}': {}", folder.string(), error.message());
    std::sort(files.begin(), files.end());
    for (const fs::path& path : files) {
      if (IsFull()) break;
      TRIREME_RETURN_IF_ERROR(ReadFile(path));
    }
    return OkStatus();
  }

  std::vector<TextRecord> Take() { return std::move(records_); }

 private:
  bool IsFull() const {
    return options_.max_records > 0 &&
           static_cast<int64_t>(records_.size()) >= options_.max_records;
  }

  void Add(std::string text, bool is_whole_file, std::vector<std::string> targets) {
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) return;
    records_.push_back({std::move(text), is_whole_file, std::move(targets)});
  }

  Status ReadLines(std::string_view text, const std::string& path) {
    int64_t number = 0;
    while (!text.empty() && !IsFull()) {
      const size_t end = std::min(text.find('\n'), text.size());
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(std::min(end + 1, text.size()));
      ++number;
      if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
      TRIREME_RETURN_IF_ERROR(ReadLine(line, fmt::format("'{}' line {}", path, number)));
    }
    return OkStatus();
  }

  Status ReadLine(std::string_view line, const std::string& what) {
    if (line.size() > kMaxLineBytes) {
      return InvalidArgument("{} has {} bytes, at most {} are read", what, line.size(),
                             kMaxLineBytes);
    }
    TRIREME_ASSIGN_OR_RETURN(const nlohmann::json value, ParseJson(line, what));
    if (!value.is_object()) {
      return InvalidArgument("{} is {}, expected an object with a text column", what,
                             JsonTypeName(value));
    }
    const nlohmann::json* text = Find(
        value, options_.column,
        options_.wants_targets ? Names{"article", "document", "text"} : Names{"text", "article"});
    if (text == nullptr || !text->is_string()) {
      return InvalidArgument("{} has no text in column {}; name it with {}", what,
                             !options_.column.empty() ? "'" + options_.column + "'"
                             : options_.wants_targets ? "'article', 'document' or 'text'"
                                                      : "'text' or 'article'",
                             options_.column_flag);
    }
    std::vector<std::string> targets;
    if (options_.wants_targets) {
      TRIREME_ASSIGN_OR_RETURN(targets, ReadTargets(value, what));
    }
    Add(text->get<std::string>(), /*is_whole_file=*/false, std::move(targets));
    return OkStatus();
  }

  StatusOr<std::vector<std::string>> ReadTargets(const nlohmann::json& line,
                                                 const std::string& what) {
    const nlohmann::json* value =
        Find(line, options_.target_column, {"highlights", "summary", "summaries"});
    std::vector<std::string> targets;
    if (value != nullptr && value->is_string()) targets.push_back(value->get<std::string>());
    if (value != nullptr && value->is_array()) {
      for (const nlohmann::json& target : *value) {
        if (!target.is_string()) {
          return InvalidArgument("{}: a summary is {}, expected a text", what,
                                 JsonTypeName(target));
        }
        targets.push_back(target.get<std::string>());
      }
    }
    if (targets.empty()) {
      return InvalidArgument("{} has no summary in column {}; name it with --summary_column", what,
                             options_.target_column.empty()
                                 ? "'highlights', 'summary' or 'summaries'"
                                 : "'" + options_.target_column + "'");
    }
    return targets;
  }

  // The value of the key `given`, or of the first of `usual` there is; null: none.
  using Names = std::initializer_list<const char*>;
  static const nlohmann::json* Find(const nlohmann::json& line, const std::string& given,
                                    Names usual) {
    if (!given.empty()) return line.contains(given) ? &line[given] : nullptr;
    for (const char* name : usual) {
      if (line.contains(name)) return &line[name];
    }
    return nullptr;
  }

  const TextDatasetOptions& options_;
  std::vector<TextRecord> records_;
};

}  // namespace

StatusOr<std::vector<TextRecord>> ReadTextDataset(const std::string& path,
                                                  const TextDatasetOptions& options) {
  std::error_code error;
  if (!fs::exists(path, error)) {
    return NotFound(
        "'{}' is neither a file nor a folder; give local text (nothing is downloaded): a text "
        "file, JSON lines, or a folder of them",
        path);
  }
  Reader reader(options);
  TRIREME_RETURN_IF_ERROR(fs::is_directory(path, error) ? reader.ReadFolder(path)
                                                        : reader.ReadFile(path));
  std::vector<TextRecord> records = reader.Take();
  if (records.empty()) return InvalidArgument("'{}' holds no text", path);
  return records;
}

}  // namespace trireme

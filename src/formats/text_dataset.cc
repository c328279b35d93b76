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
    std::string_view text = file.text().substr(0, kMaxTextBytes);
    // A code point that the limit cut in two is left out.
    while (text.size() == kMaxTextBytes && (text.back() & 0x80) != 0) text.remove_suffix(1);
    Add(std::string(text), /*is_whole_file=*/true);
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

  void Add(std::string text, bool is_whole_file) {
    if (text.find_first_not_of(" \t\r\n") == std::string::npos) return;
    records_.push_back({std::move(text), is_whole_file});
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
    auto column = value.find(options_.column.empty() ? "text" : options_.column);
    if (column == value.end() && options_.column.empty()) column = value.find("article");
    if (column == value.end() || !column->is_string()) {
      return InvalidArgument(
          "{} has no text in column {}; name it with --calib_text_column", what,
          options_.column.empty() ? "'text' or 'article'" : "'" + options_.column + "'");
    }
    Add(column->get<std::string>(), /*is_whole_file=*/false);
    return OkStatus();
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

// SPDX-License-Identifier: Apache-2.0
#include "text/splitter.h"

#include "text/regex.h"
#include "text/scanner.h"

namespace trireme {
namespace {

class RegexSplitter : public Splitter {
 public:
  explicit RegexSplitter(std::unique_ptr<Regex> regex) : regex_(std::move(regex)) {}
  Status FindAll(std::string_view text, std::vector<Span>& matches) const override {
    return regex_->FindAll(text, matches);
  }

 private:
  std::unique_ptr<Regex> regex_;
};

class ScannerSplitter : public Splitter {
 public:
  explicit ScannerSplitter(const ScannerStyle& style) : style_(style) {}
  Status FindAll(std::string_view text, std::vector<Span>& matches) const override {
    Scan(style_, text, matches);
    return OkStatus();
  }
  bool covers_all() const override { return true; }

 private:
  ScannerStyle style_;
};

class LiteralSplitter : public Splitter {
 public:
  explicit LiteralSplitter(std::string_view literal) : literal_(literal) {}
  Status FindAll(std::string_view text, std::vector<Span>& matches) const override {
    if (literal_.empty()) return OkStatus();
    for (size_t at = text.find(literal_); at != text.npos;
         at = text.find(literal_, at + literal_.size()))
      matches.push_back({static_cast<uint32_t>(at), static_cast<uint32_t>(at + literal_.size())});
    return OkStatus();
  }

 private:
  std::string literal_;
};

}  // namespace

const std::string_view kByteLevelPattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

StatusOr<std::unique_ptr<Splitter>> MakeRegexSplitter(std::string_view pattern) {
  if (const std::optional<ScannerStyle> style = RecognizeScanner(pattern))
    return std::unique_ptr<Splitter>(std::make_unique<ScannerSplitter>(*style));
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<Regex> regex, Regex::Compile(pattern));
  return std::unique_ptr<Splitter>(std::make_unique<RegexSplitter>(std::move(regex)));
}

std::unique_ptr<Splitter> MakeLiteralSplitter(std::string_view literal) {
  return std::make_unique<LiteralSplitter>(literal);
}

}  // namespace trireme

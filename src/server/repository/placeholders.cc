// SPDX-License-Identifier: Apache-2.0
#include "server/repository/placeholders.h"

#include <fmt/format.h>

#include <cctype>

namespace trireme::server {
namespace {

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool IsWord(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// Copies protobuf text to `out`, token by token, and takes fields back out of it.
class Cleaner {
 public:
  Cleaner(std::string_view text, std::vector<std::string>& warnings)
      : text_(text), warnings_(warnings) {}

  std::string Run() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '#') {
        CopyUntil(text_.find('\n', at_));
      } else if (c == '"' || c == '\'') {
        CopyString(c);
      } else if (c == '$' && at_ + 1 < text_.size() && text_[at_ + 1] == '{') {
        Placeholder();
      } else {
        if (c == '\n') ++line_;
        out_ += c;
        ++at_;
      }
    }
    return std::move(out_);
  }

 private:
  void CopyUntil(size_t end) {
    end = std::min(end, text_.size());
    out_.append(text_.substr(at_, end - at_));
    at_ = end;
  }

  void CopyString(char quote) {
    size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote && text_[end] != '\n') {
      end += text_[end] == '\\' ? 2 : 1;
    }
    const std::string_view inside = text_.substr(at_, std::min(end, text_.size()) - at_);
    if (HasPlaceholder(inside)) {
      warnings_.push_back(fmt::format("line {}: {} was never filled in; taken as unset", line_,
                                      inside.substr(inside.find("${"))));
    }
    CopyUntil(end + 1);
  }

  void Placeholder() {
    const size_t end = std::min(text_.find('}', at_), text_.size());
    const std::string key(text_.substr(at_ + 2, end - std::min(end, at_ + 2)));
    at_ = std::min(end + 1, text_.size());
    while (!out_.empty() && IsSpace(out_.back()) && out_.back() != '\n') out_.pop_back();
    const std::string field = !out_.empty() && out_.back() == ':' ? TakeField() : "";
    warnings_.push_back(fmt::format("line {}: {}${{{}}} was never filled in; taken as unset", line_,
                                    field.empty() ? "" : field + ": ", key));
    if (field == "data_type") {
      out_ +=
          key.find("logits") != std::string::npos ? "data_type: TYPE_FP32" : "data_type: TYPE_FP16";
    } else if (field.empty()) {
      TakeListElement();
    } else {
      SkipSeparator();
    }
  }

  // Removes "name:" from the end of the output and gives the name.
  std::string TakeField() {
    out_.pop_back();
    while (!out_.empty() && IsSpace(out_.back())) out_.pop_back();
    size_t begin = out_.size();
    while (begin > 0 && IsWord(out_[begin - 1])) --begin;
    const std::string field = out_.substr(begin);
    out_.resize(begin);
    out_ += ' ';
    return field;
  }

  // In "[a, ${x}, b]" one comma goes with the element.
  void TakeListElement() {
    if (SkipSeparator()) return;
    size_t end = out_.size();
    while (end > 0 && IsSpace(out_[end - 1])) --end;
    if (end > 0 && out_[end - 1] == ',') out_.resize(end - 1);
  }

  bool SkipSeparator() {
    size_t next = at_;
    while (next < text_.size() && IsSpace(text_[next])) ++next;
    if (next >= text_.size() || (text_[next] != ',' && text_[next] != ';')) return false;
    for (; at_ < next; ++at_) out_ += text_[at_];
    ++at_;
    return true;
  }

  const std::string_view text_;
  std::vector<std::string>& warnings_;
  std::string out_;
  size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

bool HasPlaceholder(std::string_view text) {
  const size_t begin = text.find("${");
  return begin != std::string_view::npos && text.find('}', begin) != std::string_view::npos;
}

std::string RemovePlaceholders(std::string_view text, std::vector<std::string>& warnings) {
  return Cleaner(text, warnings).Run();
}

}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
#include "text/stop_matcher.h"

#include <algorithm>

namespace trireme {

StopMatcher::StopMatcher(const std::vector<std::string>& stops) {
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty()) continue;
    Pattern pattern{static_cast<int>(i), stops[i], std::vector<uint32_t>(stops[i].size() + 1, 0)};
    uint32_t border = 0;
    for (size_t k = 1; k < pattern.text.size(); ++k) {
      while (border > 0 && pattern.text[k] != pattern.text[border])
        border = pattern.fallback[border];
      if (pattern.text[k] == pattern.text[border]) ++border;
      pattern.fallback[k + 1] = border;
    }
    starts_[static_cast<uint8_t>(pattern.text[0])] = true;
    patterns_.push_back(std::move(pattern));
  }
}

int StopMatcher::Append(std::string_view text, std::string& out) {
  const auto starts = [this](char c) { return starts_[static_cast<uint8_t>(c)]; };
  if (held_.empty() && std::none_of(text.begin(), text.end(), starts)) {
    out.append(text);
    return -1;
  }
  const size_t before = held_.size();
  held_.append(text);
  for (size_t i = before; i < held_.size(); ++i) {
    const Pattern* complete = nullptr;
    for (Pattern& pattern : patterns_) {
      while (pattern.matched > 0 && pattern.text[pattern.matched] != held_[i])
        pattern.matched = pattern.fallback[pattern.matched];
      if (pattern.text[pattern.matched] == held_[i]) ++pattern.matched;
      if (pattern.matched < pattern.text.size()) continue;
      if (complete == nullptr || pattern.text.size() > complete->text.size()) complete = &pattern;
    }
    if (complete == nullptr) continue;
    out.append(held_, 0, i + 1 - complete->text.size());
    held_.clear();
    return complete->index;
  }
  size_t keep = 0;
  for (const Pattern& pattern : patterns_) keep = std::max<size_t>(keep, pattern.matched);
  // Only whole code points leave: what is held back may begin in the middle of one.
  while (keep < held_.size() && (static_cast<uint8_t>(held_[held_.size() - keep]) & 0xc0) == 0x80 &&
         keep > 0)
    ++keep;
  out.append(held_, 0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return -1;
}

void StopMatcher::Finish(std::string& out) {
  out.append(held_);
  held_.clear();
}

}  // namespace trireme

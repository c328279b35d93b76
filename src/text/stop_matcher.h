// SPDX-License-Identifier: Apache-2.0
// Finds the first stop string completed in a text that grows. One thread at a time.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace trireme {

class StopMatcher {
 public:
  explicit StopMatcher(const std::vector<std::string>& stops);

  // Feeds text; appends to `out` what can no longer be part of a stop string. Returns the index of
  // the stop string that is first complete (of several that end together the longest), or -1; then
  // `out` ends right before it and the rest of the text is dropped.
  int Append(std::string_view text, std::string& out);
  // Appends what was held back.
  void Finish(std::string& out);
  bool empty() const { return patterns_.empty(); }

 private:
  struct Pattern {
    int index;
    std::string text;
    std::vector<uint32_t> fallback;  // Knuth-Morris-Pratt: longest border of each prefix
    uint32_t matched = 0;
  };
  std::vector<Pattern> patterns_;
  bool starts_[256] = {};  // the first bytes of the patterns
  std::string held_;       // the longest end of the text that begins a stop string
};

}  // namespace trireme

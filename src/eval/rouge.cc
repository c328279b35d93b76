// SPDX-License-Identifier: Apache-2.0
#include "eval/rouge.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "base/check.h"
#include "eval/porter_stemmer.h"

namespace trireme::eval {
namespace {

using Words = std::vector<int>;  // words as numbers of one vocabulary
using Counts = std::unordered_map<uint64_t, int64_t>;

// Splits texts into words and numbers the words, the same for all texts of one comparison.
class Splitter {
 public:
  explicit Splitter(bool use_stemmer) : use_stemmer_(use_stemmer) {}

  Words Split(std::string_view text) {
    Words words;
    std::string word;
    const auto finish = [&] {
      if (!word.empty()) words.push_back(NumberOf(std::move(word)));
      word.clear();
    };
    for (size_t i = 0; i < text.size(); ++i) {
      const char c = text[i];
      if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) {
        word += c;
      } else if (c >= 'A' && c <= 'Z') {
        word += static_cast<char>(c - 'A' + 'a');
      } else if (text.substr(i, 3) == "\u212a") {  // KELVIN SIGN, whose lower case is k
        word += 'k';
        i += 2;
      } else if (text.substr(i, 2) == "\u0130") {  // I WITH DOT ABOVE: i and a combining dot
        word += 'i';
        finish();
        i += 1;
      } else {
        finish();
      }
    }
    finish();
    return words;
  }

  std::vector<Words> SplitLines(std::string_view text) {
    std::vector<Words> lines;
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      if (end > begin) lines.push_back(Split(text.substr(begin, end - begin)));
      begin = end + 1;
    }
    return lines;
  }

 private:
  int NumberOf(std::string word) {
    if (use_stemmer_ && word.size() > 3) word = PorterStem(word);
    return numbers_.try_emplace(std::move(word), static_cast<int>(numbers_.size())).first->second;
  }

  const bool use_stemmer_;
  std::unordered_map<std::string, int> numbers_;
};

RougeScore ScoreOf(int64_t hits, size_t num_target, size_t num_prediction) {
  RougeScore score;
  score.precision =
      static_cast<double>(hits) / static_cast<double>(std::max<size_t>(num_prediction, 1));
  score.recall = static_cast<double>(hits) / static_cast<double>(std::max<size_t>(num_target, 1));
  const double sum = score.precision + score.recall;
  if (sum > 0.0) score.fmeasure = 2.0 * score.precision * score.recall / sum;
  return score;
}

Counts CountWords(const Words& words) {
  Counts counts;
  for (int word : words) ++counts[static_cast<uint64_t>(word)];
  return counts;
}

Counts CountPairs(const Words& words) {
  Counts counts;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    ++counts[static_cast<uint64_t>(words[i]) << 32 | static_cast<uint64_t>(words[i + 1])];
  }
  return counts;
}

int64_t NumShared(const Counts& target, const Counts& prediction) {
  int64_t shared = 0;
  for (const auto& [gram, count] : target) {
    const auto found = prediction.find(gram);
    if (found != prediction.end()) shared += std::min(count, found->second);
  }
  return shared;
}

int64_t LcsLength(const Words& a, const Words& b) {
  std::vector<int64_t> row(b.size() + 1, 0);
  for (int word : a) {
    int64_t diagonal = 0;
    for (size_t j = 1; j <= b.size(); ++j) {
      const int64_t above = row[j];
      row[j] = word == b[j - 1] ? diagonal + 1 : std::max(above, row[j - 1]);
      diagonal = above;
    }
  }
  return row.back();
}

// Marks in `in_lcs` the places of `target` that belong to its longest common subsequence with
// `prediction`: of several the one found from the end, a tie drops a word of the target. A byte per
// cell says where its path came from.
void MarkLcs(const Words& target, const Words& prediction, std::vector<bool>& in_lcs) {
  enum Step : uint8_t { kBoth, kDropTarget, kDropPrediction };
  const size_t columns = prediction.size();
  std::vector<uint8_t> steps(target.size() * columns);
  std::vector<int> row(columns + 1, 0);
  for (size_t i = 0; i < target.size(); ++i) {
    int diagonal = 0;
    for (size_t j = 1; j <= columns; ++j) {
      const int above = row[j];
      if (target[i] == prediction[j - 1]) {
        row[j] = diagonal + 1;
        steps[i * columns + j - 1] = kBoth;
      } else {
        steps[i * columns + j - 1] = row[j - 1] > above ? kDropPrediction : kDropTarget;
        row[j] = std::max(above, row[j - 1]);
      }
      diagonal = above;
    }
  }
  for (size_t i = target.size(), j = columns; i > 0 && j > 0;) {
    const uint8_t step = steps[(i - 1) * columns + j - 1];
    if (step == kBoth) in_lcs[i - 1] = true;
    if (step != kDropPrediction) --i;
    if (step != kDropTarget) --j;
  }
}

// Each line of the target against all lines of the prediction; a word hits no more often than
// either text has it.
RougeScore ScoreSummary(const std::vector<Words>& target, const std::vector<Words>& prediction) {
  Counts target_left;
  Counts prediction_left;
  size_t num_target = 0;
  size_t num_prediction = 0;
  for (const Words& line : target) {
    num_target += line.size();
    for (int word : line) ++target_left[static_cast<uint64_t>(word)];
  }
  for (const Words& line : prediction) {
    num_prediction += line.size();
    for (int word : line) ++prediction_left[static_cast<uint64_t>(word)];
  }
  int64_t hits = 0;
  for (const Words& line : target) {
    std::vector<bool> in_lcs(line.size(), false);
    for (const Words& other : prediction) MarkLcs(line, other, in_lcs);
    for (size_t i = 0; i < line.size(); ++i) {
      if (!in_lcs[i]) continue;
      int64_t& of_target = target_left[static_cast<uint64_t>(line[i])];
      int64_t& of_prediction = prediction_left[static_cast<uint64_t>(line[i])];
      if (of_target == 0 || of_prediction == 0) continue;
      ++hits;
      --of_target;
      --of_prediction;
    }
  }
  return ScoreOf(hits, num_target, num_prediction);
}

size_t NumPairs(const Words& words) { return words.empty() ? 0 : words.size() - 1; }

}  // namespace

RougeScores ScoreRouge(std::string_view target, std::string_view prediction, bool use_stemmer) {
  Splitter splitter(use_stemmer);
  const Words t = splitter.Split(target);
  const Words p = splitter.Split(prediction);
  RougeScores scores;
  scores.rouge1 = ScoreOf(NumShared(CountWords(t), CountWords(p)), t.size(), p.size());
  scores.rouge2 = ScoreOf(NumShared(CountPairs(t), CountPairs(p)), NumPairs(t), NumPairs(p));
  scores.rouge_l = ScoreOf(LcsLength(t, p), t.size(), p.size());
  scores.rouge_lsum = ScoreSummary(splitter.SplitLines(target), splitter.SplitLines(prediction));
  return scores;
}

RougeScores ScoreRougeBest(std::span<const std::string> targets, std::string_view prediction,
                           bool use_stemmer) {
  TRIREME_CHECK(!targets.empty());
  RougeScores best = ScoreRouge(targets[0], prediction, use_stemmer);
  for (const std::string& target : targets.subspan(1)) {
    const RougeScores other = ScoreRouge(target, prediction, use_stemmer);
    for (RougeScore RougeScores::*score : {&RougeScores::rouge1, &RougeScores::rouge2,
                                           &RougeScores::rouge_l, &RougeScores::rouge_lsum}) {
      if ((other.*score).fmeasure > (best.*score).fmeasure) best.*score = other.*score;
    }
  }
  return best;
}

}  // namespace trireme::eval

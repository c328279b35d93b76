// SPDX-License-Identifier: Apache-2.0
#include "eval/porter_stemmer.h"

#include <array>
#include <span>
#include <utility>

namespace trireme::eval {
namespace {

// A suffix gives way to its replacement if the stem before it has at least this measure.
struct Rule {
  std::string_view suffix;
  std::string_view replacement;
  int min_measure;
};

bool IsVowelLetter(char c) { return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u'; }

// Whether the letter after one that is a consonant or not (`previous`) is a consonant itself: a y
// is one at the beginning and after a vowel.
bool IsConsonant(char c, bool is_first, bool previous) {
  if (c == 'y') return is_first || !previous;
  return !IsVowelLetter(c);
}

bool IsConsonantAt(std::string_view word, size_t at) {
  bool consonant = false;
  for (size_t i = 0; i <= at; ++i) consonant = IsConsonant(word[i], i == 0, consonant);
  return consonant;
}

// Porter's m: how often a vowel is followed by a consonant.
int Measure(std::string_view stem) {
  int measure = 0;
  bool previous = false;
  for (size_t i = 0; i < stem.size(); ++i) {
    const bool consonant = IsConsonant(stem[i], i == 0, previous);
    if (i > 0 && consonant && !previous) ++measure;
    previous = consonant;
  }
  return measure;
}

bool HasVowel(std::string_view stem) {
  bool consonant = false;
  for (size_t i = 0; i < stem.size(); ++i) {
    consonant = IsConsonant(stem[i], i == 0, consonant);
    if (!consonant) return true;
  }
  return false;
}

bool EndsInDoubleConsonant(std::string_view word) {
  const size_t size = word.size();
  return size >= 2 && word[size - 1] == word[size - 2] && IsConsonantAt(word, size - 1);
}

// consonant-vowel-consonant, the last one not w, x or y; or a word of a vowel and a consonant.
bool EndsInShortSyllable(std::string_view word) {
  const size_t size = word.size();
  if (size == 2) return !IsConsonantAt(word, 0) && IsConsonantAt(word, 1);
  if (size < 3) return false;
  const char last = word.back();
  return IsConsonantAt(word, size - 3) && !IsConsonantAt(word, size - 2) &&
         IsConsonantAt(word, size - 1) && last != 'w' && last != 'x' && last != 'y';
}

void ReplaceEnd(std::string& word, size_t suffix_size, std::string_view replacement) {
  word.resize(word.size() - suffix_size);
  word += replacement;
}

// The first rule whose suffix fits decides, whether its measure is reached or not.
void ApplyFirst(std::string& word, std::span<const Rule> rules) {
  for (const Rule& rule : rules) {
    if (!word.ends_with(rule.suffix)) continue;
    const auto stem = std::string_view(word).substr(0, word.size() - rule.suffix.size());
    if (Measure(stem) >= rule.min_measure) ReplaceEnd(word, rule.suffix.size(), rule.replacement);
    return;
  }
}

void StripPlural(std::string& word) {
  if (word.size() == 4 && word.ends_with("ies")) return ReplaceEnd(word, 3, "ie");
  static constexpr std::array kRules = {Rule{"sses", "ss", 0}, Rule{"ies", "i", 0},
                                        Rule{"ss", "ss", 0}, Rule{"s", "", 0}};
  ApplyFirst(word, kRules);
}

// What -ed or -ing leaves behind gets its e back or loses a doubled consonant.
void MendAfterPast(std::string& word) {
  if (word.ends_with("at") || word.ends_with("bl") || word.ends_with("iz")) {
    word += 'e';
  } else if (EndsInDoubleConsonant(word)) {
    const char last = word.back();
    if (last != 'l' && last != 's' && last != 'z') word.pop_back();
  } else if (Measure(word) == 1 && EndsInShortSyllable(word)) {
    word += 'e';
  }
}

void StripPast(std::string& word) {
  if (word.ends_with("ied")) return ReplaceEnd(word, 3, word.size() == 4 ? "ie" : "i");
  if (word.ends_with("eed")) {
    if (Measure(std::string_view(word).substr(0, word.size() - 3)) > 0) word.pop_back();
    return;
  }
  for (std::string_view suffix : {"ed", "ing"}) {
    if (!word.ends_with(suffix)) continue;
    if (!HasVowel(std::string_view(word).substr(0, word.size() - suffix.size()))) continue;
    ReplaceEnd(word, suffix.size(), "");
    return MendAfterPast(word);
  }
}

void TurnFinalY(std::string& word) {
  const size_t size = word.size();
  if (size > 2 && word.back() == 'y' && IsConsonantAt(word, size - 2)) word.back() = 'i';
}

void ShortenDoubleSuffix(std::string& word) {
  while (word.ends_with("alli") && Measure(std::string_view(word).substr(0, word.size() - 4)) > 0) {
    ReplaceEnd(word, 4, "al");
  }
  static constexpr std::array kRules = {
      Rule{"ational", "ate", 1}, Rule{"tional", "tion", 1}, Rule{"enci", "ence", 1},
      Rule{"anci", "ance", 1},   Rule{"izer", "ize", 1},    Rule{"bli", "ble", 1},
      Rule{"alli", "al", 1},     Rule{"entli", "ent", 1},   Rule{"eli", "e", 1},
      Rule{"ousli", "ous", 1},   Rule{"ization", "ize", 1}, Rule{"ation", "ate", 1},
      Rule{"ator", "ate", 1},    Rule{"alism", "al", 1},    Rule{"iveness", "ive", 1},
      Rule{"fulness", "ful", 1}, Rule{"ousness", "ous", 1}, Rule{"aliti", "al", 1},
      Rule{"iviti", "ive", 1},   Rule{"biliti", "ble", 1},  Rule{"fulli", "ful", 1}};
  if (word.ends_with("logi")) {  // its l counts as part of the stem
    if (Measure(std::string_view(word).substr(0, word.size() - 3)) > 0) word.pop_back();
    return;
  }
  ApplyFirst(word, kRules);
}

void StripDerivation(std::string& word) {
  static constexpr std::array kRules = {
      Rule{"icate", "ic", 1}, Rule{"ative", "", 1}, Rule{"alize", "al", 1}, Rule{"iciti", "ic", 1},
      Rule{"ical", "ic", 1},  Rule{"ful", "", 1},   Rule{"ness", "", 1}};
  ApplyFirst(word, kRules);
}

void StripLastSuffix(std::string& word) {
  if (word.ends_with("ion")) {
    const auto stem = std::string_view(word).substr(0, word.size() - 3);
    if (Measure(stem) > 1 && (stem.back() == 's' || stem.back() == 't')) ReplaceEnd(word, 3, "");
    return;
  }
  static constexpr std::array kRules = {
      Rule{"al", "", 2},    Rule{"ance", "", 2}, Rule{"ence", "", 2}, Rule{"er", "", 2},
      Rule{"ic", "", 2},    Rule{"able", "", 2}, Rule{"ible", "", 2}, Rule{"ant", "", 2},
      Rule{"ement", "", 2}, Rule{"ment", "", 2}, Rule{"ent", "", 2},  Rule{"ou", "", 2},
      Rule{"ism", "", 2},   Rule{"ate", "", 2},  Rule{"iti", "", 2},  Rule{"ous", "", 2},
      Rule{"ive", "", 2},   Rule{"ize", "", 2}};
  ApplyFirst(word, kRules);
}

void TidyEnd(std::string& word) {
  if (word.ends_with('e')) {
    const auto stem = std::string_view(word).substr(0, word.size() - 1);
    const int measure = Measure(stem);
    if (measure > 1 || (measure == 1 && !EndsInShortSyllable(stem))) word.pop_back();
  }
  if (word.ends_with("ll") && Measure(std::string_view(word).substr(0, word.size() - 1)) > 1) {
    word.pop_back();
  }
}

std::string_view IrregularStem(std::string_view word) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 16> kForms = {{
      {"sky", "sky"},
      {"skies", "sky"},
      {"dying", "die"},
      {"lying", "lie"},
      {"tying", "tie"},
      {"news", "news"},
      {"innings", "inning"},
      {"inning", "inning"},
      {"outings", "outing"},
      {"outing", "outing"},
      {"cannings", "canning"},
      {"canning", "canning"},
      {"howe", "howe"},
      {"proceed", "proceed"},
      {"exceed", "exceed"},
      {"succeed", "succeed"},
  }};
  for (const auto& [form, stem] : kForms) {
    if (word == form) return stem;
  }
  return {};
}

}  // namespace

std::string PorterStem(std::string_view word) {
  if (const std::string_view stem = IrregularStem(word); !stem.empty()) return std::string(stem);
  std::string stem(word);
  if (stem.size() <= 2) return stem;
  StripPlural(stem);
  StripPast(stem);
  TurnFinalY(stem);
  ShortenDoubleSuffix(stem);
  StripDerivation(stem);
  StripLastSuffix(stem);
  TidyEnd(stem);
  return stem;
}

}  // namespace trireme::eval

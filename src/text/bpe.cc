// SPDX-License-Identifier: Apache-2.0
#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "text/byte_level.h"
#include "text/utf8.h"

namespace trireme {

Bpe::Bpe(BpeOptions options, Vocab vocab)
    : options_(std::move(options)), vocab_(Finished(std::move(vocab))) {
  static std::atomic<uint64_t> models = 0;
  serial_ = ++models;
  affixes_ = !options_.continuing_subword_prefix.empty() || !options_.end_of_word_suffix.empty();
}

Status Bpe::AddMerges(std::span<const Literals> merges) {
  TRIREME_DCHECK(merges.size() <= kMaxMerges);
  if (next_rank_ + merges.size() > PairTable::kMaxRank)
    return ResourceExhausted("more than {} merges", PairTable::kMaxRank);
  // What the tokens stand for, the right ones directly behind the left ones.
  std::string texts;
  std::array<size_t, 2 * kMaxMerges> ends;
  std::array<bool, 2 * kMaxMerges> literal_only{};
  const std::string_view prefix = options_.continuing_subword_prefix;
  for (size_t i = 0; i < 2 * merges.size(); ++i) {
    const std::string_view literal = i % 2 == 0 ? merges[i / 2].left : merges[i / 2].right;
    literal_only[i] = vocab_.byte_level() && !DecodeByteLevel(literal, texts);
    if (!vocab_.byte_level() || literal_only[i]) texts.append(literal);
    ends[i] = texts.size();
  }
  const auto text_at = [&](size_t begin, size_t end) {
    return std::string_view(texts).substr(begin, end - begin);
  };
  std::array<std::string_view, 2 * kMaxMerges> sides;
  std::array<int32_t, 2 * kMaxMerges> ids;
  for (size_t i = 0; i < 2 * merges.size(); ++i)
    sides[i] = text_at(i == 0 ? 0 : ends[i - 1], ends[i]);
  vocab_.FindAll(std::span(sides).first(2 * merges.size()), ids.data());
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto& [left, right] = merges[i];
    const uint32_t rank = next_rank_++;
    for (const size_t side : {2 * i, 2 * i + 1}) {
      if (literal_only[side]) ids[side] = vocab_.FindLiteral(side % 2 == 0 ? left : right);
      if (ids[side] < 0)
        return InvalidArgument("merge {}: token '{}' is not in the vocabulary", rank,
                               side % 2 == 0 ? left : right);
    }
    std::string_view merged = text_at(i == 0 ? 0 : ends[2 * i - 1], ends[2 * i + 1]);
    std::string without_prefix;
    if (!prefix.empty() && sides[2 * i + 1].starts_with(prefix)) {
      without_prefix = std::string(sides[2 * i]).append(sides[2 * i + 1].substr(prefix.size()));
      merged = without_prefix;
    }
    const int32_t id = MergedId(merged);
    if (id < 0)
      return InvalidArgument("merge {}: '{}' and '{}' give a token that is not in the vocabulary",
                             rank, left, right);
    AddPair(ids[2 * i], ids[2 * i + 1], {rank, id});
  }
  return OkStatus();
}

int32_t Bpe::MergedId(std::string_view merged) {
  for (const int32_t likely : {last_merged_ + 1, last_merged_})
    if (vocab_.MatchesText(likely) && vocab_.Text(likely) == merged) return last_merged_ = likely;
  const int32_t id = vocab_.Find(merged);
  if (id >= 0) last_merged_ = id;
  return id;
}

void Bpe::AddPair(int32_t left, int32_t right, Merge merge) {
  pairs_.Add(left, right, merge);
  if (!vocab_.byte_level()) return;
  const std::string_view left_text = vocab_.Text(left), right_text = vocab_.Text(right);
  if (left_text.size() != 1 || right_text.size() != 1) return;
  if (byte_pairs_.empty()) byte_pairs_.resize(256 * 256);
  byte_pairs_[static_cast<size_t>(static_cast<uint8_t>(left_text[0])) << 8 |
              static_cast<uint8_t>(right_text[0])] = merge;
}

void Bpe::AddMergesOfSplits(std::span<const uint32_t> rank_of_id) {
  for (int32_t id = 0; id < vocab_.id_limit(); ++id) {
    if (!vocab_.MatchesText(id) || rank_of_id[id] == UINT32_MAX) continue;
    const std::string_view text = vocab_.Text(id);
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const int32_t left = vocab_.Find(text.substr(0, cut));
      if (left < 0 || atom_ids_.count(left) > 0) continue;
      const int32_t right = vocab_.Find(text.substr(cut));
      if (right >= 0 && atom_ids_.count(right) == 0) AddPair(left, right, {rank_of_id[id], id});
    }
  }
}

void Bpe::AddAtom(int32_t id) {
  atoms_.Add(vocab_.Text(id), id);
  atom_ids_.insert(id);
}

Status Bpe::Finish() {
  atoms_.Finish();
  if (vocab_.byte_level() && affixes_)
    return Unimplemented("a byte-level BPE with a subword prefix or an end-of-word suffix");
  if (!options_.unk_token.empty()) {
    unk_id_ = vocab_.FindLiteral(options_.unk_token);
    if (unk_id_ < 0)
      return InvalidArgument("unk_token '{}' is not in the vocabulary", options_.unk_token);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    byte_ids_[byte] = vocab_.byte_level() ? vocab_.Find(std::string_view(&c, 1))
                                          : vocab_.FindLiteral(fmt::format("<0x{:02X}>", byte));
    if (byte < 128) ascii_ids_[byte] = vocab_.Find(std::string_view(&c, 1));
  }
  pairs_.Build();
  self_ = std::make_unique<std::atomic<uint8_t>[]>(static_cast<size_t>(vocab_.id_limit()));
  cuts_before_word_mark_ = FindWordMarkCuts();
  return OkStatus();
}

std::optional<int32_t> Bpe::TokenToId(std::string_view token) const {
  const int32_t id = vocab_.FindLiteral(token);
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

struct Bpe::Item {
  enum Kind : uint8_t { kOpen, kIds, kLane, kLong } kind;
  uint8_t count;  // of `ids`
  uint8_t lane;
  int32_t ids[WordCache::kMaxIds];
  WordCache::Key key;  // size 0: the word does not fit the cache
};

struct Bpe::Block {
  static constexpr size_t kWords = 16;
  std::array<Item, kWords> items;
  std::array<Lane, kWords> lanes;
};

Status Bpe::Encode(std::string_view text, std::span<const Span> words,
                   std::vector<int32_t>& ids) const {
  WordCache& cache = WordCache::OfThisThread(serial_);
  Block block;
  for (size_t at = 0; at < words.size(); at += Block::kWords)
    EncodeBlock(text, words.subspan(at, std::min(Block::kWords, words.size() - at)), cache, block,
                ids);
  return OkStatus();
}

void Bpe::EncodeBlock(std::string_view text, std::span<const Span> words, WordCache& cache,
                      Block& block, std::vector<int32_t>& ids) const {
  const auto word_at = [&](size_t i) {
    return text.substr(words[i].begin, words[i].end - words[i].begin);
  };
  std::array<std::string_view, Block::kWords> sought;
  std::array<uint8_t, Block::kWords> seekers;  // of the words sought
  size_t num_sought = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    Item& item = block.items[i];
    const std::string_view word = word_at(i);
    item.key.size = 0;
    if (word.size() <= WordCache::kMaxBytes) {
      item.key = WordCache::KeyOf(word, text.size() - words[i].begin);
      const WordCache::Entry& entry = cache.At(item.key);
      if (entry.Holds(item.key)) {
        item.kind = Item::kIds;
        item.count = entry.count;
        item.key.size = 0;
        std::copy(entry.ids, entry.ids + WordCache::kMaxIds, item.ids);
        continue;
      }
    }
    item.kind = Item::kOpen;
    if (affixes_ || word.size() > vocab_.longest_text()) {
      item.ids[0] = -1;
      continue;
    }
    sought[num_sought] = word;
    seekers[num_sought++] = static_cast<uint8_t>(i);
  }
  std::array<int32_t, Block::kWords> found;
  vocab_.FindAll(std::span(sought).first(num_sought), found.data());
  for (size_t i = 0; i < num_sought; ++i) block.items[seekers[i]].ids[0] = found[i];
  std::array<uint8_t, Block::kWords> active;
  size_t num_lanes = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    Item& item = block.items[i];
    if (item.kind != Item::kOpen) continue;
    const std::string_view word = word_at(i);
    const int32_t id = item.ids[0];
    if (id >= 0 && (options_.ignore_merges || EncodesToItself(id, word))) {
      item.kind = Item::kIds;
      item.count = 1;
    } else if (word.size() > kShortWord) {
      item.kind = Item::kLong;
    } else {
      item.kind = Item::kLane;
      item.lane = static_cast<uint8_t>(num_lanes);
      StartLane(word, block.lanes[num_lanes]);
      active[num_lanes] = item.lane;
      ++num_lanes;
    }
  }
  for (size_t num_active = num_lanes; num_active > 0;) {
    size_t kept = 0;
    for (size_t i = 0; i < num_active; ++i)
      if (StepLane(block.lanes[active[i]])) active[kept++] = active[i];
    num_active = kept;
  }
  for (size_t i = 0; i < words.size(); ++i) {
    const Item& item = block.items[i];
    if (item.kind == Item::kLong) {
      EncodeLong(word_at(i), ids);
      continue;
    }
    const bool in_lane = item.kind == Item::kLane;
    const int32_t* result = in_lane ? block.lanes[item.lane].symbols.data() : item.ids;
    const size_t count = in_lane ? block.lanes[item.lane].size : item.count;
    for (size_t k = 0; k < count; ++k) ids.push_back(result[k]);
    if (item.key.size > 0) cache.At(item.key).Fill(item.key, {result, count});
  }
}

void Bpe::EncodeLong(std::string_view word, std::vector<int32_t>& ids) const {
  const size_t before = ids.size();
  ids.resize(before + word.size());
  int32_t* symbols = ids.data() + before;
  ids.resize(before + MergeLong(symbols, SymbolsOf(word, symbols)));
}

bool Bpe::EncodesToItself(int32_t id, std::string_view word) const {
  std::atomic<uint8_t>& state = self_[static_cast<size_t>(id)];
  const uint8_t known = state.load(std::memory_order_relaxed);
  if (known != kUnknown) return known == kIsItself;
  std::vector<int32_t> symbols(word.size());
  const size_t size = MergeLong(symbols.data(), SymbolsOf(word, symbols.data()));
  const bool same = size == 1 && symbols[0] == id;
  state.store(same ? kIsItself : kIsNot, std::memory_order_relaxed);
  return same;
}

// Writes at most one symbol per byte.
size_t Bpe::SymbolsOf(std::string_view word, int32_t* symbols) const {
  size_t size = 0;
  if (vocab_.byte_level()) {
    for (const char c : word) {
      const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
      if (id >= 0) {
        symbols[size++] = id;
      } else if (unk_id_ >= 0 && !(options_.fuse_unk && size > 0 && symbols[size - 1] == unk_id_)) {
        symbols[size++] = unk_id_;
      }
    }
    return size;
  }
  std::string affixed;
  bool after_unknown = false;
  for (size_t i = 0; i < word.size();) {
    size_t length = 0;
    if (const int32_t atom = atoms_.LongestPrefix(word.substr(i), length); atom >= 0) {
      symbols[size++] = atom;
      after_unknown = false;
      i += length;
      continue;
    }
    length = utf8::Length(static_cast<uint8_t>(word[i]));
    const std::string_view character = word.substr(i, length);
    int32_t id;
    if (affixes_) {
      affixed.clear();
      if (i > 0) affixed = options_.continuing_subword_prefix;
      affixed.append(character);
      if (i + length == word.size()) affixed.append(options_.end_of_word_suffix);
      id = vocab_.Find(affixed);
    } else {
      id = length == 1 ? ascii_ids_[static_cast<uint8_t>(word[i])] : vocab_.Find(character);
    }
    i += length;
    if (id >= 0) {
      symbols[size++] = id;
      after_unknown = false;
      continue;
    }
    const auto has_byte = [&](char c) { return byte_ids_[static_cast<uint8_t>(c)] >= 0; };
    if (options_.byte_fallback && std::all_of(character.begin(), character.end(), has_byte)) {
      for (const char c : character) symbols[size++] = byte_ids_[static_cast<uint8_t>(c)];
      after_unknown = false;
    } else if (unk_id_ >= 0) {
      if (!(options_.fuse_unk && after_unknown)) symbols[size++] = unk_id_;
      after_unknown = true;
    }
  }
  return size;
}

void Bpe::StartLane(std::string_view word, Lane& lane) const {
  const size_t size = SymbolsOf(word, lane.symbols.data());
  lane.size = static_cast<uint8_t>(size);
  lane.num_pending = 0;
  const bool one_a_byte = !byte_pairs_.empty() && size == word.size();
  for (size_t i = 0; i < size; ++i) {
    lane.next[i] = static_cast<uint8_t>(i + 1);
    lane.previous[i] = static_cast<uint8_t>(i - 1);
  }
  for (size_t i = 0; i + 1 < size; ++i) {
    if (one_a_byte)
      SetPair(lane, i,
              byte_pairs_[static_cast<size_t>(static_cast<uint8_t>(word[i])) << 8 |
                          static_cast<uint8_t>(word[i + 1])]);
    else
      SetPair(lane, i, pairs_.Find(lane.symbols[i], lane.symbols[i + 1]));
  }
  const size_t scanned = (size + kScanned - 1) / kScanned * kScanned;
  for (size_t i = size == 0 ? 0 : size - 1; i < scanned; ++i) lane.keys[i] = kNoMerge;
}

void Bpe::SetPair(Lane& lane, size_t at, Merge merge) {
  const bool none = merge.rank == UINT32_MAX;
  lane.keys[at] = none ? kNoMerge : static_cast<int32_t>(merge.rank << 6 | at);
  lane.merged[at] = merge.id;
}

bool Bpe::StepLane(Lane& lane) const {
  for (size_t i = 0; i < lane.num_pending; ++i) {
    const size_t at = lane.pending[i];
    SetPair(lane, at, pairs_.Find(lane.symbols[at], lane.symbols[lane.next[at]]));
  }
  lane.num_pending = 0;
  const size_t size = lane.size;
  int32_t lowest = kNoMerge;
  for (size_t i = 0; i < size; i += kScanned)
    for (size_t k = 0; k < kScanned; ++k) lowest = std::min(lowest, lane.keys[i + k]);
  if (lowest == kNoMerge) {
    size_t left = 0;
    for (size_t i = 0; i < size; i = lane.next[i]) lane.symbols[left++] = lane.symbols[i];
    lane.size = static_cast<uint8_t>(left);
    return false;
  }
  const auto at = static_cast<size_t>(lowest & (kShortWord - 1));
  lane.symbols[at] = lane.merged[at];
  lane.keys[at] = kNoMerge;
  const size_t gone = lane.next[at];
  lane.keys[gone] = kNoMerge;
  const size_t behind = lane.next[gone];
  lane.next[at] = static_cast<uint8_t>(behind);
  const auto look_up_later = [&](size_t left, size_t right) {
    lane.pending[lane.num_pending++] = static_cast<uint8_t>(left);
    pairs_.Prefetch(lane.symbols[left], lane.symbols[right]);
  };
  if (behind < size) {
    lane.previous[behind] = static_cast<uint8_t>(at);
    look_up_later(at, behind);
  }
  if (at > 0) look_up_later(lane.previous[at], at);
  return true;
}

// Symbols are a list linked by `next` and `previous`; the heap holds rank << 32 | position of the
// left symbol, and an entry is void when the pair at its position is no longer the one meant.
size_t Bpe::MergeLong(int32_t* symbols, size_t size) const {
  constexpr uint32_t kEnd = UINT32_MAX;
  struct Node {
    uint32_t previous, next;
    uint32_t rank;  // of the pair with `next`
    int32_t merged;
  };
  std::vector<Node> nodes(size);
  std::vector<uint64_t> heap;
  heap.reserve(size);
  const auto set_pair = [&](uint32_t at) {
    Node& node = nodes[at];
    const Merge merge = node.next == kEnd ? Merge() : pairs_.Find(symbols[at], symbols[node.next]);
    node.rank = merge.rank;
    node.merged = merge.id;
    return merge.rank != UINT32_MAX;
  };
  const auto key = [&](uint32_t at) { return static_cast<uint64_t>(nodes[at].rank) << 32 | at; };
  for (uint32_t i = 0; i < size; ++i) {
    nodes[i].previous = i == 0 ? kEnd : i - 1;
    nodes[i].next = i + 1 == size ? kEnd : i + 1;
    if (set_pair(i)) heap.push_back(key(i));
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](uint32_t at) {
    heap.push_back(key(at));
    std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const auto at = static_cast<uint32_t>(top);
    if (symbols[at] < 0 || key(at) != top) continue;
    const uint32_t gone = nodes[at].next;
    symbols[at] = nodes[at].merged;
    symbols[gone] = -1;
    nodes[at].next = nodes[gone].next;
    if (nodes[at].next != kEnd) nodes[nodes[at].next].previous = at;
    if (set_pair(at)) push(at);
    const uint32_t previous = nodes[at].previous;
    if (previous != kEnd && set_pair(previous)) push(previous);
  }
  return static_cast<size_t>(std::remove(symbols, symbols + size, -1) - symbols);
}

bool Bpe::FindWordMarkCuts() const {
  constexpr std::string_view kMark = "\xe2\x96\x81";
  if (vocab_.byte_level() || affixes_) return false;
  if (vocab_.Find(kMark) < 0) return false;
  for (int32_t id = 0; id < vocab_.id_limit(); ++id) {
    if (!vocab_.MatchesText(id)) continue;
    const std::string_view text = vocab_.Text(id);
    for (size_t at = text.find(kMark); at != text.npos; at = text.find(kMark, at + 1))
      if (at > 0 && (at < 3 || text.substr(at - 3, 3) != kMark)) return false;
  }
  return true;
}

}  // namespace trireme

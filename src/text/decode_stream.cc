// SPDX-License-Identifier: Apache-2.0
// The stream over a Decoder's table: joins bytes into code points, then applies the steps on the
// whole text. One thread at a time.
#include <algorithm>
#include <deque>

#include "text/decoder.h"
#include "text/utf8.h"

namespace trireme {
namespace {

constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// Appends text piece by piece; `Finish` gives what was held back.
class WholeTextStep {
 public:
  explicit WholeTextStep(const Decoder::WholeStep& step)
      : step_(step), left_to_strip_(step.strip_start) {}

  void Append(std::string_view text, std::string& out) {
    if (step_.from.empty()) return Strip(text, out);
    held_.append(text);
    size_t done = 0;
    for (size_t at = held_.find(step_.from); at != held_.npos; at = held_.find(step_.from, done)) {
      out.append(held_, done, at - done);
      out.append(step_.to);
      done = at + step_.from.size();
    }
    // What may be the beginning of a match waits.
    size_t keep = std::min(held_.size() - done, step_.from.size() - 1);
    while (keep > 0 && held_.compare(held_.size() - keep, keep, step_.from, 0, keep) != 0) --keep;
    out.append(held_, done, held_.size() - keep - done);
    held_.erase(0, held_.size() - keep);
  }

  void Finish(std::string& out) {
    if (step_.from.empty()) {
      for (size_t i = 0; i < step_.strip_end && held_.ends_with(step_.to); ++i)
        held_.resize(held_.size() - step_.to.size());
    }
    out.append(held_);
    held_.clear();
  }

 private:
  void Strip(std::string_view text, std::string& out) {
    // The characters to strip are whole code points, and so are the pieces.
    while (left_to_strip_ > 0 && !text.empty()) {
      if (!text.starts_with(step_.to)) {
        left_to_strip_ = 0;
        break;
      }
      text.remove_prefix(step_.to.size());
      --left_to_strip_;
    }
    if (step_.strip_end == 0) {
      out.append(text);
      return;
    }
    held_.append(text);
    size_t keep = 0;
    for (size_t i = 0; i < step_.strip_end; ++i) {
      const std::string_view front = std::string_view(held_).substr(0, held_.size() - keep);
      if (!front.ends_with(step_.to)) break;
      keep += step_.to.size();
    }
    out.append(held_, 0, held_.size() - keep);
    held_.erase(0, held_.size() - keep);
  }

  const Decoder::WholeStep& step_;
  size_t left_to_strip_;
  std::string held_;
};

class TableStream final : public DecodeStream {
 public:
  TableStream(const Decoder& decoder, bool skip_special)
      : decoder_(decoder), skip_special_(skip_special) {
    for (const Decoder::WholeStep& step : decoder.whole_steps()) steps_.emplace_back(step);
    whole_ = !steps_.empty();
    plain_ = !whole_ && !decoder.drops_repeats();
    at_begin_ = decoder.leading_space() != Decoder::LeadingSpace::kKeep;
  }

  void Append(int32_t id, std::string& out) override {
    const Decoder::Rendition token = decoder_.Middle(id);
    if (token.kind == Decoder::Kind::kWhole && plain_ && pending_.empty() &&
        !(skip_special_ && decoder_.IsSpecial(id))) {
      out.append(token.bytes);
      return;
    }
    if (token.kind == Decoder::Kind::kAbsent) return;
    if (skip_special_ && decoder_.IsSpecial(id)) return;
    if (decoder_.drops_repeats() && id == last_id_) return;
    last_id_ = id;
    const bool first = first_;
    first_ = false;
    switch (token.kind) {
      case Decoder::Kind::kBytes:
      case Decoder::Kind::kWhole: Join(token.bytes, out); break;
      case Decoder::Kind::kByte:
        EmitWaiting(out);
        at_begin_ = false;
        JoinByte(token.bytes[0], out);
        break;
      default:
        if (!pending_.empty()) EndByteRun(out);
        if (decoder_.last_differs()) {
          EmitWaiting(out);
          waiting_id_ = id;
          waiting_first_ = first;
        } else if (first && decoder_.first_differs()) {
          Emit(decoder_.At(id, {.first = true}), out);
        } else {
          Emit(at_begin_ ? WithoutLeadingSpace(id, token.bytes) : token.bytes, out);
        }
    }
  }

  void Finish(std::string& out) override {
    if (waiting_id_ >= 0) {
      Emit(decoder_.At(waiting_id_, {.first = waiting_first_, .last = true}), out);
      waiting_id_ = -1;
    }
    if (!pending_.empty()) {
      if (in_byte_run_)
        EndByteRun(out);
      else
        Emit(kReplacement, out);
      pending_.clear();
    }
    std::string tail;
    for (size_t i = 0; i < steps_.size(); ++i) {
      tail.clear();
      steps_[i].Finish(tail);
      Through(i + 1, tail, out);
    }
  }

 private:
  std::string_view WithoutLeadingSpace(int32_t id, std::string_view text) {
    const bool drops = !decoder_.IsSpecial(id) && text.starts_with(' ');
    if (drops) text.remove_prefix(1);
    at_begin_ = text.empty() && !(drops && decoder_.leading_space() == Decoder::LeadingSpace::kOne);
    return text;
  }

  // Bytes of a byte-level token: any of them may complete or begin a code point.
  void Join(std::string_view bytes, std::string& out) {
    if (!pending_.empty()) {
      pending_.append(bytes);
      std::string joined;
      joined.swap(pending_);
      EmitWhole(joined, out);
      return;
    }
    EmitWhole(bytes, out);
  }

  // Emits the code points of `bytes`, replacing what is none, and keeps an incomplete end.
  void EmitWhole(std::string_view bytes, std::string& out) {
    size_t done = 0;  // of `bytes`, emitted
    size_t at = 0;
    while (at < bytes.size()) {
      if (static_cast<uint8_t>(bytes[at]) < 0x80) {
        ++at;
        continue;
      }
      const utf8::PrefixInfo info = utf8::ClassifyPrefix(bytes.substr(at));
      if (info.kind == utf8::Prefix::kComplete) {
        at += info.size;
        continue;
      }
      if (at > done) Emit(bytes.substr(done, at - done), out);
      if (info.kind == utf8::Prefix::kIncomplete) {
        pending_.assign(bytes.substr(at));
        return;
      }
      Emit(kReplacement, out);
      at += info.size;
      done = at;
    }
    if (at > done) Emit(bytes.substr(done, at - done), out);
  }

  void JoinByte(char byte, std::string& out) {
    in_byte_run_ = true;
    pending_.push_back(byte);
    while (!pending_.empty()) {
      const utf8::PrefixInfo info = utf8::ClassifyPrefix(pending_);
      if (info.kind == utf8::Prefix::kIncomplete) return;
      if (info.kind == utf8::Prefix::kComplete)
        Emit(std::string_view(pending_).substr(0, info.size), out);
      else
        for (uint32_t i = 0; i < info.size; ++i) Emit(kReplacement, out);
      pending_.erase(0, info.size);
    }
  }

  void EndByteRun(std::string& out) {
    for (size_t i = 0; i < pending_.size(); ++i) Emit(kReplacement, out);
    pending_.clear();
  }

  void EmitWaiting(std::string& out) {
    if (waiting_id_ < 0) return;
    Emit(decoder_.At(waiting_id_, {.first = waiting_first_}), out);
    waiting_id_ = -1;
  }

  void Emit(std::string_view text, std::string& out) {
    if (!whole_)
      out.append(text);
    else
      Through(0, text, out);
  }

  // Sends text through the steps from `step` on.
  void Through(size_t step, std::string_view text, std::string& out) {
    if (step >= steps_.size()) {
      out.append(text);
      return;
    }
    if (step + 1 == steps_.size()) return steps_[step].Append(text, out);
    std::string next;
    steps_[step].Append(text, next);
    Through(step + 1, next, out);
  }

  const Decoder& decoder_;
  const bool skip_special_;
  bool whole_ = false;
  bool plain_ = false;  // whole code points of byte-level tokens pass as they are
  bool first_ = true;
  bool at_begin_ = false;  // a leading space may still be dropped
  bool in_byte_run_ = false;
  bool waiting_first_ = false;
  int32_t last_id_ = -1;
  int32_t waiting_id_ = -1;  // a token that would read differently at the end
  std::string pending_;      // the beginning of a code point
  std::deque<WholeTextStep> steps_;
};

}  // namespace

std::string DecodeAll(const Decoder& decoder, std::span<const int32_t> ids,
                      bool skip_special_tokens) {
  std::string text;
  text.reserve(ids.size() * 5);
  TableStream stream(decoder, skip_special_tokens);
  for (const int32_t id : ids) stream.Append(id, text);
  stream.Finish(text);
  return text;
}

std::unique_ptr<DecodeStream> NewTableStream(const Decoder& decoder, bool skip_special_tokens) {
  return std::make_unique<TableStream>(decoder, skip_special_tokens);
}

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
#include "text/stop_matcher.h"
#include "text/utf8.h"
#include "trireme/tokenizer.h"

namespace trireme {

struct Detokenizer::State {
  DetokenizerOptions options;
  std::unique_ptr<DecodeStream> stream;
  StopMatcher stops;
  std::string text;  // scratch
  int stop = -1;     // index of the stop string that ended the text
};

Detokenizer::Detokenizer(const Tokenizer& tokenizer, DetokenizerOptions options) {
  StopMatcher stops(options.stop_strings);
  const bool skip = options.skip_special_tokens;
  state_ = std::make_unique<State>(
      State{std::move(options), tokenizer.NewDecodeStream(skip), std::move(stops), "", -1});
}
Detokenizer::~Detokenizer() = default;
Detokenizer::Detokenizer(Detokenizer&&) noexcept = default;
Detokenizer& Detokenizer::operator=(Detokenizer&&) noexcept = default;

std::string Detokenizer::Append(int32_t id) {
  std::string out;
  State& s = *state_;
  if (s.stop >= 0) return out;
  if (s.stops.empty()) {
    s.stream->Append(id, out);
    return out;
  }
  s.text.clear();
  s.stream->Append(id, s.text);
  s.stop = s.stops.Append(s.text, out);
  if (s.stop >= 0 && s.options.include_stop_string) out += stop_string();
  return out;
}

std::string Detokenizer::Finish() {
  std::string out;
  State& s = *state_;
  if (s.stop >= 0) return out;
  s.text.clear();
  s.stream->Finish(s.text);
  s.stop = s.stops.Append(s.text, out);
  if (s.stop < 0)
    s.stops.Finish(out);
  else if (s.options.include_stop_string)
    out += stop_string();
  return out;
}

bool Detokenizer::stopped() const { return state_->stop >= 0; }

const std::string& Detokenizer::stop_string() const {
  static const std::string kNone;
  return state_->stop < 0 ? kNone : state_->options.stop_strings[static_cast<size_t>(state_->stop)];
}

DecodeStream::~DecodeStream() = default;
Tokenizer::~Tokenizer() = default;
std::vector<int32_t> Tokenizer::end_ids() const {
  const std::optional<int32_t> eos = eos_id();
  return eos ? std::vector<int32_t>{*eos} : std::vector<int32_t>{};
}
EncodeLimits Tokenizer::limits() const { return {}; }

namespace {

// Joins TokenBytes, for tokenizers that bring no stream of their own.
class ByteStream : public DecodeStream {
 public:
  ByteStream(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  void Append(int32_t id, std::string& out) override {
    if (skip_special_ && tokenizer_.IsSpecial(id)) return;
    pending_ += tokenizer_.TokenBytes(id);
    Drain(false, out);
  }
  void Finish(std::string& out) override { Drain(true, out); }

 private:
  void Drain(bool all, std::string& out) {
    size_t at = 0;
    while (at < pending_.size()) {
      const utf8::PrefixInfo info = utf8::ClassifyPrefix(std::string_view(pending_).substr(at));
      if (info.kind == utf8::Prefix::kIncomplete && !all) break;
      if (info.kind == utf8::Prefix::kComplete)
        out.append(pending_, at, info.size);
      else
        out += "\xef\xbf\xbd";
      at += info.size;
    }
    pending_.erase(0, at);
  }

  const Tokenizer& tokenizer_;
  const bool skip_special_;
  std::string pending_;
};

}  // namespace

std::unique_ptr<DecodeStream> Tokenizer::NewDecodeStream(bool skip_special_tokens) const {
  return std::make_unique<ByteStream>(*this, skip_special_tokens);
}

StatusOr<std::vector<int32_t>> Tokenizer::EncodeAsConfigured(std::string_view text,
                                                             bool add_special_tokens) const {
  return Encode(text, add_special_tokens);
}

}  // namespace trireme

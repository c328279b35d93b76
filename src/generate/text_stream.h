// SPDX-License-Identifier: Apache-2.0
// TextStream: turns the responses of one request into text outputs: detokenizes, finds stop
// strings, joins the pieces when the client does not stream. Output thread only.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "text/stop_matcher.h"
#include "trireme/generator.h"
#include "trireme/tokenizer.h"

namespace trireme::generate {

struct TextStreamOptions {
  bool streaming = false;
  bool skip_special_tokens = true;
  bool include_stop_in_output = false;
  std::vector<std::string> stop;  // none empty
  // Begins the text when the input belongs to the output, else empty.
  std::vector<TokenId> echoed_prompt;
  int num_sequences = 1;
};

class TextStream {
 public:
  // `tokenizer` must outlive the stream.
  TextStream(const Tokenizer& tokenizer, const TextStreamOptions& options);

  // The output `response` leads to, if any. Whatever comes for a sequence whose text has ended is
  // surplus: neither emitted nor counted.
  std::optional<GenerateOutput> Take(Response&& response);
  // Stop strings have ended every sequence that the executor still runs: cancel the request.
  bool HasEnded() const { return num_unfinished_ == 0; }

 private:
  struct Sequence {
    std::unique_ptr<DecodeStream> decoder;
    StopMatcher stops;
    int stop = -1;  // index of the stop string that ended the text
    bool is_final = false;
    int num_output_tokens = 0;
    GenerateOutput joined;  // not yet handed out
  };

  void AppendPrompt(Sequence& sequence);
  void AppendTokens(Response& response, Sequence& sequence);
  void AppendText(const std::string& text, Sequence& sequence);
  void FinishText(Sequence& sequence);

  const TextStreamOptions options_;
  std::vector<Sequence> sequences_;
  int num_unfinished_;
};

}  // namespace trireme::generate

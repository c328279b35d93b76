// SPDX-License-Identifier: Apache-2.0
// What tensorrt_llm_bls does to the texts that come from postprocessing: stop words that spread over
// pieces, and with accumulate_tokens the whole text so far in every response. One thread at a time.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/core/inference.h"
#include "text/stop_matcher.h"

namespace trireme::server {

class BlsText {
 public:
  // `batched`: the request's tensors have a batch dimension.
  static StatusOr<BlsText> Make(const InferRequest& request, bool batched, bool accumulates);

  // Rewrites text_output.
  Status Rewrite(InferResponse& response, bool streaming);
  // Text held back as the beginning of a stop word that did not come, as responses: where
  // postprocessing does not say which piece is the last.
  std::vector<InferResponse> Flush();
  // Whether every sequence has met a stop word: nothing more is wanted.
  bool AllStopped() const { return num_stopped_ == num_sequences_; }

 private:
  struct Sequence {
    StopMatcher stops;
    std::string text;  // so far; with accumulation
    bool stopped = false;
    bool ended = false;
  };
  Sequence& SequenceOf(size_t row, int sequence);
  std::string Take(Sequence& sequence, std::string_view piece, bool is_last);

  std::vector<std::string> prompts_;                  // of each row
  std::vector<std::vector<std::string>> stop_words_;  // of each row, none empty
  bool has_stop_words_ = false;
  bool accumulates_ = false;
  int num_sequences_ = 1;
  int num_stopped_ = 0;
  std::map<std::pair<size_t, int>, Sequence> sequences_;
};

}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
#include "formats/model_facts.h"

#include "base/log.h"
#include "base/log_text.h"

namespace trireme {
namespace {

constexpr char kTied[] = "tie_word_embeddings";

}  // namespace

bool SharesEmbedding(const ModelConfig& config) {
  const auto tied = config.extra.find(kTied);
  return config.share_embedding_table || (tied != config.extra.end() && tied->second == "true");
}

void NoteSharedEmbedding(ModelConfig& config) { config.extra[kTied] = "true"; }

bool IsBeyondPositions(const ModelConfig& config, int max_seq_len) {
  return config.position_embedding_type.starts_with("rope") &&
         config.rotary_scaling.type == "none" && config.max_position_embeddings > 0 &&
         max_seq_len > config.max_position_embeddings;
}

void WarnBeyondPositions(const ModelConfig& config, int max_seq_len) {
  if (!IsBeyondPositions(config, max_seq_len)) return;
  LogWarning("max_seq_len_beyond_positions max_seq_len={} max_position_embeddings={} reason={}",
             max_seq_len, config.max_position_embeddings,
             Quoted("the model was not trained on longer texts and has no rotary scaling"));
}

}  // namespace trireme

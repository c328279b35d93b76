// SPDX-License-Identifier: Apache-2.0
// What follows from a checkpoint's configuration. Pure functions, but for the log.
#pragma once

#include "trireme/model_config.h"

namespace trireme {

// One table was published for embedding and head, whether the checkpoint holds one or two: convert
// notes it as `tie_word_embeddings`.
bool SharesEmbedding(const ModelConfig& config);
void NoteSharedEmbedding(ModelConfig& config);

// Sequences of that length reach rotary positions that the model has not been trained on, and no
// scaling of the rotation stands for them.
bool IsBeyondPositions(const ModelConfig& config, int max_seq_len);
// Says so in the log.
void WarnBeyondPositions(const ModelConfig& config, int max_seq_len);

}  // namespace trireme

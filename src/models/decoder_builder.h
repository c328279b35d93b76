// SPDX-License-Identifier: Apache-2.0
// DecoderBuilder: the parts that decoder-only families are composed of, as one rank holds them. What
// a part looks like (biases, rotation, windows, activation) it reads from the configuration, so that
// a family's BuildNetwork says how parts follow each other and nothing else. Not thread-safe.
#pragma once

#include <string>

#include "models/decoder.h"
#include "trireme/network.h"

namespace trireme::models {

class DecoderBuilder {
 public:
  // INVALID_ARGUMENT when the model cannot be cut for the ranks, UNIMPLEMENTED when its engines
  // cannot be built yet.
  static StatusOr<DecoderBuilder> Create(const ModelConfig& config);

  int num_layers() const { return shape_.num_layers; }
  Network& network() { return net_; }

  Value Embedding(double scale = 1.0);
  // Names are whole: LayerPrefix(layer) + "input_layernorm".
  Value RmsNorm(Value x, const std::string& name, bool gamma_offset = false);
  Value LayerNorm(Value x, const std::string& name);

  struct AttentionOptions {
    double scale = 0.0;     // 0: 1 / sqrt(head_size)
    double soft_cap = 0.0;  // 0: none
  };
  // q, k and v, norms of their heads, attention with the positions and the window of the
  // configuration, and the output layer.
  Value Attention(Value x, int layer, const AttentionOptions& options);
  Value Attention(Value x, int layer) { return Attention(x, layer, {}); }
  // down(act(gate(x)) * up(x))
  Value GatedMlp(Value x, int layer);
  // Gated MLPs of config.moe, the experts.
  Value MixtureOfExperts(Value x, int layer);
  // down(act(up(x)))
  Value Mlp(Value x, int layer);

  struct HeadOptions {
    bool bias = false;
    double soft_cap = 0.0;  // 0: none
  };
  // Behind the embedding x: pre-norm layers of attention and a plain MLP with layer norms, the final
  // norm, the head.
  StatusOr<Network> FinishLayerNormLayers(Value x);
  // `x`: normed, after SelectLogitRows.
  StatusOr<Network> Finish(Value x, const HeadOptions& options);
  StatusOr<Network> Finish(Value x) { return Finish(x, {}); }

 private:
  DecoderBuilder(const ModelConfig& config, const RankShape& shape, ActivationKind activation)
      : config_(config), shape_(shape), activation_(activation) {}

  Value RowParallel(Value x, const std::string& name, bool bias);
  RotarySpec Rotary() const;

  const ModelConfig& config_;
  RankShape shape_;
  ActivationKind activation_;
  Network net_;
};

}  // namespace trireme::models

// SPDX-License-Identifier: Apache-2.0
// LoraAdapter: a PEFT adapter folder, its settings checked and its tensors sorted by the module they
// belong to. Immutable once opened; thread-safe.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "formats/tensor_source.h"

namespace trireme::convert {

// W' = W + scale * B A, or its transpose where `transposed`.
struct LoraUpdate {
  std::string a;  // [rank, in] in the adapter's file
  std::string b;  // [out, rank]
  double scale = 0;
  bool transposed = false;  // W is published as [in, out]; of an embedding [vocab, width] likewise
};

class LoraAdapter {
 public:
  // adapter_config.json with adapter_model.safetensors or adapter_model.bin. Kinds of adapters that
  // are more than W + scale * B A are refused by name.
  static StatusOr<std::unique_ptr<LoraAdapter>> Open(const std::string& dir);

  // By the name of the base model's tensor ("model.layers.0.self_attn.q_proj.weight").
  const std::map<std::string, LoraUpdate>& updates() const { return updates_; }
  // Base tensor -> adapter tensor that takes its place (modules_to_save, resized embeddings).
  const std::map<std::string, std::string>& replacements() const { return replacements_; }
  const TensorSource& tensors() const { return *tensors_; }
  const std::string& dir() const { return dir_; }
  // The model it was made for, as its maker called it; "" when it does not say.
  const std::string& base_name() const { return base_name_; }

 private:
  LoraAdapter() = default;
  Status SortTensors();
  // False for a half of a low-rank pair. `name` is `full` without PEFT's prefix.
  bool TakeWholeTensor(const std::string& name, const std::string& full);

  std::string dir_;
  std::string base_name_;
  double alpha_ = 0;
  bool rank_stabilised_ = false;  // scale alpha / sqrt(rank) in place of alpha / rank
  bool fan_in_fan_out_ = false;
  std::map<std::string, double> alpha_pattern_;  // end of a module's name -> alpha
  std::unique_ptr<TensorSource> tensors_;
  std::map<std::string, LoraUpdate> updates_;
  std::map<std::string, std::string> replacements_;
};

}  // namespace trireme::convert

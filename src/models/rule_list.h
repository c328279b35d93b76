// SPDX-License-Identifier: Apache-2.0
// RuleList: the tensor rules of one model, written down layer by layer. Not thread-safe.
//
//   RuleList rules({"transformer.", ""});       // prefixes that publications put before every name
//   rules.Embedding("vocab_embedding", "wte");
//   rules.BeginLayer(0, "h.0.");
//   rules.Norm("input_layernorm", "ln_1", {.bias = true});
//   rules.Linear("attention.qkv", {"attn.c_attn"}, TensorSplit::kQkvRows, {.transpose = true});
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trireme/model_family.h"

namespace trireme::models {

struct RuleOptions {
  bool bias = false;       // the layer has a bias beside its weight
  bool transpose = false;  // the weight is published as [in, out]
  int part = 0;            // number `part` of `num_parts` tensors published as one
  int num_parts = 1;
  // As in TensorRule.
  std::function<int64_t(int64_t, int64_t)> source_row;
  std::function<void(std::span<float>, int64_t, int64_t)> edit;
};

class RuleList {
 public:
  // Every published name may begin with any one of `prefixes`.
  explicit RuleList(std::vector<std::string> prefixes = {""}) : prefixes_(std::move(prefixes)) {}

  // Published names of the rules that follow begin with `published`.
  void BeginLayer(int layer, const std::string& published);
  void EndLayers();

  // All names are stems: ".weight" and ".bias" are added here.
  void Norm(std::string_view name, const std::string& source, const RuleOptions& options = {});
  void Linear(std::string_view name, const std::vector<std::string>& sources, TensorSplit split,
              const RuleOptions& options = {});
  // A linear layer that every rank holds whole and that is never quantized.
  void Router(std::string_view name, const std::string& source) { Norm(name, source); }
  // Stacks of one matrix per expert; `sources` name the tensors of expert 0, 1, ... in turn, the
  // branches of each one after the other.
  void Experts(std::string_view name, const std::vector<std::string>& sources, TensorSplit split,
               int num_experts);
  // A table of one row per token or position.
  void Embedding(std::string_view name, const std::string& source,
                 TensorSplit split = TensorSplit::kEmbedding);
  // "lm_head"; `tied` is the embedding's source, for models that publish one table for both uses.
  void Head(const std::string& source, const std::string& tied, const RuleOptions& options = {});

  std::vector<TensorRule> Take() { return std::move(rules_); }

 private:
  TensorRule& Add(std::string_view name, const std::vector<std::string>& sources,
                  std::string_view suffix, const RuleOptions& options);

  std::vector<std::string> prefixes_;
  std::vector<TensorRule> rules_;
  int layer_ = -1;
  std::string own_prefix_ = "transformer.";  // of the checkpoint's names
  std::string published_prefix_;
};

}  // namespace trireme::models

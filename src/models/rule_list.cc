// SPDX-License-Identifier: Apache-2.0
#include "models/rule_list.h"

#include <utility>

#include "models/decoder.h"

namespace trireme::models {

void RuleList::BeginLayer(int layer, const std::string& published) {
  layer_ = layer;
  own_prefix_ = LayerPrefix(layer);
  published_prefix_ = published;
}

void RuleList::EndLayers() {
  layer_ = -1;
  own_prefix_ = "transformer.";
  published_prefix_.clear();
}

TensorRule& RuleList::Add(std::string_view name, const std::vector<std::string>& sources,
                          std::string_view suffix, const RuleOptions& options) {
  TensorRule rule;
  rule.name = own_prefix_ + std::string(name) + std::string(suffix);
  rule.layer = layer_;
  rule.part = options.part;
  rule.num_parts = options.num_parts;
  rule.source_row = options.source_row;
  rule.edit = options.edit;
  for (const std::string& prefix : prefixes_) {
    std::vector<std::string> names;
    for (const std::string& source : sources) {
      names.push_back(prefix + published_prefix_ + source + std::string(suffix));
    }
    if (rule.sources.empty()) {
      rule.sources = std::move(names);
    } else {
      rule.alternatives.push_back(std::move(names));
    }
  }
  return rules_.emplace_back(std::move(rule));
}

void RuleList::Norm(std::string_view name, const std::string& source, const RuleOptions& options) {
  Add(name, {source}, ".weight", options);
  if (options.bias) Add(name, {source}, ".bias", options);
}

void RuleList::Linear(std::string_view name, const std::vector<std::string>& sources,
                      TensorSplit split, const RuleOptions& options) {
  TensorRule& weight = Add(name, sources, ".weight", options);
  weight.split = split;
  weight.transpose = options.transpose;
  weight.quantizable = true;
  if (!options.bias) return;
  // A row-parallel layer adds its whole bias after the sum over the ranks.
  Add(name, sources, ".bias", options).split =
      split == TensorSplit::kColumns ? TensorSplit::kNone : split;
}

void RuleList::Experts(std::string_view name, const std::vector<std::string>& sources,
                       TensorSplit split, int num_experts) {
  TensorRule& rule = Add(name, sources, ".weight", {});
  rule.split = split;
  rule.quantizable = true;
  rule.num_matrices = num_experts;
  rule.branches = static_cast<int>(sources.size()) / num_experts;
}

void RuleList::Embedding(std::string_view name, const std::string& source, TensorSplit split) {
  Add(name, {source}, ".weight", {}).split = split;
}

void RuleList::Head(const std::string& source, const std::string& tied,
                    const RuleOptions& options) {
  const std::string own_prefix = std::exchange(own_prefix_, "");
  const auto add = [&](std::string_view suffix) -> TensorRule& {
    TensorRule& rule = Add("lm_head", {source}, suffix, options);
    rule.split = TensorSplit::kVocabRows;
    return rule;
  };
  TensorRule& weight = add(".weight");
  weight.quantizable = true;
  // A head is published beside the model as often as inside it.
  weight.alternatives.push_back({source + ".weight"});
  if (!tied.empty()) {
    for (const std::string& prefix : prefixes_) {
      weight.alternatives.push_back({prefix + tied + ".weight"});
    }
  }
  if (options.bias) add(".bias").alternatives.push_back({source + ".bias"});
  own_prefix_ = own_prefix;
}

}  // namespace trireme::models

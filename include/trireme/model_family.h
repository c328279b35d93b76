// SPDX-License-Identifier: Apache-2.0
// ModelFamily: everything Trireme knows of one kind of model, in one place: how its Hugging Face
// configuration reads, which published tensors make each checkpoint tensor, and its network.
// Families are immutable once registered; the registry is thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trireme/model_config.h"
#include "trireme/network.h"
#include "trireme/status.h"

namespace trireme {

// Rotary settings, from any of the layouts that have been published.
struct RopeParameters {
  std::optional<double> theta;
  double partial_rotary_factor = 1.0;  // share of a head that is rotated
  RotaryScaling scaling;
};

// A Hugging Face config.json. Getters take the names a key has had, newest first; a value of the
// wrong JSON type is INVALID_ARGUMENT naming the file and the key; null counts as absent.
class HfConfigView {
 public:
  virtual ~HfConfigView() = default;
  using Keys = std::initializer_list<std::string_view>;

  virtual const std::vector<std::string>& architectures() const = 0;
  virtual std::string model_type() const = 0;
  virtual StatusOr<std::optional<int64_t>> Int(Keys keys) const = 0;
  virtual StatusOr<std::optional<double>> Double(Keys keys) const = 0;
  virtual StatusOr<std::optional<bool>> Bool(Keys keys) const = 0;
  virtual StatusOr<std::optional<std::string>> String(Keys keys) const = 0;
  virtual StatusOr<std::optional<std::vector<std::string>>> Strings(Keys keys) const = 0;
  virtual StatusOr<RopeParameters> Rope() const = 0;
};

// How a checkpoint tensor is cut for tensor parallelism.
enum class TensorSplit {
  kNone,       // every rank holds it whole
  kRows,       // rows (output features) shared out: column parallel
  kColumns,    // columns (input features) shared out: row parallel
  kQkvRows,    // rows are [q | k | v]: each shared out by heads, KV heads replicated when too few
  kEmbedding,  // as use_parallel_embedding and embedding_sharding_dim say
  kVocabRows,  // rows shared out, padded to a multiple of the ranks
};

// One checkpoint tensor. With several sources they are stacked along rows in order.
struct TensorRule {
  std::string name;
  std::vector<std::string> sources;  // published names
  // Tried in order when the first of `sources` is absent: other published names of the same tensors,
  // or the tied embedding for a missing lm_head.
  std::vector<std::vector<std::string>> alternatives;
  TensorSplit split = TensorSplit::kNone;
  bool transpose = false;    // published as [in, out]
  bool quantizable = false;  // weight of a linear layer
  bool optional = false;     // absent in some publications: then not written
  // The stacked sources hold several tensors of equally many rows; this one is number `part` of
  // them (gate and up published as one).
  int part = 0;
  int num_parts = 1;
  // > 0: the rows are those of that many matrices of equal size (experts), and the checkpoint tensor
  // has rank 3: [num_matrices, rows, columns]. With kRows each of a matrix's `branches` (gate and
  // up) is shared out by itself.
  int num_matrices = 0;
  int branches = 1;
  int layer = -1;  // global layer index; the name holds it, convert renumbers per stage
  // What only this family needs, before the tensor is cut for the ranks. Tensors are never held
  // whole, so both see rows: which row of the stacked sources stands at `row` of `num_rows` (unset:
  // the same), and what becomes of any number of whole rows as float32. Biases have one column.
  std::function<int64_t(int64_t row, int64_t num_rows)> source_row;
  std::function<void(std::span<float> values, int64_t rows, int64_t columns)> edit;
};

class ModelFamily {
 public:
  virtual ~ModelFamily() = default;

  // `architectures` entries of config.json that this family reads.
  virtual std::vector<std::string> HfArchitectures() const = 0;
  // Whether a checkpoint with this configuration is of this family.
  virtual bool Matches(const ModelConfig& config) const = 0;

  // Fills everything but dtype, mapping and quantization.
  virtual StatusOr<ModelConfig> ConfigFromHf(const HfConfigView& hf) const = 0;
  // Every tensor of an unsharded checkpoint, in layer order.
  virtual StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig& config) const = 0;
  // The network of rank config.mapping.rank.
  virtual StatusOr<Network> BuildNetwork(const ModelConfig& config) const = 0;
};

// Adds a family. A later one wins over an earlier one that reads the same architecture.
void RegisterModelFamily(std::unique_ptr<const ModelFamily> family);

// NOT_FOUND lists the architectures that are known.
StatusOr<const ModelFamily*> FindFamilyByHfArchitecture(std::span<const std::string> names);
StatusOr<const ModelFamily*> FindFamilyByConfig(const ModelConfig& config);

}  // namespace trireme

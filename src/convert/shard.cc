// SPDX-License-Identifier: Apache-2.0
#include "convert/shard.h"

#include <algorithm>

#include "base/status.h"

namespace trireme::convert {
namespace {

// Heads [first, first + count) of the rank; a KV head may be shared by several ranks.
struct HeadRange {
  int64_t first = 0;
  int64_t count = 0;
};

HeadRange KvHeadsOf(const ModelConfig& config) {
  const int tp = config.mapping.tp_size;
  const int tp_rank = config.mapping.tp_rank();
  const int heads = config.num_key_value_heads;
  if (heads >= tp) return {int64_t{tp_rank} * (heads / tp), heads / tp};
  return {tp_rank / (tp / heads), 1};
}

Status CheckHeads(const ModelConfig& config) {
  const int tp = config.mapping.tp_size;
  if (config.num_attention_heads % tp != 0) {
    return InvalidArgument("{} attention heads cannot be shared out over tp_size {}",
                           config.num_attention_heads, tp);
  }
  if (config.num_key_value_heads % tp != 0 && tp % config.num_key_value_heads != 0) {
    return InvalidArgument(
        "{} KV heads can be neither shared out over nor replicated to tp_size {}",
        config.num_key_value_heads, tp);
  }
  return OkStatus();
}

StatusOr<std::vector<RowRange>> QkvRows(const ModelConfig& config) {
  TRIREME_RETURN_IF_ERROR(CheckHeads(config));
  const int64_t dim = config.head_size;
  const int64_t q_heads = config.num_attention_heads / config.mapping.tp_size;
  const int64_t q_begin = config.mapping.tp_rank() * q_heads * dim;
  const HeadRange kv = KvHeadsOf(config);
  const int64_t k_base = config.num_attention_heads * dim;
  const int64_t v_base = k_base + config.num_key_value_heads * dim;
  return std::vector<RowRange>{{q_begin, q_begin + q_heads * dim},
                               {k_base + kv.first * dim, k_base + (kv.first + kv.count) * dim},
                               {v_base + kv.first * dim, v_base + (kv.first + kv.count) * dim}};
}

StatusOr<RowRange> EvenShare(const ModelConfig& config, int64_t size, std::string_view what) {
  const int tp = config.mapping.tp_size;
  if (size % tp != 0) {
    return InvalidArgument("{} {} are not a multiple of tp_size {}", size, what, tp);
  }
  const int64_t share = size / tp;
  return RowRange{config.mapping.tp_rank() * share, (config.mapping.tp_rank() + 1) * share};
}

// Rounded up: the last ranks' missing rows are padding.
RowRange PaddedShare(const ModelConfig& config, int64_t size) {
  const int64_t share = (size + config.mapping.tp_size - 1) / config.mapping.tp_size;
  return {config.mapping.tp_rank() * share, (config.mapping.tp_rank() + 1) * share};
}

TensorSplit SplitOf(const TensorRule& rule, const ModelConfig& config) {
  if (config.mapping.tp_size == 1) return TensorSplit::kNone;
  if (rule.split != TensorSplit::kEmbedding) return rule.split;
  if (!config.use_parallel_embedding) return TensorSplit::kNone;
  return config.embedding_sharding_dim == 0 ? TensorSplit::kVocabRows : TensorSplit::kColumns;
}

// Writes one part as float32 [rows, columns], after the rule's transposition.
void PartToFloats(const TensorView& part, bool transpose, float* target) {
  if (!transpose || part.shape.rank() != 2) {
    ConvertFloats(part.dtype, part.data, DType::kFloat32, reinterpret_cast<std::byte*>(target),
                  part.shape.num_elements());
    return;
  }
  const int64_t rows = part.shape[1];
  const int64_t columns = part.shape[0];
  std::vector<float> published_row(static_cast<size_t>(rows));
  for (int64_t c = 0; c < columns; ++c) {
    ConvertFloats(part.dtype, part.data + DTypeBytes(part.dtype, c * rows), DType::kFloat32,
                  reinterpret_cast<std::byte*>(published_row.data()), rows);
    for (int64_t r = 0; r < rows; ++r) target[r * columns + c] = published_row[r];
  }
}

// Copies rows of the stacked parts, converting to `dtype`, without a whole copy of the stack.
class StackReader {
 public:
  StackReader(const std::vector<TensorView>& parts, int64_t columns)
      : parts_(parts), columns_(columns) {}

  void CopyRow(int64_t row, int64_t column, int64_t count, DType dtype, std::byte* to) const {
    for (const TensorView& part : parts_) {
      if (row >= part.shape[0]) {
        row -= part.shape[0];
        continue;
      }
      const std::byte* from = part.data + DTypeBytes(part.dtype, row * columns_ + column);
      ConvertFloats(part.dtype, from, dtype, to, count);
      return;
    }
  }

 private:
  const std::vector<TensorView>& parts_;
  int64_t columns_;
};

}  // namespace

StatusOr<std::optional<std::string>> NameOnRank(const TensorRule& rule, const ModelConfig& config,
                                                int rank) {
  ModelConfig local = config;
  local.mapping.rank = rank;
  const Mapping& mapping = local.mapping;
  if (config.num_hidden_layers % mapping.pp_size != 0) {
    return InvalidArgument("{} layers are not a multiple of pp_size {}", config.num_hidden_layers,
                           mapping.pp_size);
  }
  if (rule.layer < 0) {
    const bool first = rule.split == TensorSplit::kEmbedding ||
                       rule.name.find("embedding") != std::string::npos ||
                       rule.name.find("ln_embed") != std::string::npos;
    const bool held = first ? mapping.is_first_pp_rank() : mapping.is_last_pp_rank();
    return held ? std::optional(rule.name) : std::nullopt;
  }
  const int per_stage = config.num_hidden_layers / mapping.pp_size;
  if (rule.layer / per_stage != mapping.pp_rank()) return std::optional<std::string>();
  const std::string global = fmt::format("layers.{}.", rule.layer);
  std::string name = rule.name;
  const size_t at = name.find(global);
  if (at == std::string::npos) return Internal("rule '{}' does not name its layer", rule.name);
  name.replace(at, global.size(), fmt::format("layers.{}.", rule.layer % per_stage));
  return std::optional(std::move(name));
}

StatusOr<Shape> CheckedShape(const TensorRule& rule, const ModelConfig& config,
                             const Shape& whole) {
  int64_t rows = whole[0];
  if (rule.split == TensorSplit::kQkvRows) {
    rows = int64_t{config.num_attention_heads + 2 * config.num_key_value_heads} * config.head_size;
  } else if (rule.split == TensorSplit::kVocabRows || rule.split == TensorSplit::kEmbedding) {
    rows = config.vocab_size;
  }
  if (whole[0] == rows) return whole;
  return InvalidArgument("the published tensors have {} rows, config.json makes it {}", whole[0],
                         rows);
}

StatusOr<Slice> SliceOf(const TensorRule& rule, const ModelConfig& config, const Shape& whole) {
  const int64_t columns = whole.rank() == 2 ? whole[1] : 1;
  Slice slice;
  slice.rows = {{0, whole[0]}};
  slice.column_end = columns;
  switch (SplitOf(rule, config)) {
    case TensorSplit::kNone:
    case TensorSplit::kEmbedding: break;
    case TensorSplit::kQkvRows: {
      TRIREME_ASSIGN_OR_RETURN(slice.rows, QkvRows(config));
      break;
    }
    case TensorSplit::kRows: {
      TRIREME_ASSIGN_OR_RETURN(slice.rows[0], EvenShare(config, whole[0], "output features"));
      break;
    }
    case TensorSplit::kVocabRows: slice.rows[0] = PaddedShare(config, whole[0]); break;
    case TensorSplit::kColumns: {
      TRIREME_ASSIGN_OR_RETURN(const RowRange share, EvenShare(config, columns, "input features"));
      slice.column_begin = share.begin;
      slice.column_end = share.end;
      break;
    }
  }
  int64_t rows = 0;
  for (const RowRange& range : slice.rows) rows += range.end - range.begin;
  slice.shape =
      whole.rank() == 2 ? Shape{rows, slice.column_end - slice.column_begin} : Shape{rows};
  return slice;
}

StatusOr<HostTensor> MakeSlice(const TensorRule& rule, const std::vector<TensorView>& parts,
                               const Shape& whole, const Slice& slice, DType dtype) {
  const int64_t columns = whole.rank() == 2 ? whole[1] : 1;
  // A transposed or edited tensor goes through one float32 copy; the others are read in place.
  std::vector<float> edited;
  std::vector<TensorView> stack = parts;
  int64_t first_row = rule.part * whole[0];
  if (rule.transpose || rule.edit) {
    edited.resize(static_cast<size_t>(rule.num_parts * whole.num_elements()));
    float* target = edited.data();
    for (const TensorView& part : parts) {
      PartToFloats(part, rule.transpose, target);
      target += part.shape.num_elements();
    }
    const std::span<float> own = std::span(edited).subspan(
        static_cast<size_t>(first_row * columns), static_cast<size_t>(whole.num_elements()));
    if (rule.edit) rule.edit(own, whole[0], columns);
    stack = {{DType::kFloat32, whole, reinterpret_cast<const std::byte*>(own.data())}};
    first_row = 0;
  }
  HostTensor result(dtype, slice.shape);
  std::byte* to = result.bytes().data();
  const int64_t count = slice.column_end - slice.column_begin;
  const StackReader reader(stack, columns);
  for (const RowRange& range : slice.rows) {
    for (int64_t row = range.begin; row < range.end; ++row) {
      if (row < whole[0]) reader.CopyRow(first_row + row, slice.column_begin, count, dtype, to);
      to += DTypeBytes(dtype, count);
    }
  }
  return result;
}

}  // namespace trireme::convert

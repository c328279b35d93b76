// SPDX-License-Identifier: Apache-2.0
#include "convert/shard.h"

#include <algorithm>

#include "base/check.h"
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

// The rank's share of each block of rows: the branches of every matrix, or all rows as one.
StatusOr<std::vector<RowRange>> SharedRows(const TensorRule& rule, const ModelConfig& config,
                                           int64_t rows) {
  const int64_t num_blocks = std::max(1, rule.num_matrices) * rule.branches;
  if (rows % num_blocks != 0) {
    return InvalidArgument("{} rows are not {} equal blocks", rows, num_blocks);
  }
  const int64_t block = rows / num_blocks;
  TRIREME_ASSIGN_OR_RETURN(const RowRange share, EvenShare(config, block, "output features"));
  std::vector<RowRange> ranges;
  for (int64_t i = 0; i < num_blocks; ++i) {
    ranges.push_back({i * block + share.begin, i * block + share.end});
  }
  return ranges;
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

int64_t Columns(const Shape& shape) { return shape.rank() == 2 ? shape[1] : 1; }

// Rows [begin, end) of a part published as [in, out], columns [column, column + count).
void ReadTransposed(const TensorView& part, RowRange rows, int64_t column, int64_t count,
                    DType dtype, std::byte* to) {
  const int64_t part_rows = part.shape[1];
  const int64_t n = rows.end - rows.begin;
  std::vector<float> values(static_cast<size_t>(n * count));
  std::vector<float> line(static_cast<size_t>(n));
  for (int64_t c = 0; c < count; ++c) {
    const int64_t from = (column + c) * part_rows + rows.begin;
    ConvertFloats(part.dtype, part.data + DTypeBytes(part.dtype, from), DType::kFloat32,
                  reinterpret_cast<std::byte*>(line.data()), n);
    for (int64_t r = 0; r < n; ++r) values[static_cast<size_t>(r * count + c)] = line[r];
  }
  ConvertFloats(DType::kFloat32, reinterpret_cast<const std::byte*>(values.data()), dtype, to,
                n * count);
}

// Columns [column, column + count) of rows [first_row, first_row + num_rows).
void ReadColumns(const TensorView& rows, int64_t first_row, int64_t num_rows, int64_t column,
                 int64_t count, DType dtype, std::byte* to) {
  const int64_t columns = Columns(rows.shape);
  for (int64_t row = first_row; row < first_row + num_rows; ++row) {
    ConvertFloats(rows.dtype, rows.data + DTypeBytes(rows.dtype, row * columns + column), dtype, to,
                  count);
    to += DTypeBytes(dtype, count);
  }
}

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
      TRIREME_ASSIGN_OR_RETURN(slice.rows, SharedRows(rule, config, whole[0]));
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
  if (rule.num_matrices > 0) {
    if (whole.rank() != 2 || rows % rule.num_matrices != 0) {
      return InvalidArgument("tensors of shape {} are not {} matrices", whole.ToString(),
                             rule.num_matrices);
    }
    slice.shape = {rule.num_matrices, rows / rule.num_matrices,
                   slice.column_end - slice.column_begin};
    return slice;
  }
  slice.shape =
      whole.rank() == 2 ? Shape{rows, slice.column_end - slice.column_begin} : Shape{rows};
  return slice;
}

HostTensor SliceMaker::Rows(int64_t begin, int64_t end, DType dtype) const {
  const int64_t count = slice_.column_end - slice_.column_begin;
  const bool vector = slice_.shape.rank() == 1;
  HostTensor result(dtype, vector ? Shape{end - begin} : Shape{end - begin, count});
  std::byte* to = result.bytes().data();
  int64_t first = 0;  // row of the slice that the range begins at
  for (const RowRange& range : slice_.rows) {
    const int64_t from = std::max(begin, first);
    const int64_t until = std::min(end, first + range.end - range.begin);
    if (from < until) {
      // Rows past the tensor's end are padding and stay zero.
      const int64_t row = range.begin + from - first;
      const int64_t row_end = std::min(whole_[0], row + until - from);
      if (row < row_end && rule_.edit) {
        ReadEdited(row, row_end, dtype, to);
      } else if (row < row_end) {
        ReadRows(row, row_end, slice_.column_begin, count, dtype, to);
      }
      to += DTypeBytes(dtype, (until - from) * count);
    }
    first += range.end - range.begin;
  }
  return result;
}

void SliceMaker::ReadRows(int64_t begin, int64_t end, int64_t column, int64_t count, DType dtype,
                          std::byte* to) const {
  if (!rule_.source_row) return ReadStacked(begin, end, column, count, dtype, to);
  const int64_t num_rows = whole_[0];
  // Runs of rows that stand together in the source are read together.
  for (int64_t row = begin; row < end;) {
    const int64_t from = rule_.source_row(row, num_rows);
    TRIREME_CHECK(from >= 0 && from < num_rows);
    int64_t run = 1;
    while (row + run < end && from + run < num_rows &&
           rule_.source_row(row + run, num_rows) == from + run) {
      ++run;
    }
    ReadStacked(from, from + run, column, count, dtype, to);
    to += DTypeBytes(dtype, run * count);
    row += run;
  }
}

void SliceMaker::ReadStacked(int64_t begin, int64_t end, int64_t column, int64_t count, DType dtype,
                             std::byte* to) const {
  int64_t first = -rule_.part * whole_[0];  // row of this tensor that the part begins at
  for (const TensorView& part : parts_) {
    const bool transposed = rule_.transpose && part.shape.rank() == 2;
    const int64_t part_rows = part.shape[transposed ? 1 : 0];
    const int64_t from = std::max(begin, first);
    const int64_t until = std::min(end, first + part_rows);
    if (from < until) {
      if (transposed) {
        ReadTransposed(part, {from - first, until - first}, column, count, dtype, to);
      } else {
        ReadColumns(part, from - first, until - from, column, count, dtype, to);
      }
      to += DTypeBytes(dtype, (until - from) * count);
    }
    first += part_rows;
  }
}

void SliceMaker::ReadEdited(int64_t begin, int64_t end, DType dtype, std::byte* to) const {
  const int64_t columns = Columns(whole_);
  std::vector<float> rows(static_cast<size_t>((end - begin) * columns));
  ReadRows(begin, end, 0, columns, DType::kFloat32, reinterpret_cast<std::byte*>(rows.data()));
  rule_.edit(rows, end - begin, columns);
  const TensorView view{DType::kFloat32, Shape{end - begin, columns},
                        reinterpret_cast<const std::byte*>(rows.data())};
  ReadColumns(view, 0, end - begin, slice_.column_begin, slice_.column_end - slice_.column_begin,
              dtype, to);
}

}  // namespace trireme::convert

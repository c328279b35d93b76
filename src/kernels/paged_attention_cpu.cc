// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/check.h"
#include "kernels/attention_tile.h"
#include "kernels/cpu_variants.h"
#include "kernels/step_access.h"

namespace trireme::kernels {
namespace {

VariantsByIsa g_float32 TRIREME_VARIANTS_BY_ISA("paged_attention.float32");
VariantsByIsa g_float16 TRIREME_VARIANTS_BY_ISA("paged_attention.float16");
VariantsByIsa g_bfloat16 TRIREME_VARIANTS_BY_ISA("paged_attention.bfloat16");
KernelVariant g_avx2_spans("paged_attention.spans.avx2", Isa::kAvx2);
KernelVariant g_avx512_spans("paged_attention.spans.avx512", Isa::kAvx512);

const AttentionKernels* KernelsFor(const KvLayout& layout, Isa isa) {
  const bool fits = layout.head_dim % 16 == 0 && layout.block_size % 16 == 0;
  if (!fits || isa == Isa::kGeneric) return nullptr;
  const AttentionKernels* by_dtype =
      isa == Isa::kAvx512 ? kAvx512AttentionKernels : kAvx2AttentionKernels;
  switch (layout.dtype) {
    case DType::kFloat32: return &by_dtype[0];
    case DType::kFloat16: return &by_dtype[1];
    default: return &by_dtype[2];
  }
}

// Partial results that the workspace has room for.
int64_t MaxRecords(int num_threads) { return std::max(64, 8 * num_threads); }

// The tiles of a step, numbered sequence by sequence, kv head by kv head.
class TileList {
 public:
  // `first_tile`: [num_seqs + 1], filled here.
  TileList(const PagedAttentionParams& params, int32_t* first_tile)
      : first_tile_(first_tile),
        num_seqs_(params.step.num_seqs),
        num_kv_heads_(params.kv.layout.num_kv_heads) {
    const int64_t group = params.num_heads / num_kv_heads_;
    int64_t tiles = 0;
    for (int s = 0; s < num_seqs_; ++s) {
      first_tile_[s] = static_cast<int32_t>(tiles);
      const int64_t rows =
          group * (params.step.cu_query_lens[s + 1] - params.step.cu_query_lens[s]);
      tiles += (rows + kAttentionTileRows - 1) / kAttentionTileRows * num_kv_heads_;
    }
    first_tile_[num_seqs_] = static_cast<int32_t>(tiles);
    params_ = &params;
  }

  int64_t size() const { return first_tile_[num_seqs_]; }

  AttentionTile operator[](int64_t index) const {
    const int32_t* after = std::upper_bound(first_tile_, first_tile_ + num_seqs_, index);
    const int seq = static_cast<int>(after - first_tile_) - 1;
    const int64_t group = params_->num_heads / num_kv_heads_;
    const int32_t* cu = params_->step.cu_query_lens;
    const int64_t rows = group * (cu[seq + 1] - cu[seq]);
    const int64_t in_seq = index - first_tile_[seq];
    // The last tiles of a prompt see the most keys; they start first.
    const int64_t per_head = (first_tile_[seq + 1] - first_tile_[seq]) / num_kv_heads_;
    const int64_t first_row = (per_head - 1 - in_seq / num_kv_heads_) * kAttentionTileRows;
    return {.seq = seq,
            .kv_head = static_cast<int>(in_seq % num_kv_heads_),
            .first_row = first_row,
            .num_rows = static_cast<int>(std::min<int64_t>(kAttentionTileRows, rows - first_row))};
  }

 private:
  const PagedAttentionParams* params_ = nullptr;
  int32_t* first_tile_;
  int num_seqs_;
  int num_kv_heads_;
};

// Spans [first, end) that hold keys of a tile.
struct SpanRange {
  int64_t first = 0;
  int64_t end = 0;
};

SpanRange SpansOf(const PagedAttentionParams& params, const AttentionTile& tile) {
  const int64_t group = params.num_heads / params.kv.layout.num_kv_heads;
  const int64_t context = params.step.context_lens[tile.seq];
  const int64_t first_end = context + tile.first_row / group + 1;
  const int64_t last_end = context + (tile.first_row + tile.num_rows - 1) / group + 1;
  const int64_t begin = params.window > 0 ? std::max<int64_t>(0, first_end - params.window) : 0;
  return {begin / kAttentionSpan, (last_end + kAttentionSpan - 1) / kAttentionSpan};
}

// The longest row of records any tile needs.
int64_t MaxSpans(const PagedAttentionParams& params, const TileList& tiles) {
  int64_t spans = 0;
  for (int64_t i = 0; i < tiles.size(); ++i) {
    const SpanRange range = SpansOf(params, tiles[i]);
    spans = std::max(spans, range.end - range.first);
  }
  return spans;
}

// Few tiles with many keys each: threads share the spans of a tile. The same bits as without, since
// spans are joined in the same order.
void RunSplit(const PagedAttentionParams& params, const AttentionKernels& kernels,
              const TileList& tiles, int64_t spans, float* records, ThreadPool& pool) {
  const int64_t record_floats = AttentionRecord::Floats(params.kv.layout.head_dim);
  pool.ParallelFor(tiles.size() * spans, [&](int64_t task, int) {
    const AttentionTile tile = tiles[task / spans];
    const SpanRange range = SpansOf(params, tile);
    const int64_t span = range.first + task % spans;
    if (span < range.end) kernels.run_span(params, tile, span, records + task * record_floats);
  });
  pool.ParallelFor(tiles.size(), [&](int64_t task, int) {
    kernels.join(params, tiles[task], records + task * spans * record_floats);
  });
}

void RunGeneric(const PagedAttentionParams& params, CpuContext& context) {
  if (!context.pool) return PagedAttentionTokensGeneric(params, 0, params.step.num_tokens);
  context.pool->ParallelFor(params.step.num_tokens, [&](int64_t token, int) {
    PagedAttentionTokensGeneric(params, token, token + 1);
  });
}

int64_t AlignUp(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

int64_t PagedAttentionWorkspaceBytes(const KvLayout& layout, int num_heads, int max_seqs,
                                     int num_threads) {
  return AlignUp((int64_t{max_seqs} + 1) * 4) +
         MaxRecords(num_threads) * AttentionRecord::Floats(layout.head_dim) * 4;
}

void PagedAttention(const PagedAttentionParams& params, CpuContext& context) {
  const KvLayout& layout = params.kv.layout;
  TRIREME_CHECK_LE(layout.head_dim, kMaxHeadDim);
  TRIREME_CHECK_EQ(params.num_heads % layout.num_kv_heads, 0);
  const AttentionKernels* kernels = KernelsFor(layout, context.isa);
  (layout.dtype == DType::kFloat32   ? g_float32
   : layout.dtype == DType::kFloat16 ? g_float16
                                     : g_bfloat16)
      .Count(kernels ? context.isa : Isa::kGeneric);
  if (!kernels) return RunGeneric(params, context);

  TRIREME_CHECK(params.workspace != nullptr);
  auto* first_tile = reinterpret_cast<int32_t*>(params.workspace);
  const TileList tiles(params, first_tile);
  const int threads = context.pool ? context.pool->num_threads() : 1;
  if (threads > 1 && tiles.size() < 2 * threads) {
    const int64_t spans = MaxSpans(params, tiles);
    if (spans > 1 && tiles.size() * spans <= MaxRecords(threads)) {
      (context.isa == Isa::kAvx512 ? g_avx512_spans : g_avx2_spans).Count();
      auto* records = reinterpret_cast<float*>(params.workspace +
                                               AlignUp((int64_t{params.step.num_seqs} + 1) * 4));
      return RunSplit(params, *kernels, tiles, spans, records, *context.pool);
    }
  }
  const auto one = [&](int64_t task, int) { kernels->run_tile(params, tiles[task]); };
  if (context.pool) return context.pool->ParallelFor(tiles.size(), one);
  for (int64_t task = 0; task < tiles.size(); ++task) one(task, 0);
}

}  // namespace trireme::kernels

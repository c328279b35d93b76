// SPDX-License-Identifier: Apache-2.0
// The variants behind this folder's dispatchers (linear layers have their own list). Each runs on
// the calling thread alone; *_cpu.cc picks one and splits the work.
#pragma once

#include <cstdint>

#include "kernels/activation.h"
#include "kernels/attention_tile.h"
#include "kernels/elementwise.h"
#include "kernels/embedding.h"
#include "kernels/layer_norm.h"
#include "kernels/paged_attention.h"
#include "kernels/rms_norm.h"
#include "kernels/rope_kv_write.h"
#include "kernels/sampling_passes.h"
#include "kernels/variant_log.h"

namespace trireme::kernels {

// Kernels that treat rows alike, for one instruction set.
struct RowKernels {
  void (*rms_norm)(const RmsNormParams&);
  void (*layer_norm)(const LayerNormParams&);
  void (*activate)(const ActivationParams&);
  void (*embedding)(const EmbeddingParams&);
  void (*add)(const BinaryParams&);
  void (*mul)(const BinaryParams&);
  void (*scale)(const UnaryParams&);
  void (*soft_cap)(const UnaryParams&);
};
extern const RowKernels kAvx2RowKernels;
extern const RowKernels kAvx512RowKernels;
const RowKernels& RowKernelsFor(Isa isa);

// Attention over a cache of one dtype, for one instruction set; the arrays hold float32, float16,
// bfloat16.
struct AttentionKernels {
  void (*run_tile)(const PagedAttentionParams&, const AttentionTile&);
  void (*run_span)(const PagedAttentionParams&, const AttentionTile&, int64_t span, float* record);
  void (*join)(const PagedAttentionParams&, const AttentionTile&, const float* records);
};
extern const AttentionKernels kAvx2AttentionKernels[3];
extern const AttentionKernels kAvx512AttentionKernels[3];

// Of float32, float16, bfloat16 caches; for head_dim a multiple of 16. Token rows [begin, end).
using RopeKvWriteFn = void (*)(const RopeKvWriteParams&, int64_t begin, int64_t end);
extern const RopeKvWriteFn kAvx2RopeKvWrite[3];
extern const RopeKvWriteFn kAvx512RopeKvWrite[3];

extern const SamplingKernels kAvx2SamplingKernels;
extern const SamplingKernels kAvx512SamplingKernels;

// Token rows [begin, end) of the step.
void RopeKvWriteTokensGeneric(const RopeKvWriteParams& params, int64_t begin, int64_t end);
void PagedAttentionTokensGeneric(const PagedAttentionParams& params, int64_t begin, int64_t end);

// The log entries of a family with one variant per instruction set.
class VariantsByIsa {
 public:
  VariantsByIsa(const char* generic, const char* avx2, const char* avx512)
      : generic_(generic, Isa::kGeneric), avx2_(avx2, Isa::kAvx2), avx512_(avx512, Isa::kAvx512) {}
  void Count(Isa isa) {
    (isa == Isa::kAvx512 ? avx512_ : isa == Isa::kAvx2 ? avx2_ : generic_).Count();
  }

 private:
  KernelVariant generic_;
  KernelVariant avx2_;
  KernelVariant avx512_;
};
#define TRIREME_VARIANTS_BY_ISA(family) \
  { family ".generic", family ".avx2", family ".avx512" }

}  // namespace trireme::kernels

// SPDX-License-Identifier: Apache-2.0
// Dispatch of the kernels that treat rows alike: norms, activations, elementwise, embedding.
#include "base/check.h"
#include "kernels/cpu_variants.h"
#include "kernels/parallel_rows.h"

namespace trireme::kernels {
namespace {

constexpr RowKernels kGenericRowKernels = {
    .rms_norm = RmsNormReference,
    .layer_norm = LayerNormReference,
    .activate = ActivateReference,
    .embedding = EmbeddingReference,
    .add = AddReference,
    .mul = MulReference,
    .scale = ScaleReference,
    .soft_cap = SoftCapReference,
};

VariantsByIsa g_rms_norm TRIREME_VARIANTS_BY_ISA("rms_norm");
VariantsByIsa g_layer_norm TRIREME_VARIANTS_BY_ISA("layer_norm");
VariantsByIsa g_activate TRIREME_VARIANTS_BY_ISA("activate");
VariantsByIsa g_embedding TRIREME_VARIANTS_BY_ISA("embedding");
VariantsByIsa g_add TRIREME_VARIANTS_BY_ISA("add");
VariantsByIsa g_mul TRIREME_VARIANTS_BY_ISA("mul");
VariantsByIsa g_scale TRIREME_VARIANTS_BY_ISA("scale");
VariantsByIsa g_soft_cap TRIREME_VARIANTS_BY_ISA("soft_cap");

void Binary(const BinaryParams& params, CpuContext& context, void (*kernel)(const BinaryParams&)) {
  ParallelRows(context, params.num_rows, params.size, [&](int64_t begin, int64_t end) {
    BinaryParams part = params;
    part.a += begin * params.a_stride;
    part.b += begin * params.b_stride;
    part.y += begin * params.y_stride;
    part.num_rows = end - begin;
    kernel(part);
  });
}

void Unary(const UnaryParams& params, CpuContext& context, void (*kernel)(const UnaryParams&)) {
  ParallelRows(context, params.num_rows, params.size, [&](int64_t begin, int64_t end) {
    UnaryParams part = params;
    part.x += begin * params.x_stride;
    part.y += begin * params.y_stride;
    part.num_rows = end - begin;
    kernel(part);
  });
}

}  // namespace

const RowKernels& RowKernelsFor(Isa isa) {
  switch (isa) {
    case Isa::kAvx512: return kAvx512RowKernels;
    case Isa::kAvx2: return kAvx2RowKernels;
    default: return kGenericRowKernels;
  }
}

void RmsNorm(const RmsNormParams& params, CpuContext& context) {
  TRIREME_CHECK(params.num_heads == 1 || (!params.residual && !params.h));
  g_rms_norm.Count(context.isa);
  ParallelRows(context, params.num_tokens, params.num_heads * params.size,
               [&](int64_t begin, int64_t end) {
                 RmsNormParams part = params;
                 part.x += begin * params.x_stride;
                 part.y += begin * params.y_stride;
                 if (part.residual) part.residual += begin * params.residual_stride;
                 if (part.h) part.h += begin * params.h_stride;
                 part.num_tokens = end - begin;
                 RowKernelsFor(context.isa).rms_norm(part);
               });
}

void LayerNorm(const LayerNormParams& params, CpuContext& context) {
  g_layer_norm.Count(context.isa);
  ParallelRows(context, params.num_tokens, params.size, [&](int64_t begin, int64_t end) {
    LayerNormParams part = params;
    part.x += begin * params.x_stride;
    part.y += begin * params.y_stride;
    if (part.residual) part.residual += begin * params.residual_stride;
    if (part.h) part.h += begin * params.h_stride;
    part.num_tokens = end - begin;
    RowKernelsFor(context.isa).layer_norm(part);
  });
}

void Activate(const ActivationParams& params, CpuContext& context) {
  g_activate.Count(context.isa);
  // An exponential costs about as much as eight plain operations.
  ParallelRows(context, params.num_tokens, 8 * params.size, [&](int64_t begin, int64_t end) {
    ActivationParams part = params;
    part.x += begin * params.x_stride;
    if (part.up) part.up += begin * params.up_stride;
    part.y += begin * params.y_stride;
    part.num_tokens = end - begin;
    RowKernelsFor(context.isa).activate(part);
  });
}

void Embedding(const EmbeddingParams& params, CpuContext& context) {
  TRIREME_CHECK(params.table_dtype == DType::kFloat32 || params.table_dtype == DType::kFloat16 ||
                params.table_dtype == DType::kBFloat16);
  g_embedding.Count(context.isa);
  ParallelRows(context, params.num_tokens, params.hidden_size, [&](int64_t begin, int64_t end) {
    EmbeddingParams part = params;
    part.token_ids += begin;
    part.y += begin * params.y_stride;
    part.num_tokens = end - begin;
    RowKernelsFor(context.isa).embedding(part);
  });
}

void Add(const BinaryParams& params, CpuContext& context) {
  g_add.Count(context.isa);
  Binary(params, context, RowKernelsFor(context.isa).add);
}

void Mul(const BinaryParams& params, CpuContext& context) {
  g_mul.Count(context.isa);
  Binary(params, context, RowKernelsFor(context.isa).mul);
}

void Scale(const UnaryParams& params, CpuContext& context) {
  g_scale.Count(context.isa);
  Unary(params, context, RowKernelsFor(context.isa).scale);
}

void SoftCap(const UnaryParams& params, CpuContext& context) {
  g_soft_cap.Count(context.isa);
  Unary(params, context, RowKernelsFor(context.isa).soft_cap);
}

// memcpy is the best variant of a copy on every instruction set.
void CopyRows(const UnaryParams& params, CpuContext& context) {
  Unary(params, context, CopyRowsReference);
}

void GatherRows(const GatherRowsParams& params, CpuContext& context) {
  ParallelRows(context, params.num_rows, params.size, [&](int64_t begin, int64_t end) {
    GatherRowsParams part = params;
    part.rows += begin;
    part.y += begin * params.y_stride;
    part.num_rows = end - begin;
    GatherRowsReference(part);
  });
}

}  // namespace trireme::kernels

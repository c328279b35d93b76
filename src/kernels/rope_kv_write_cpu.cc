// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"
#include "kernels/cpu_variants.h"
#include "kernels/parallel_rows.h"
#include "kernels/step_access.h"

namespace trireme::kernels {
namespace {

VariantsByIsa g_rope_kv_write TRIREME_VARIANTS_BY_ISA("rope_kv_write");

}  // namespace

void RopeKvWrite(const RopeKvWriteParams& params, CpuContext& context) {
  const KvLayout& layout = params.kv.layout;
  TRIREME_CHECK_LE(layout.head_dim, kMaxHeadDim);
  TRIREME_CHECK_LE(params.rotary_dim, layout.head_dim);
  const Isa isa = layout.head_dim % 16 == 0 ? context.isa : Isa::kGeneric;
  const int type = layout.dtype == DType::kFloat32 ? 0 : layout.dtype == DType::kFloat16 ? 1 : 2;
  const RopeKvWriteFn run = isa == Isa::kAvx512 ? kAvx512RopeKvWrite[type]
                            : isa == Isa::kAvx2 ? kAvx2RopeKvWrite[type]
                                                : RopeKvWriteTokensGeneric;
  g_rope_kv_write.Count(isa);
  // Elements of k are stored one by one.
  const int64_t row_cost = int64_t{params.num_heads + 8 * layout.num_kv_heads} * layout.head_dim;
  ParallelRows(context, params.step.num_tokens, row_cost,
               [&](int64_t begin, int64_t end) { run(params, begin, end); });
}

}  // namespace trireme::kernels

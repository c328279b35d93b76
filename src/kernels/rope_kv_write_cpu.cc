// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"
#include "kernels/cpu_variants.h"
#include "kernels/parallel_rows.h"
#include "kernels/step_access.h"

namespace trireme::kernels {
namespace {

KernelVariant g_generic("rope_kv_write.generic", Isa::kGeneric);

}  // namespace

void RopeKvWrite(const RopeKvWriteParams& params, CpuContext& context) {
  const KvLayout& layout = params.kv.layout;
  TRIREME_CHECK_LE(layout.head_dim, kMaxHeadDim);
  TRIREME_CHECK_LE(params.rotary_dim, layout.head_dim);
  g_generic.Count();
  const int64_t row_cost = int64_t{params.num_heads + 4 * layout.num_kv_heads} * layout.head_dim;
  ParallelRows(context, params.step.num_tokens, row_cost,
               [&](int64_t begin, int64_t end) { RopeKvWriteTokensGeneric(params, begin, end); });
}

}  // namespace trireme::kernels

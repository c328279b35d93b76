// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"
#include "kernels/cpu_variants.h"
#include "kernels/step_access.h"

namespace trireme::kernels {
namespace {

KernelVariant g_generic("paged_attention.generic", Isa::kGeneric);

}  // namespace

int64_t PagedAttentionWorkspaceBytes(const KvLayout& layout, int num_heads, int max_seqs,
                                     int num_threads) {
  return 64;
}

void PagedAttention(const PagedAttentionParams& params, CpuContext& context) {
  TRIREME_CHECK_LE(params.kv.layout.head_dim, kMaxHeadDim);
  TRIREME_CHECK_EQ(params.num_heads % params.kv.layout.num_kv_heads, 0);
  g_generic.Count();
  const auto one = [&](int64_t token, int) {
    PagedAttentionTokensGeneric(params, token, token + 1);
  };
  if (!context.pool) return PagedAttentionTokensGeneric(params, 0, params.step.num_tokens);
  context.pool->ParallelFor(params.step.num_tokens, one);
}

}  // namespace trireme::kernels

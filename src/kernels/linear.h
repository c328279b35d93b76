// SPDX-License-Identifier: Apache-2.0
// Linear layers: y = epilogue(x W^T + bias), float or weight-only quantized W. Engine thread only.
//
// | operand  | dtype            | shape                    | notes                                   |
// |----------|------------------|--------------------------|-----------------------------------------|
// | x        | float32          | [num_tokens, in]         | row stride x_stride                     |
// | W        | problem.weight   | [out, in]                | packed once into a named layout         |
// | bias     | float32          | [out] or null            |                                         |
// | residual | float32          | [num_tokens, out] or null| added last; may alias y                 |
// | y        | float32          | [num_tokens, out'] out' = out, or out / 2 when gated | row stride y_stride |
//
// Accumulation: float32 (exact int32 within a quantization group). Every y element is reduced in an
// order that depends on `in` and the tactic's `numerics` alone, never on num_tokens, its row, or the
// number of threads: results are bit-identical alone, batched and chunked.
//
// | numerics              | x is taken as                         | rms error of a layer, normal x and W |
// |-----------------------|---------------------------------------|--------------------------------------|
// | float32_fma           | float32                               | < 1e-6                               |
// | float32_multiply_add  | float32, no fused operations          | < 1e-6                               |
// | bfloat16_dot          | bfloat16 (subnormals as zero)         | 1.7e-3                               |
// | int8_activations_g32  | 8 bits, one scale for 32 inputs       | 5.4e-3                               |
// | int16_activations_g32 | 15 bits, one scale for 32 inputs      | 4.2e-5                               |
//
// 8- and 4-bit weights are offered with 8-bit activations (fastest prefill) and with 16-bit ones
// (half that; decode is bound by memory either way); float32 engines get the latter only. With 8-bit
// ones two small layers of a transformer stay within 1e-2 of the logits' deviation, barely.
//
// Bound by memory at few rows: of ten layers of two models, AVX-512 kernels read W at 96-99 % of the
// two-thread read bandwidth (median by format; worst layer 89 %, int8 with 16-bit activations). Bound
// by arithmetic at many: 77 % of the vdpbf16ps limit, 62 % of the vpdpbusd one (AMD Zen 5,
// bench/results/cpu_linear_zen5_2vcpu.json).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/cpu_context.h"
#include "tensor/quant_spec.h"
#include "tensor/tensor_view.h"

namespace trireme::kernels {

enum class GatedActivation { kNone, kSilu, kGelu, kGeluTanh, kRelu };

struct LinearProblem {
  int64_t out_features = 0;  // rows of W as stored; for a gated layer both branches together
  int64_t in_features = 0;
  DType dtype = DType::kBFloat16;  // engine dtype: of a float W, and of the rounding of x where the
                                   // tactic rounds x to it
  WeightQuant quant;
  // Not kNone: rows [0, out/2) are the activated branch, rows [out/2, out) the plain one, and
  // y = act(first) * second has out/2 columns.
  GatedActivation gated = GatedActivation::kNone;
};

// One way to run a problem: a packed layout, and a kernel that reads it.
struct LinearTactic {
  std::string layout;    // "bf16_n32k2", ...: how W is packed
  std::string kernel;    // "avx512_bf16", ... plus its configuration
  std::string numerics;  // tactics with equal numerics agree bit for bit on every input
};

// The tactics for `problem` of the best instruction set among `features`, best guess first: two or
// more of each numerics class, or none for a problem without CPU kernels. Layouts are common to all
// instruction sets, so an engine can be moved to a lesser processor without repacking.
std::vector<LinearTactic> LinearTactics(const LinearProblem& problem, const CpuFeatures& features);

// These and the lesser instruction sets' below them, down to the generic ones: to force one.
std::vector<LinearTactic> AllLinearTactics(const LinearProblem& problem,
                                           const CpuFeatures& features);

// Bytes of W (values, scales, padding) in `layout`.
StatusOr<int64_t> PackedLinearBytes(const LinearProblem& problem, const std::string& layout);

// Packs W for `layout`. `weight`: [out, in] of a float dtype, or int8 / int4 (packed low nibble
// first) as problem.quant says, then `scales`: [out] or [out, in / group_size] of a float dtype.
Status PackLinear(const LinearProblem& problem, const std::string& layout, const TensorView& weight,
                  const TensorView* scales, std::span<std::byte> packed);

struct LinearVariant;  // linear_variant.h

struct LinearParams {
  const float* x = nullptr;
  int64_t x_stride = 0;
  const std::byte* packed = nullptr;  // 64-byte aligned
  const float* bias = nullptr;
  const float* residual = nullptr;
  int64_t residual_stride = 0;
  float* y = nullptr;
  int64_t y_stride = 0;
  int64_t num_tokens = 0;
  std::byte* workspace = nullptr;  // LinearWorkspaceBytes, 64-byte aligned
  // W of the layer that runs next: threads that wait ask memory for the first of it meanwhile.
  ThreadPool::Upcoming next;
};

// What LinearParams::next says of this layer.
StatusOr<ThreadPool::Upcoming> LinearReads(const LinearProblem& problem, const std::string& layout,
                                           const std::byte* packed);

int64_t LinearWorkspaceBytes(const LinearProblem& problem, const LinearTactic& tactic,
                             int64_t max_tokens, int num_threads);

// A tactic bound to its problem: resolved once at load, called every step.
class LinearKernel {
 public:
  static StatusOr<LinearKernel> Create(const LinearProblem& problem, const LinearTactic& tactic);
  void Run(const LinearParams& params, CpuContext& context) const;
  const LinearProblem& problem() const { return problem_; }

 private:
  LinearProblem problem_;
  const LinearVariant* variant_ = nullptr;
};

// Every kernel of this build, in no promised order; each is "linear.<name>" in KernelVariantLog.
std::vector<std::string> LinearVariantNames();

// The meaning: W dequantized to float32, float64-free sequential float32 dot products.
void LinearReference(const LinearProblem& problem, const TensorView& weight,
                     const TensorView* scales, const LinearParams& params);

// The same on packed weights, which it unpacks on the fly; bit for bit what LinearReference gives for
// the values that were packed. Takes x as float32 whatever the tactic does. Needs no workspace.
class PackedLinearReference {
 public:
  static StatusOr<PackedLinearReference> Create(const LinearProblem& problem,
                                                const std::string& layout);
  void Run(const LinearParams& params) const;

 private:
  LinearProblem problem_;
  std::string layout_;
};

}  // namespace trireme::kernels

// SPDX-License-Identifier: Apache-2.0
// Linear layers on CUDA, with what comes before and after them. Host code; engine thread only.
//
//   x' = RmsNorm(x; gamma, epsilon) where has_rms_norm, else x
//   q  = e4m3(x' / x_scale) with FP8 weights, else T(x')
//   a  = alpha * q W^T + bias                                            float32
//   y  = gated ? act(a[:, :out/2]) * a[:, out/2:] : a
//   y  = y + residual                                                    rounded once to y_dtype
//
// | operand  | dtype                  | shape                  | notes                              |
// |----------|------------------------|------------------------|------------------------------------|
// | x        | x_dtype: T, or e4m3 (q) | [num_rows, in]        | row stride x_stride                |
// | gamma    | T                      | [in]                   | with has_rms_norm                  |
// | W        | T or e4m3              | [out, in], row-major   | gated: the activated branch first  |
// | bias     | T                      | [out]                  | with has_bias; not gated, y in T   |
// | residual | T                      | [num_rows, out]        | may alias y; not gated, y in T     |
// | y        | y_dtype: T, float32, or e4m3 (y / y_scale; gated) | [num_rows, out or out / 2] |    |
//
// T: bfloat16 or float16. alpha = w_scale * x_scale for FP8, else 1. Pointers 16-byte aligned; in and
// row strides multiples of 8 (16 for FP8), out a multiple of 8 (16 for FP8 or gated). Accumulation
// float32. A composed tactic rounds x' W^T to T before the activation, a fused one does not.
// Rows at or beyond *num_tokens hold unspecified values, or are left as they were. A tactic gives
// equal bits for equal inputs on one device; different tactics need not agree.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "device/cuda/launch.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

enum class LinearWeight : uint8_t {
  kFloat,       // T
  kFloat8E4M3,  // one scale for the tensor
};

struct LinearProblem {
  int64_t out_features = 0;  // rows of W; for a gated layer both branches together
  int64_t in_features = 0;
  Element dtype = Element::kBFloat16;  // T
  LinearWeight weight = LinearWeight::kFloat;
  Element x_dtype = Element::kBFloat16;
  Element y_dtype = Element::kBFloat16;
  bool has_rms_norm = false;
  bool gamma_plus_one = false;
  bool has_bias = false;
  bool has_residual = false;
  bool gated = false;
  Activation activation = Activation::kSilu;  // of a gated layer
};

struct LinearOperands {
  const void* x = nullptr;
  int64_t x_stride = 0;
  const void* weight = nullptr;
  const void* gamma = nullptr;
  float epsilon = 1e-5f;
  float x_scale = 1.0f;
  float w_scale = 1.0f;
  const void* bias = nullptr;
  const void* residual = nullptr;
  int64_t residual_stride = 0;
  void* y = nullptr;
  int64_t y_stride = 0;
  float y_scale = 1.0f;
  int num_rows = 0;                     // launched for; at most the max_rows it was bound for
  const int32_t* num_tokens = nullptr;  // device: rows that count
};

// A tactic bound to a problem: resolved once at load, run every step.
class LinearKernel {
 public:
  virtual ~LinearKernel() = default;
  // For any num_rows up to max_rows.
  virtual int64_t workspace_bytes() const = 0;
  // Never allocates or synchronises. `workspace` is 256-byte aligned and free for the launch's use
  // until the next one of the stream.
  virtual Status Run(const LinearOperands& operands, void* workspace, LaunchContext& context) = 0;
};

class CublasLt;

// What is known of the linear layers of one device.
class LinearLibrary {
 public:
  // `cublaslt_path`: empty for the loader's search path and the toolkit's usual folders. Fails where
  // cuBLASLt 13 is not found: M above 8 needs it.
  static StatusOr<std::unique_ptr<LinearLibrary>> Create(const std::string& cublaslt_path);
  ~LinearLibrary();

  // Candidate tactics for up to max_rows rows, best guess first; each names itself completely, so
  // that a builder can time and store it:
  //   gemv               own kernel for up to 8 rows, everything fused, default configuration
  //   gemv:WxD+P         warps, ring depth, KB of L2 prefetch of each block (gemv.h)
  //   cublaslt           cuBLASLt's first choice, norm, activation and quantization composed
  //   cublaslt:HEX       one of its candidates, by its algorithm's bytes (same library version)
  //   cublaslt_fast:HEX  FP8 only: lower-precision accumulation inside the tensor cores
  StatusOr<std::vector<std::string>> Tactics(const LinearProblem& problem, int max_rows) const;

  StatusOr<std::unique_ptr<LinearKernel>> Bind(const LinearProblem& problem, int max_rows,
                                               const std::string& tactic) const;

 private:
  explicit LinearLibrary(std::unique_ptr<CublasLt> cublaslt);
  std::unique_ptr<CublasLt> cublaslt_;
};

// Whether any tactic runs `problem`; the reason why not.
Status SupportsLinear(const LinearProblem& problem);

// The tactic to take where none was timed. Pure: needs no GPU.
std::string DefaultLinearTactic(const LinearProblem& problem, int max_rows);

}  // namespace trireme::cuda

// SPDX-License-Identifier: Apache-2.0
// cuBLASLt behind dlopen: y = alpha * x W^T (+ bias) (+ residual), row-major. Engine thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "device/cuda/launch.h"
#include "kernels/cuda/types.h"

namespace trireme::cuda {

struct MatmulProblem {
  int64_t out_features = 0;
  int64_t in_features = 0;
  Element operand = Element::kBFloat16;  // of x and W
  Element output = Element::kBFloat16;   // of y and the residual
  Element bias = Element::kBFloat16;
  bool has_bias = false;
  bool has_residual = false;
  bool fast_accumulation = false;  // FP8: fewer promotions of the tensor cores' accumulators
  int max_rows = 0;
};

struct MatmulOperands {
  const void* x = nullptr;
  int64_t x_stride = 0;
  const void* weight = nullptr;
  const void* bias = nullptr;
  const void* residual = nullptr;
  int64_t residual_stride = 0;
  void* y = nullptr;
  int64_t y_stride = 0;
  float alpha = 1.0f;
  int num_rows = 0;
};

class CublasLtMatmul {
 public:
  virtual ~CublasLtMatmul() = default;
  virtual int64_t workspace_bytes() const = 0;
  virtual Status Run(const MatmulOperands& operands, void* workspace, LaunchContext& context) = 0;
};

struct CublasLtFunctions;

class CublasLt {
 public:
  // `path`: empty for the loader's search path and the toolkit's usual folders.
  static StatusOr<std::unique_ptr<CublasLt>> Open(const std::string& path);
  ~CublasLt();

  // At most `limit` algorithms of the library's heuristic, best guess first, as hexadecimal bytes:
  // meaningful to the same library version only.
  StatusOr<std::vector<std::string>> Candidates(const MatmulProblem& problem, int limit) const;
  // `algorithm`: empty for the first choice. The result must not outlive this.
  StatusOr<std::unique_ptr<CublasLtMatmul>> Bind(const MatmulProblem& problem,
                                                 const std::string& algorithm) const;
  // 130100 for 13.1.0.
  int64_t version() const;

 private:
  CublasLt() = default;
  std::unique_ptr<CublasLtFunctions> functions_;
  void* handle_ = nullptr;
};

}  // namespace trireme::cuda

// SPDX-License-Identifier: Apache-2.0
// What a composed linear layer runs before and after its matrix product. Host code; engine thread
// only.
//
// Workspace: [x' or q: max_rows x in][both branches of a gated layer: max_rows x out, T], each part
// only where a stage needs it.
#pragma once

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/linear.h"

namespace trireme::cuda {

MatmulProblem MatmulOf(const LinearProblem& problem, int max_rows);

class LinearStages {
 public:
  LinearStages(const LinearProblem& problem, int max_rows);

  int64_t workspace_bytes() const { return input_bytes_ + gate_bytes_; }
  // Launches norm or quantization, and says what the matrix product reads and writes.
  Status Before(const LinearOperands& operands, void* workspace, LaunchContext& context,
                MatmulOperands* matmul) const;
  Status After(const LinearOperands& operands, void* workspace, LaunchContext& context) const;

 private:
  Status Normalize(const LinearOperands& operands, void* q, LaunchContext& context) const;
  Status Quantize(const LinearOperands& operands, void* q, LaunchContext& context) const;

  LinearProblem problem_;
  bool quantizes_;  // x arrives as T and leaves as e4m3
  int64_t input_bytes_ = 0;
  int64_t gate_bytes_ = 0;
};

}  // namespace trireme::cuda

// SPDX-License-Identifier: Apache-2.0
// Times tactics of linear layers on the GPU at hand. One thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "device/cuda/buffer.h"
#include "device/cuda/launch.h"
#include "device/cuda/stream.h"
#include "kernels/cuda/linear.h"

namespace trireme::compile {

class LinearTimer {
 public:
  // FAILED_PRECONDITION where there is no GPU to time on.
  static StatusOr<std::unique_ptr<LinearTimer>> Create();

  StatusOr<std::vector<std::string>> Tactics(const cuda::LinearProblem& problem, int rows) const {
    return library_->Tactics(problem, rows);
  }
  // Microseconds of one run at `rows` rows, weights read from memory and not from a cache.
  StatusOr<double> Time(const cuda::LinearProblem& problem, int rows, const std::string& tactic);

  // Of each of `tactics`, a few runs of one after a few of the other, again and again.
  StatusOr<std::vector<double>> TimeInTurns(const cuda::LinearProblem& problem, int rows,
                                            const std::vector<std::string>& tactics);
  // What the product of a tactic gives for rows that repeat every kPatternRows, a hash of each of the
  // first ones: tactics agree bit for bit where these do. Empty where places of one row differ.
  static constexpr int kPatternRows = 16;
  StatusOr<std::vector<uint64_t>> RowHashes(const cuda::LinearProblem& problem, int rows,
                                            const std::string& tactic);

 private:
  StatusOr<std::unique_ptr<cuda::LinearKernel>> Prepare(const cuda::LinearProblem& problem,
                                                        int rows, const std::string& tactic,
                                                        cuda::LinearOperands& operands);
  Status ReserveWorkspace(const cuda::LinearProblem& problem, int rows,
                          const std::vector<std::string>& tactics);
  Status Reserve(const cuda::LinearProblem& problem, int rows);
  // A tactic's runs over the copies of the weight.
  struct Runs {
    std::unique_ptr<cuda::LinearKernel> kernel;
    cuda::GraphExec graph;
    int count = 0;
  };
  StatusOr<Runs> Capture(const cuda::LinearProblem& problem, int rows, const std::string& tactic);
  // Microseconds of one run.
  StatusOr<double> Replay(const Runs& runs);

  std::unique_ptr<cuda::LinearLibrary> library_;
  cuda::Stream stream_;
  cuda::LaunchContext context_;
  int64_t l2_bytes_ = 0;
  cuda::DeviceBuffer weights_;  // several copies of the largest weight
  cuda::Element weights_element_ = cuda::Element::kFloat32;
  cuda::DeviceBuffer activations_;  // x, y, residual, bias and gamma, random
  struct DrawnFor {
    cuda::Element dtype = cuda::Element::kFloat32;
    cuda::Element x_dtype = cuda::Element::kFloat32;
    int64_t operand_bytes = 0;
    bool operator==(const DrawnFor&) const = default;
  };
  DrawnFor drawn_for_;
  cuda::DeviceBuffer workspace_;
  cuda::DeviceBuffer count_;  // rows that count: all
};

}  // namespace trireme::compile

// SPDX-License-Identifier: Apache-2.0
#include "compile/cuda/linear_timer.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string_view>

#include "device/cuda/cuda_status.h"
#include "device/cuda/device_info.h"
#include "kernels/cuda/random_normal.h"

namespace trireme::compile {
namespace {

// Weights rotate through this many times the L2.
constexpr int64_t kL2Multiple = 4;
constexpr int kMaxLaunches = 20;
constexpr int kRoundsAlone = 3;
constexpr int kRoundsInTurns = 9;
constexpr float kFloat8Std = 30.0f;  // of e4m3's range of 448

int64_t WeightBytes(const cuda::LinearProblem& problem) {
  const int64_t size = problem.weight == cuda::LinearWeight::kFloat8E4M3 ? 1 : 2;
  return problem.out_features * problem.in_features * size;
}

// Bytes of each of x, y, residual, bias and gamma, enough for any of them in float32.
int64_t OperandBytes(const cuda::LinearProblem& problem, int rows) {
  const int64_t width = std::max(problem.out_features, problem.in_features);
  return (rows * width * static_cast<int64_t>(sizeof(float)) + 255) / 256 * 256;
}

// Numbers as a model has them: the power that a product draws, and with it the clock, depends on its
// operands.
Status Randomize(std::byte* target, int64_t num_bytes, cuda::Element element, float std,
                 cuda::LaunchContext& context) {
  const bool float8 = element == cuda::Element::kFloat8E4M3;
  return cuda::CudaStatus(cuda::RandomNormal({.dtype = element,
                                              .y = target,
                                              .count = float8 ? num_bytes : num_bytes / 2,
                                              .std = float8 ? kFloat8Std : std,
                                              .seed = 1},
                                             context),
                          "drawing operands");
}

}  // namespace

StatusOr<std::unique_ptr<LinearTimer>> LinearTimer::Create() {
  auto timer = std::make_unique<LinearTimer>();
  TRIREME_ASSIGN_OR_RETURN(const cuda::DeviceInfo device, cuda::GetDeviceInfo());
  TRIREME_ASSIGN_OR_RETURN(timer->library_, cuda::LinearLibrary::Create(""));
  TRIREME_ASSIGN_OR_RETURN(timer->stream_, cuda::Stream::Create());
  timer->context_.stream = timer->stream_.get();
  timer->context_.num_sms = device.num_sms;
  timer->l2_bytes_ = device.l2_bytes;
  TRIREME_ASSIGN_OR_RETURN(timer->count_,
                           cuda::DeviceBuffer::Allocate(sizeof(int32_t), "a row count"));
  return timer;
}

Status LinearTimer::Reserve(const cuda::LinearProblem& problem, int rows) {
  const int64_t weight_bytes = std::max(2 * WeightBytes(problem), kL2Multiple * l2_bytes_);
  const cuda::Element weight = problem.weight == cuda::LinearWeight::kFloat8E4M3
                                   ? cuda::Element::kFloat8E4M3
                                   : problem.dtype;
  if (weights_.size() < weight_bytes || weights_element_ != weight) {
    if (weights_.size() < weight_bytes) {
      weights_ = {};
      TRIREME_ASSIGN_OR_RETURN(
          weights_, cuda::DeviceBuffer::Allocate(weight_bytes, "weights to time tactics with"));
    }
    weights_element_ = weight;
    TRIREME_RETURN_IF_ERROR(Randomize(weights_.data(), weights_.size(), weight, 0.02f, context_));
  }
  const int64_t operand_bytes = OperandBytes(problem, rows);
  if (activations_.size() < 5 * operand_bytes) {
    activations_ = {};
    TRIREME_ASSIGN_OR_RETURN(
        activations_, cuda::DeviceBuffer::Allocate(5 * operand_bytes, "rows to time tactics with"));
    drawn_for_ = {};
  }
  if (!(drawn_for_ == DrawnFor{problem.dtype, problem.x_dtype, operand_bytes})) {
    drawn_for_ = {problem.dtype, problem.x_dtype, operand_bytes};
    TRIREME_RETURN_IF_ERROR(
        Randomize(activations_.data(), operand_bytes, problem.x_dtype, 1.0f, context_));
    TRIREME_RETURN_IF_ERROR(Randomize(activations_.data() + operand_bytes, 4 * operand_bytes,
                                      problem.dtype, 1.0f, context_));
  }
  return OkStatus();
}

// Room for any of `tactics`.
Status LinearTimer::ReserveWorkspace(const cuda::LinearProblem& problem, int rows,
                                     const std::vector<std::string>& tactics) {
  int64_t most = 0;
  for (const std::string& tactic : tactics) {
    TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<cuda::LinearKernel> kernel,
                             library_->Bind(problem, rows, tactic));
    most = std::max(most, kernel->workspace_bytes());
  }
  if (workspace_.size() >= most) return OkStatus();
  workspace_ = {};
  TRIREME_ASSIGN_OR_RETURN(workspace_,
                           cuda::DeviceBuffer::Allocate(most, "workspace to time tactics with"));
  return OkStatus();
}

// Binds `tactic`, and points `operands` at random numbers.
StatusOr<std::unique_ptr<cuda::LinearKernel>> LinearTimer::Prepare(
    const cuda::LinearProblem& problem, int rows, const std::string& tactic,
    cuda::LinearOperands& operands) {
  TRIREME_RETURN_IF_ERROR(Reserve(problem, rows));
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<cuda::LinearKernel> kernel,
                           library_->Bind(problem, rows, tactic));
  if (workspace_.size() < kernel->workspace_bytes()) {
    TRIREME_RETURN_IF_ERROR(ReserveWorkspace(problem, rows, {tactic}));
  }
  const int64_t operand = OperandBytes(problem, rows);
  const auto part = [&](int index) { return activations_.data() + index * operand; };
  operands.x = part(0);
  operands.x_stride = problem.in_features;
  operands.weight = weights_.data();
  operands.y = part(1);
  operands.y_stride = problem.gated ? problem.out_features / 2 : problem.out_features;
  if (problem.has_residual) operands.residual = part(2);
  operands.residual_stride = problem.out_features;
  if (problem.has_bias) operands.bias = part(3);
  if (problem.has_rms_norm) operands.gamma = part(4);
  const bool float8 = problem.weight == cuda::LinearWeight::kFloat8E4M3;
  operands.x_scale = operands.y_scale = float8 ? 1.0f / kFloat8Std : 1.0f;
  operands.w_scale = operands.x_scale / std::sqrt(static_cast<float>(problem.in_features));
  operands.num_rows = rows;
  const int32_t count = rows;
  TRIREME_CUDA_RETURN_IF_ERROR(
      cudaMemcpy(count_.data(), &count, sizeof(count), cudaMemcpyHostToDevice),
      "sending a row count");
  operands.num_tokens = count_.as<const int32_t>();
  return kernel;
}

StatusOr<LinearTimer::Runs> LinearTimer::Capture(const cuda::LinearProblem& problem, int rows,
                                                 const std::string& tactic) {
  Runs runs;
  cuda::LinearOperands operands;
  TRIREME_ASSIGN_OR_RETURN(runs.kernel, Prepare(problem, rows, tactic, operands));
  const int64_t stride = WeightBytes(problem);
  const int copies = static_cast<int>(std::max<int64_t>(1, weights_.size() / stride));
  runs.count = rows <= 256 ? kMaxLaunches : 4;
  TRIREME_ASSIGN_OR_RETURN(
      runs.graph, cuda::GraphExec::Capture(stream_, [&]() -> Status {
        context_.dependent = true;
        for (int i = 0; i < runs.count; ++i) {
          operands.weight = weights_.data() + i % copies * stride;
          TRIREME_RETURN_IF_ERROR(runs.kernel->Run(operands, workspace_.data(), context_));
        }
        return OkStatus();
      }));
  context_.dependent = false;
  return runs;
}

StatusOr<double> LinearTimer::Replay(const Runs& runs) {
  TRIREME_ASSIGN_OR_RETURN(const cuda::TimedEvent begin, cuda::TimedEvent::Create());
  TRIREME_ASSIGN_OR_RETURN(const cuda::TimedEvent end, cuda::TimedEvent::Create());
  TRIREME_RETURN_IF_ERROR(begin.Record(stream_.get()));
  TRIREME_RETURN_IF_ERROR(runs.graph.Launch(stream_));
  TRIREME_RETURN_IF_ERROR(end.Record(stream_.get()));
  TRIREME_RETURN_IF_ERROR(end.Synchronize());
  TRIREME_ASSIGN_OR_RETURN(const double us, end.MicrosecondsSince(begin));
  return us / runs.count;
}

StatusOr<double> LinearTimer::Time(const cuda::LinearProblem& problem, int rows,
                                   const std::string& tactic) {
  TRIREME_ASSIGN_OR_RETURN(const std::vector<double> times, TimeInTurns(problem, rows, {tactic}));
  return times.front();
}

// Medians over the rounds, after one to warm up.
StatusOr<std::vector<double>> LinearTimer::TimeInTurns(const cuda::LinearProblem& problem, int rows,
                                                       const std::vector<std::string>& tactics) {
  // A workspace that grew for one tactic is no longer where the graph of another was captured.
  TRIREME_RETURN_IF_ERROR(ReserveWorkspace(problem, rows, tactics));
  std::vector<Runs> all;
  for (const std::string& tactic : tactics) {
    TRIREME_ASSIGN_OR_RETURN(all.emplace_back(), Capture(problem, rows, tactic));
  }
  const int rounds = tactics.size() == 1 ? kRoundsAlone : kRoundsInTurns;
  std::vector<std::vector<double>> times(tactics.size());
  for (int round = 0; round <= rounds; ++round) {
    for (size_t i = 0; i < all.size(); ++i) {
      TRIREME_ASSIGN_OR_RETURN(const double us, Replay(all[i]));
      if (round > 0) times[i].push_back(us);
    }
  }
  std::vector<double> medians;
  for (std::vector<double>& of_one : times) {
    const auto middle = of_one.begin() + rounds / 2;
    std::nth_element(of_one.begin(), middle, of_one.end());
    medians.push_back(*middle);
  }
  return medians;
}

StatusOr<std::vector<uint64_t>> LinearTimer::RowHashes(const cuda::LinearProblem& problem, int rows,
                                                       const std::string& tactic) {
  // The product alone: what comes before and after it works row by row, and a gate's coarser
  // rounding would hide differences.
  cuda::LinearProblem plain = problem;
  plain.has_rms_norm = plain.has_residual = plain.gated = false;
  if (problem.gated) plain.y_dtype = problem.dtype;
  cuda::LinearOperands operands;
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<cuda::LinearKernel> kernel,
                           Prepare(plain, rows, tactic, operands));
  drawn_for_ = {};  // x and bias are overwritten
  if (plain.has_bias) {
    // It lies elsewhere for other row counts.
    TRIREME_CUDA_RETURN_IF_ERROR(
        cudaMemsetAsync(const_cast<void*>(operands.bias), 0,
                        static_cast<size_t>(plain.out_features) * sizeof(uint16_t), stream_.get()),
        "clearing a bias");
  }
  const auto bytes_of = [](cuda::Element element) {
    return element == cuda::Element::kFloat32 ? 4 : element == cuda::Element::kFloat8E4M3 ? 1 : 2;
  };
  const int64_t x_bytes = plain.in_features * bytes_of(plain.x_dtype);
  for (int filled = kPatternRows; filled < rows; filled *= 2) {
    const int more = std::min(filled, rows - filled);
    TRIREME_CUDA_RETURN_IF_ERROR(
        cudaMemcpyAsync(activations_.data() + filled * x_bytes, activations_.data(),
                        static_cast<size_t>(more * x_bytes), cudaMemcpyDeviceToDevice,
                        stream_.get()),
        "repeating rows");
  }
  context_.dependent = false;
  std::vector<uint64_t> hashes;
  // Bound for so many rows, a kernel also runs fewer.
  for (const int count : {rows, rows - rows / 3}) {
    operands.num_rows = count;
    TRIREME_RETURN_IF_ERROR(kernel->Run(operands, workspace_.data(), context_));
    TRIREME_RETURN_IF_ERROR(stream_.Synchronize());
    const int64_t y_bytes = plain.out_features * bytes_of(plain.y_dtype);
    const int last = (count - 1) / kPatternRows * kPatternRows;
    for (const int first : {0, last / 2 / kPatternRows * kPatternRows, last}) {
      const int here = std::min(count - first, kPatternRows);
      std::string y(static_cast<size_t>(here * y_bytes), '\0');
      TRIREME_CUDA_RETURN_IF_ERROR(
          cudaMemcpy(y.data(), static_cast<const std::byte*>(operands.y) + first * y_bytes,
                     y.size(), cudaMemcpyDeviceToHost),
          "reading rows");
      for (size_t row = 0; row < static_cast<size_t>(here); ++row) {
        const size_t bytes = static_cast<size_t>(y_bytes);
        const uint64_t hash =
            std::hash<std::string_view>()(std::string_view(y).substr(row * bytes, bytes));
        if (row == hashes.size()) hashes.push_back(hash);
        if (hash != hashes[row]) return std::vector<uint64_t>();
      }
    }
  }
  return hashes;
}

}  // namespace trireme::compile

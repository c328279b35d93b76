// SPDX-License-Identifier: Apache-2.0
#include "compile/cuda/linear_timer.h"

#include <algorithm>
#include <cmath>

#include "device/cuda/cuda_status.h"
#include "device/cuda/device_info.h"
#include "kernels/cuda/random_normal.h"

namespace trireme::compile {
namespace {

// Weights rotate through this many times the L2.
constexpr int64_t kL2Multiple = 4;
constexpr int kMaxLaunches = 20;
constexpr int kRounds = 5;
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

StatusOr<double> LinearTimer::Time(const cuda::LinearProblem& problem, int rows,
                                   const std::string& tactic) {
  TRIREME_RETURN_IF_ERROR(Reserve(problem, rows));
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<cuda::LinearKernel> kernel,
                           library_->Bind(problem, rows, tactic));
  if (workspace_.size() < kernel->workspace_bytes()) {
    workspace_ = {};
    TRIREME_ASSIGN_OR_RETURN(
        workspace_,
        cuda::DeviceBuffer::Allocate(kernel->workspace_bytes(), "workspace to time tactics with"));
  }
  const int64_t operand = OperandBytes(problem, rows);
  const auto part = [&](int index) { return activations_.data() + index * operand; };
  cuda::LinearOperands operands;
  operands.x = part(0);
  operands.x_stride = problem.in_features;
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
  const int64_t stride = WeightBytes(problem);
  const int copies = static_cast<int>(std::max<int64_t>(1, weights_.size() / stride));
  const int launches = rows <= 256 ? kMaxLaunches : 4;
  TRIREME_ASSIGN_OR_RETURN(
      const cuda::GraphExec graph, cuda::GraphExec::Capture(stream_, [&]() -> Status {
        context_.dependent = true;
        for (int i = 0; i < launches; ++i) {
          operands.weight = weights_.data() + i % copies * stride;
          TRIREME_RETURN_IF_ERROR(kernel->Run(operands, workspace_.data(), context_));
        }
        return OkStatus();
      }));
  context_.dependent = false;
  return TimeGraph(graph, launches);
}

// The median of a few rounds, after one to warm up.
StatusOr<double> LinearTimer::TimeGraph(const cuda::GraphExec& graph, int launches) {
  TRIREME_ASSIGN_OR_RETURN(const cuda::TimedEvent begin, cuda::TimedEvent::Create());
  TRIREME_ASSIGN_OR_RETURN(const cuda::TimedEvent end, cuda::TimedEvent::Create());
  std::vector<double> times_us;
  for (int round = 0; round <= kRounds; ++round) {
    TRIREME_RETURN_IF_ERROR(begin.Record(stream_.get()));
    TRIREME_RETURN_IF_ERROR(graph.Launch(stream_));
    TRIREME_RETURN_IF_ERROR(end.Record(stream_.get()));
    TRIREME_RETURN_IF_ERROR(end.Synchronize());
    TRIREME_ASSIGN_OR_RETURN(const double us, end.MicrosecondsSince(begin));
    if (round > 0) times_us.push_back(us);
  }
  std::nth_element(times_us.begin(), times_us.begin() + kRounds / 2, times_us.end());
  return times_us[kRounds / 2] / launches;
}

}  // namespace trireme::compile

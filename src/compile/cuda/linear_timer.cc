// SPDX-License-Identifier: Apache-2.0
#include "compile/cuda/linear_timer.h"

#include <algorithm>

#include "device/cuda/cuda_status.h"
#include "device/cuda/device_info.h"
#include "kernels/cuda/random_normal.h"

namespace trireme::compile {
namespace {

// Weights rotate through this many times the L2.
constexpr int64_t kL2Multiple = 4;
constexpr int kMaxLaunches = 20;
constexpr int kRounds = 5;

int64_t WeightBytes(const cuda::LinearProblem& problem) {
  const int64_t size = problem.weight == cuda::LinearWeight::kFloat8E4M3 ? 1 : 2;
  return problem.out_features * problem.in_features * size;
}

// Bytes of each of x, y, residual, bias and gamma, enough for any of them in float32.
int64_t OperandBytes(const cuda::LinearProblem& problem, int rows) {
  const int64_t width = std::max(problem.out_features, problem.in_features);
  return (rows * width * static_cast<int64_t>(sizeof(float)) + 255) / 256 * 256;
}

Status Randomize(const cuda::DeviceBuffer& buffer, cuda::Element element, float std,
                 cuda::LaunchContext& context) {
  return cuda::CudaStatus(
      cuda::RandomNormal(
          {.dtype = element, .y = buffer.data(), .count = buffer.size() / 2, .std = std, .seed = 1},
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
  const cuda::Element element = problem.dtype;
  if (weights_.size() < weight_bytes) {
    weights_ = {};
    TRIREME_ASSIGN_OR_RETURN(
        weights_, cuda::DeviceBuffer::Allocate(weight_bytes, "weights to time tactics with"));
    TRIREME_RETURN_IF_ERROR(Randomize(weights_, element, 0.02f, context_));
  }
  const int64_t operand_bytes = 5 * OperandBytes(problem, rows);
  if (activations_.size() < operand_bytes) {
    activations_ = {};
    TRIREME_ASSIGN_OR_RETURN(
        activations_, cuda::DeviceBuffer::Allocate(operand_bytes, "rows to time tactics with"));
    TRIREME_RETURN_IF_ERROR(Randomize(activations_, element, 1.0f, context_));
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
  using TimedEvent = cuda::Owned<cudaEvent_t, cudaEventDestroy>;
  cudaEvent_t made[2] = {};
  TRIREME_CUDA_RETURN_IF_ERROR(cudaEventCreate(&made[0]), "creating an event");
  const TimedEvent begin(made[0]);
  TRIREME_CUDA_RETURN_IF_ERROR(cudaEventCreate(&made[1]), "creating an event");
  const TimedEvent end(made[1]);
  std::vector<float> times_ms;
  for (int round = 0; round <= kRounds; ++round) {
    TRIREME_CUDA_RETURN_IF_ERROR(cudaEventRecord(begin.get(), stream_.get()), "timing tactics");
    TRIREME_RETURN_IF_ERROR(graph.Launch(stream_));
    TRIREME_CUDA_RETURN_IF_ERROR(cudaEventRecord(end.get(), stream_.get()), "timing tactics");
    TRIREME_CUDA_RETURN_IF_ERROR(cudaEventSynchronize(end.get()), "timing tactics");
    float ms = 0;
    TRIREME_CUDA_RETURN_IF_ERROR(cudaEventElapsedTime(&ms, begin.get(), end.get()),
                                 "timing tactics");
    if (round > 0) times_ms.push_back(ms);
  }
  std::nth_element(times_ms.begin(), times_ms.begin() + kRounds / 2, times_ms.end());
  return 1e3 * static_cast<double>(times_ms[kRounds / 2]) / launches;
}

}  // namespace trireme::compile

// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/linear.h"

#include <charconv>

#include "device/cuda/cuda_status.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/gemv.h"
#include "kernels/cuda/linear_stages.h"

namespace trireme::cuda {
namespace {

constexpr int kMaxCandidates = 16;
constexpr const char* kGemv = "gemv";
constexpr const char* kCublasLt = "cublaslt";
constexpr const char* kCublasLtFast = "cublaslt_fast";

// A matrix product by cuBLASLt, with the norm or quantization before it and the gate after it as
// kernels of their own.
class ComposedLinear final : public LinearKernel {
 public:
  ComposedLinear(const LinearProblem& problem, int max_rows, std::unique_ptr<CublasLtMatmul> matmul)
      : stages_(problem, max_rows), matmul_(std::move(matmul)) {}

  int64_t workspace_bytes() const override {
    return stages_.workspace_bytes() + matmul_->workspace_bytes();
  }

  Status Run(const LinearOperands& operands, void* workspace, LaunchContext& context) override {
    MatmulOperands matmul;
    TRIREME_RETURN_IF_ERROR(stages_.Before(operands, workspace, context, &matmul));
    auto* rest = static_cast<std::byte*>(workspace) + stages_.workspace_bytes();
    TRIREME_RETURN_IF_ERROR(matmul_->Run(matmul, rest, context));
    return stages_.After(operands, workspace, context);
  }

 private:
  LinearStages stages_;
  std::unique_ptr<CublasLtMatmul> matmul_;
};

GemvParams GemvParamsOf(const LinearProblem& problem, const LinearOperands& operands) {
  const bool fp8 = problem.weight == LinearWeight::kFloat8E4M3;
  GemvParams params;
  params.dtype = problem.dtype;
  params.weight = fp8 ? Element::kFloat8E4M3 : problem.dtype;
  params.x_dtype = problem.x_dtype;
  params.y_dtype = problem.y_dtype;
  params.out_features = static_cast<int>(problem.out_features);
  params.in_features = static_cast<int>(problem.in_features);
  params.w = operands.weight;
  params.x = operands.x;
  params.x_stride = operands.x_stride;
  params.gamma = problem.has_rms_norm ? operands.gamma : nullptr;
  params.gamma_plus_one = problem.gamma_plus_one;
  params.epsilon = operands.epsilon;
  params.x_scale = operands.x_scale;
  params.alpha = fp8 ? operands.x_scale * operands.w_scale : 1.0f;
  params.bias = problem.has_bias ? operands.bias : nullptr;
  params.residual = problem.has_residual ? operands.residual : nullptr;
  params.residual_stride = operands.residual_stride;
  params.gated = problem.gated;
  params.activation = problem.activation;
  params.y = operands.y;
  params.y_stride = operands.y_stride;
  params.y_scale = operands.y_scale;
  params.num_rows = operands.num_rows;
  params.num_tokens = operands.num_tokens;
  return params;
}

bool SupportsGemvRows(const LinearProblem& problem, const GemvConfig& config, int max_rows) {
  static constexpr float kSome = 0.0f;  // operands take shared memory by being there
  LinearOperands operands;
  operands.gamma = operands.bias = operands.residual = &kSome;
  operands.num_rows = max_rows;
  return SupportsGemv(GemvParamsOf(problem, operands), config, LaunchContext().num_sms);
}

class GemvLinear final : public LinearKernel {
 public:
  GemvLinear(const LinearProblem& problem, const GemvConfig& config)
      : problem_(problem), config_(config) {}

  int64_t workspace_bytes() const override { return 0; }

  Status Run(const LinearOperands& operands, void* /*workspace*/, LaunchContext& context) override {
    return CudaStatus(Gemv(GemvParamsOf(problem_, operands), config_, context), "Gemv");
  }

 private:
  LinearProblem problem_;
  GemvConfig config_;
};

// The first one is the default.
constexpr GemvConfig kGemvConfigs[] = {{8, 5, 32 * 1024}, {8, 5, 0}, {16, 2, 0}, {16, 3, 0}};

std::string GemvTactic(const GemvConfig& config) {
  return fmt::format("{}:{}x{}+{}", kGemv, config.warps, config.depth,
                     config.l2_prefetch_bytes / 1024);
}

// "16x2+64": warps, ring depth, KB of L2 prefetch. Empty: the first of kGemvConfigs.
StatusOr<GemvConfig> ParseGemvConfig(const std::string& text) {
  if (text.empty()) return kGemvConfigs[0];
  GemvConfig config;
  int prefetch_kb = 0;
  const char* at = text.data();
  const char* end = at + text.size();
  int* const numbers[] = {&config.warps, &config.depth, &prefetch_kb};
  const char separators[] = {'x', '+', '\0'};
  for (int i = 0; i < 3; ++i) {
    const auto [next, error] = std::from_chars(at, end, *numbers[i]);
    const bool separated = i == 2 ? next == end : next != end && *next == separators[i];
    if (error != std::errc() || !separated || *numbers[i] < 0 || *numbers[i] > 1024) {
      return InvalidArgument("linear: '{}' is no configuration of gemv, e.g. 16x2+0", text);
    }
    at = i == 2 ? next : next + 1;
  }
  config.l2_prefetch_bytes = prefetch_kb * 1024;
  return config;
}

// "name:argument" in two.
std::pair<std::string, std::string> SplitTactic(const std::string& tactic) {
  const size_t colon = tactic.find(':');
  if (colon == std::string::npos) return {tactic, ""};
  return {tactic.substr(0, colon), tactic.substr(colon + 1)};
}

}  // namespace

Status SupportsLinear(const LinearProblem& problem) {
  const bool fp8 = problem.weight == LinearWeight::kFloat8E4M3;
  if (problem.dtype != Element::kBFloat16 && problem.dtype != Element::kFloat16) {
    return Unimplemented("linear: the engine's dtype must be bfloat16 or float16 on CUDA");
  }
  const int64_t in_multiple = fp8 ? 16 : 8;
  const int64_t out_multiple = fp8 || problem.gated ? 16 : 8;
  if (problem.in_features <= 0 || problem.in_features % in_multiple != 0) {
    return Unimplemented("linear: in_features {} is no multiple of {}", problem.in_features,
                         in_multiple);
  }
  if (problem.out_features <= 0 || problem.out_features % out_multiple != 0) {
    return Unimplemented("linear: out_features {} is no multiple of {}", problem.out_features,
                         out_multiple);
  }
  if (problem.x_dtype != problem.dtype && !(fp8 && problem.x_dtype == Element::kFloat8E4M3)) {
    return Unimplemented("linear: x must have the engine's dtype, or e4m3 with FP8 weights");
  }
  if (problem.has_rms_norm && problem.x_dtype != problem.dtype) {
    return Unimplemented("linear: a norm needs x in the engine's dtype");
  }
  if (problem.gated && (problem.has_bias || problem.has_residual)) {
    return Unimplemented("linear: a gated layer takes neither bias nor residual");
  }
  const bool y_quantized = problem.gated && problem.y_dtype == Element::kFloat8E4M3;
  const bool y_wide = !problem.gated && problem.y_dtype == Element::kFloat32;
  if (problem.y_dtype != problem.dtype && !y_quantized && !y_wide) {
    return Unimplemented("linear: y must have the engine's dtype, float32, or e4m3 when gated");
  }
  if (y_wide && (problem.has_bias || problem.has_residual)) {
    return Unimplemented("linear: neither bias nor residual with float32 y");
  }
  return OkStatus();
}

LinearLibrary::LinearLibrary(std::unique_ptr<CublasLt> cublaslt) : cublaslt_(std::move(cublaslt)) {}
LinearLibrary::~LinearLibrary() = default;

StatusOr<std::unique_ptr<LinearLibrary>> LinearLibrary::Create(const std::string& cublaslt_path) {
  TRIREME_ASSIGN_OR_RETURN(auto cublaslt, CublasLt::Open(cublaslt_path));
  return std::unique_ptr<LinearLibrary>(new LinearLibrary(std::move(cublaslt)));
}

StatusOr<std::vector<std::string>> LinearLibrary::Tactics(const LinearProblem& problem,
                                                          int max_rows) const {
  TRIREME_RETURN_IF_ERROR(SupportsLinear(problem));
  std::vector<std::string> tactics;
  for (const GemvConfig& config : kGemvConfigs) {
    if (SupportsGemvRows(problem, config, max_rows)) tactics.push_back(GemvTactic(config));
  }
  for (const bool fast : {false, true}) {
    MatmulProblem matmul = MatmulOf(problem, max_rows);
    if (fast && matmul.operand != Element::kFloat8E4M3) continue;
    matmul.fast_accumulation = fast;
    const auto algorithms = cublaslt_->Candidates(matmul, kMaxCandidates);
    if (!algorithms.ok()) {
      if (algorithms.status().code() == StatusCode::kUnimplemented && !tactics.empty()) continue;
      return algorithms.status();
    }
    if (!fast) tactics.push_back(kCublasLt);
    for (const std::string& algorithm : *algorithms) {
      tactics.push_back(std::string(fast ? kCublasLtFast : kCublasLt) + ":" + algorithm);
    }
  }
  return tactics;
}

StatusOr<std::unique_ptr<LinearKernel>> LinearLibrary::Bind(const LinearProblem& problem,
                                                            int max_rows,
                                                            const std::string& tactic) const {
  TRIREME_RETURN_IF_ERROR(SupportsLinear(problem));
  if (max_rows < 1) return InvalidArgument("linear: bound for {} rows", max_rows);
  const auto [name, argument] = SplitTactic(tactic);
  if (name == kGemv) {
    TRIREME_ASSIGN_OR_RETURN(const GemvConfig config, ParseGemvConfig(argument));
    if (!SupportsGemvRows(problem, config, max_rows)) {
      return InvalidArgument("linear: '{}' does not run this layer for {} rows", tactic, max_rows);
    }
    return std::unique_ptr<LinearKernel>(std::make_unique<GemvLinear>(problem, config));
  }
  MatmulProblem matmul = MatmulOf(problem, max_rows);
  matmul.fast_accumulation = name == kCublasLtFast;
  const bool fp8 = matmul.operand == Element::kFloat8E4M3;
  if (name != kCublasLt && !(name == kCublasLtFast && fp8)) {
    return InvalidArgument("linear: there is no tactic '{}' for this layer", tactic);
  }
  TRIREME_ASSIGN_OR_RETURN(auto bound, cublaslt_->Bind(matmul, argument));
  return std::unique_ptr<LinearKernel>(
      std::make_unique<ComposedLinear>(problem, max_rows, std::move(bound)));
}

std::string DefaultLinearTactic(const LinearProblem& problem, int max_rows) {
  // Above 4 rows an FP8 layer spends longer on rounding x in every block than cuBLASLt needs for all.
  const bool fp8 = problem.weight == LinearWeight::kFloat8E4M3;
  const bool small = max_rows <= (fp8 ? 4 : kMaxGemvRows);
  return small && SupportsGemvRows(problem, kGemvConfigs[0], max_rows) ? kGemv : kCublasLt;
}

}  // namespace trireme::cuda

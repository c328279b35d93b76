// SPDX-License-Identifier: Apache-2.0
// Linear layers of Llama-3.1-8B: the fused decode layer as a chain of dependent launches, then each
// shape and row count, own tactics beside cuBLASLt's first and best candidate.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>

#include "kernels/cuda/bench.h"
#include "kernels/cuda/linear.h"

namespace trireme::cuda {
namespace {

constexpr int kHidden = 4096;
constexpr int kQkv = 6144;
constexpr int kIntermediate = 14336;
constexpr int kVocab = 128256;
constexpr int kMaxRows = 8192;
constexpr int64_t kPoolBytes = int64_t{4} << 30;
constexpr int64_t kWorkspaceBytes = int64_t{2} << 30;

struct Shape {
  const char* name;
  int64_t out;
  int64_t in;
};
constexpr Shape kShapes[] = {{"qkv", kQkv, kHidden},
                             {"o", kHidden, kHidden},
                             {"gate_up", 2 * kIntermediate, kHidden},
                             {"down", kHidden, kIntermediate},
                             {"lm_head", kVocab, kHidden}};

std::string RowsName(const char* group, bool fp8, const char* shape, int rows) {
  return std::string(group) + "/" + (fp8 ? "fp8" : "bf16") + "/" + shape + "/m" +
         std::to_string(rows);
}

// Operands that every problem shares; weights rotate through a pool past the L2.
class LinearBench {
 public:
  explicit LinearBench(bool fp8)
      : fp8_(fp8),
        pool_(kPoolBytes, fp8 ? BenchArray::Fill::kFloat8E4M3 : BenchArray::Fill::kBFloat16,
              fp8 ? 50.0f : 0.02f),
        x_(int64_t{kMaxRows} * kIntermediate * 2, BenchArray::Fill::kBFloat16, 1.0f),
        quantized_(int64_t{kMaxRows} * kIntermediate, BenchArray::Fill::kFloat8E4M3, 50.0f),
        gamma_(kHidden * 2, BenchArray::Fill::kBFloat16, 1.0f),
        y_(int64_t{kMaxRows} * 2 * kIntermediate * 2, BenchArray::Fill::kNone, 0.0f),
        workspace_(kWorkspaceBytes, BenchArray::Fill::kNone, 0.0f),
        count_(256, BenchArray::Fill::kNone, 0.0f) {
    SetRows(1);
  }

  bool ok() const {
    return pool_.ok() && x_.ok() && quantized_.ok() && gamma_.ok() && y_.ok() && workspace_.ok();
  }
  bool fp8() const { return fp8_; }
  int64_t value_bytes() const { return fp8_ ? 1 : 2; }

  void SetRows(int rows) {
    cudaMemcpy(count_.data(), &rows, sizeof(rows), cudaMemcpyHostToDevice);
    rows_ = rows;
  }

  LinearProblem Problem(int64_t out, int64_t in) const {
    LinearProblem problem;
    problem.out_features = out;
    problem.in_features = in;
    problem.weight = fp8_ ? LinearWeight::kFloat8E4M3 : LinearWeight::kFloat;
    return problem;
  }

  LinearOperands Operands(const LinearProblem& problem, int64_t weight_offset) const {
    LinearOperands operands;
    const bool quantized = problem.x_dtype == Element::kFloat8E4M3;
    operands.x = quantized ? quantized_.data() : x_.data();
    operands.x_stride = problem.in_features;
    operands.weight = pool_.data() + weight_offset;
    operands.gamma = gamma_.data();
    operands.x_scale = fp8_ ? 0.02f : 1.0f;
    operands.w_scale = fp8_ ? 0.0004f : 1.0f;
    operands.residual = x_.data();
    operands.residual_stride = kHidden;
    operands.y = y_.data();
    operands.y_stride = problem.gated ? problem.out_features / 2 : problem.out_features;
    operands.num_rows = rows_;
    operands.num_tokens = reinterpret_cast<const int32_t*>(count_.data());
    return operands;
  }

  // Median microseconds of one launch of `tactic`; negative when it cannot run.
  double TimeTactic(Bench& bench, const LinearLibrary& library, const LinearProblem& problem,
                    const std::string& tactic, int replays) {
    auto kernel = library.Bind(problem, rows_, tactic);
    if (!kernel.ok()) return -1.0;
    if ((*kernel)->workspace_bytes() > kWorkspaceBytes) return -1.0;
    const int64_t bytes =
        (problem.out_features * problem.in_features * value_bytes() + 255) / 256 * 256;
    const int64_t buffers = std::max<int64_t>(1, kPoolBytes / bytes);
    // About a millisecond a replay at the bandwidth's or the arithmetic's limit.
    const double limit_us =
        std::max(static_cast<double>(bytes) / 4.3e6, static_cast<double>(bytes) * rows_ / 790e6);
    const int calls = std::clamp(static_cast<int>(1000 / limit_us), 2, 64);
    return bench.Time(calls, replays, [&](int i, LaunchContext& context) {
      return (*kernel)
          ->Run(Operands(problem, i % buffers * bytes), workspace_.data(), context)
          .ok();
    });
  }

  void Layer(Bench& bench, const LinearLibrary& library, const std::string& tactic, int rows,
             bool dependent);

  uint8_t* x() { return x_.data(); }
  uint8_t* y() { return y_.data(); }
  uint8_t* workspace() { return workspace_.data(); }

 private:
  bool fp8_;
  int rows_ = 1;
  BenchArray pool_;
  BenchArray x_;
  BenchArray quantized_;
  BenchArray gamma_;
  BenchArray y_;
  BenchArray workspace_;
  BenchArray count_;
};

// The four linear layers of a decoder layer, each reading what the one before wrote, with all that
// surrounds them but attention; as many layers as the pool holds.
void LinearBench::Layer(Bench& bench, const LinearLibrary& library, const std::string& tactic,
                        int rows, bool dependent) {
  SetRows(rows);
  LinearProblem problems[4];
  int64_t layer_bytes = 0;
  std::unique_ptr<LinearKernel> kernels[4];
  for (int i = 0; i < 4; ++i) {
    problems[i] = Problem(kShapes[i].out, kShapes[i].in);
    problems[i].has_rms_norm = i % 2 == 0;
    problems[i].gated = i == 2;
    problems[i].has_residual = i % 2 == 1;
    layer_bytes += problems[i].out_features * problems[i].in_features * value_bytes();
    auto kernel = library.Bind(problems[i], rows, tactic);
    if (!kernel.ok()) return;
    kernels[i] = std::move(*kernel);
  }
  const int layers = static_cast<int>(kPoolBytes / layer_bytes);
  const int64_t row_bytes = int64_t{rows} * 2;
  uint8_t* hidden = x();
  uint8_t* qkv = y();
  uint8_t* gate = y() + kQkv * row_bytes;
  bench.set_dependent(dependent);
  const double us = bench.Time(layers, 9, [&](int layer, LaunchContext& context) {
    int64_t offset = layer * layer_bytes;
    const uint8_t* const inputs[4] = {hidden, qkv, hidden, gate};
    const int64_t strides[4] = {kHidden, kQkv, kHidden, kIntermediate};
    uint8_t* const outputs[4] = {qkv, hidden, gate, hidden};
    for (int i = 0; i < 4; ++i) {
      LinearOperands operands = Operands(problems[i], offset);
      operands.x = inputs[i];
      operands.x_stride = strides[i];
      operands.y = outputs[i];
      operands.y_stride = problems[i].gated ? kIntermediate : problems[i].out_features;
      operands.residual = hidden;
      if (!kernels[i]->Run(operands, workspace(), context).ok()) return false;
      context.dependent = dependent;
      offset += problems[i].out_features * problems[i].in_features * value_bytes();
    }
    return true;
  });
  bench.set_dependent(false);
  bench.Report({.name = RowsName("linear_layer", fp8_, dependent ? "dependent" : "plain", rows),
                .detail = tactic,
                .us = us,
                .bytes = static_cast<double>(layer_bytes)});
}

double Best(double a, double b) { return a <= 0 ? b : b <= 0 ? a : std::min(a, b); }

void ReportShape(Bench& bench, LinearBench& data, const LinearLibrary& library, const Shape& shape,
                 int rows) {
  const std::string name = RowsName("linear", data.fp8(), shape.name, rows);
  if (!bench.Wants(name)) return;
  data.SetRows(rows);
  LinearProblem problem = data.Problem(shape.out, shape.in);
  if (data.fp8()) problem.x_dtype = Element::kFloat8E4M3;
  auto tactics = library.Tactics(problem, rows);
  if (!tactics.ok()) {
    std::printf("%s: %s\n", name.c_str(), std::string(tactics.status().message()).c_str());
    return;
  }
  BenchLine line;
  line.bytes = static_cast<double>(shape.out * shape.in * data.value_bytes() +
                                   rows * (shape.in * data.value_bytes() + shape.out * 2));
  line.flops = rows < 256 ? 0 : 2.0 * rows * static_cast<double>(shape.out * shape.in);
  line.name = name;
  double best = -1;
  for (const std::string& tactic : *tactics) {
    line.detail = tactic;
    line.us = data.TimeTactic(bench, library, problem, tactic, 7);
    if (tactic.rfind("gemv", 0) == 0 || tactic == "cublaslt") {
      bench.Report(line);
    } else {
      best = Best(best, line.us);
    }
  }
  line.detail = "cublaslt best";
  line.us = best;
  bench.Report(line);
}

// The ceiling beside which the rest is read: bytes read plus bytes written.
TRIREME_GPU_BENCH(copy) {
  if (!bench.Wants("copy")) return;
  constexpr int64_t kBytes = int64_t{2} << 30;
  BenchArray array(2 * kBytes, BenchArray::Fill::kBFloat16, 1.0f);
  if (!array.ok()) return;
  const double us = bench.Time(16, 9, [&](int, LaunchContext& context) {
    return cudaMemcpyAsync(array.data() + kBytes, array.data(), kBytes, cudaMemcpyDeviceToDevice,
                           context.stream) == cudaSuccess;
  });
  bench.Report({.name = "copy/device", .detail = "", .us = us, .bytes = 2.0 * kBytes});
}

std::unique_ptr<LinearLibrary> OpenLibrary() {
  auto library = LinearLibrary::Create("");
  if (library.ok()) return std::move(*library);
  std::printf("linear: %s\n", std::string(library.status().message()).c_str());
  return nullptr;
}

TRIREME_GPU_BENCH(linear_layer) {
  if (!bench.Wants("linear_layer")) return;
  const auto library = OpenLibrary();
  if (library == nullptr) return;
  for (const bool fp8 : {false, true}) {
    LinearBench data(fp8);
    if (!data.ok()) return;
    for (const int rows : {1, 2, 4, 8}) {
      for (const char* tactic :
           {"gemv:16x2+0", "gemv:16x3+0", "gemv:8x5+0", "gemv:8x5+32", "gemv:8x5+64"}) {
        if (rows == 1) data.Layer(bench, *library, tactic, rows, false);
        data.Layer(bench, *library, tactic, rows, true);
      }
      data.Layer(bench, *library, "cublaslt", rows, false);
    }
  }
}

TRIREME_GPU_BENCH(linear) {
  if (!bench.Wants("linear/")) return;
  const auto library = OpenLibrary();
  if (library == nullptr) return;
  for (const bool fp8 : {false, true}) {
    LinearBench data(fp8);
    if (!data.ok()) return;
    for (const int rows : {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192}) {
      for (const Shape& shape : kShapes) {
        const bool head = shape.out == kVocab;
        if (head && (fp8 || (rows > 1 && rows != 8 && rows != 64))) continue;
        ReportShape(bench, data, *library, shape, rows);
      }
    }
  }
}

}  // namespace
}  // namespace trireme::cuda

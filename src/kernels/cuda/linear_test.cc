// SPDX-License-Identifier: Apache-2.0
// Every tactic of linear layers against float64 sums over the same rounded operands.
#include "kernels/cuda/linear.h"

#include <cuda_fp8.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/cuda/testing.h"

namespace trireme::cuda {
namespace {

// Relative error of a layer, root mean square. 16-bit outputs round to 2^-9; a composed gated layer
// rounds twice. FP8: cuBLASLt's accumulators keep about 14 bits between promotions.
constexpr double kTolerance16 = 4e-3;
constexpr double kToleranceFp8 = 1e-2;
constexpr double kToleranceFp8Fast = 3e-2;  // and longer between promotions here
// No single output is further off than this many root mean squares of the error allowed.
constexpr double kOutlier = 8.0;

float Round(Element dtype, float value) {
  switch (dtype) {
    case Element::kBFloat16: return __bfloat162float(__float2bfloat16_rn(value));
    case Element::kFloat16: return __half2float(__float2half_rn(value));
    case Element::kFloat8E4M3: return static_cast<float>(__nv_fp8_e4m3(value));
    default: return value;
  }
}

std::vector<uint8_t> Encode(Element dtype, const std::vector<float>& values) {
  std::vector<uint8_t> bytes;
  const auto append = [&bytes](const void* value, size_t size) {
    const auto* from = static_cast<const uint8_t*>(value);
    bytes.insert(bytes.end(), from, from + size);
  };
  for (const float value : values) {
    const __nv_bfloat16 bfloat = __float2bfloat16_rn(value);
    const __half half = __float2half_rn(value);
    const __nv_fp8_e4m3 quarter(value);
    switch (dtype) {
      case Element::kBFloat16: append(&bfloat, 2); break;
      case Element::kFloat16: append(&half, 2); break;
      case Element::kFloat8E4M3: append(&quarter, 1); break;
      default: append(&value, 4);
    }
  }
  return bytes;
}

std::vector<float> Decode(Element dtype, const std::vector<uint8_t>& bytes) {
  std::vector<float> values;
  const size_t size = dtype == Element::kFloat32 ? 4 : dtype == Element::kFloat8E4M3 ? 1 : 2;
  for (size_t i = 0; i + size <= bytes.size(); i += size) {
    float value = 0.0f;
    __nv_bfloat16 bfloat;
    __half half;
    __nv_fp8_e4m3 quarter;
    switch (dtype) {
      case Element::kBFloat16:
        std::memcpy(&bfloat, &bytes[i], 2);
        value = __bfloat162float(bfloat);
        break;
      case Element::kFloat16:
        std::memcpy(&half, &bytes[i], 2);
        value = __half2float(half);
        break;
      case Element::kFloat8E4M3:
        std::memcpy(&quarter, &bytes[i], 1);
        value = static_cast<float>(quarter);
        break;
      default: std::memcpy(&value, &bytes[i], 4);
    }
    values.push_back(value);
  }
  return values;
}

double Activated(Activation activation, double x) {
  switch (activation) {
    case Activation::kSilu: return x / (1.0 + std::exp(-x));
    case Activation::kGelu: return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case Activation::kGeluTanh:
      return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::kRelu: return std::max(x, 0.0);
  }
  return x;
}

// A problem with its operands on the host (rounded to their types) and the device.
class LinearCase {
 public:
  static constexpr int kExtra = 16;  // columns between the rows of x and y

  LinearCase(const LinearProblem& problem, int num_rows, int num_tokens, unsigned seed)
      : problem_(problem), num_rows_(num_rows), num_tokens_(num_tokens), random_(seed) {
    fp8_ = problem.weight == LinearWeight::kFloat8E4M3;
    columns_ = problem.gated ? problem.out_features / 2 : problem.out_features;
    const float w_std = 1.0f / std::sqrt(static_cast<float>(problem.in_features));
    const Element w_type = fp8_ ? Element::kFloat8E4M3 : problem.dtype;
    operands_.w_scale = fp8_ ? w_std / 60.0f : 1.0f;
    operands_.x_scale = fp8_ ? 1.0f / 80.0f : 1.0f;
    operands_.y_scale = 1.0f / 8.0f;
    w_ = Draw(w_type, problem.out_features * problem.in_features, w_std / operands_.w_scale);
    const bool quantized = problem.x_dtype == Element::kFloat8E4M3;
    x_ = Draw(problem.x_dtype, num_rows * x_stride(), quantized ? 80.0f : 1.5f);
    gamma_ = Draw(problem.dtype, problem.in_features, 0.5f);
    bias_ = Draw(problem.dtype, problem.out_features, 1.0f);
    residual_ = Draw(problem.dtype, num_rows * problem.out_features, 1.0f);
    device_w_ = std::make_unique<DeviceArray<uint8_t>>(Encode(w_type, w_));
    device_x_ = std::make_unique<DeviceArray<uint8_t>>(Encode(problem.x_dtype, x_));
    device_gamma_ = std::make_unique<DeviceArray<uint8_t>>(Encode(problem.dtype, gamma_));
    device_bias_ = std::make_unique<DeviceArray<uint8_t>>(Encode(problem.dtype, bias_));
    device_residual_ = std::make_unique<DeviceArray<uint8_t>>(Encode(problem.dtype, residual_));
    device_count_ = std::make_unique<DeviceArray<int32_t>>(std::vector<int32_t>{num_tokens});
    Reference();
  }

  int64_t x_stride() const { return problem_.in_features + kExtra; }
  int64_t y_stride() const { return columns_ + kExtra; }

  Status Run(LinearKernel& kernel, std::vector<float>* y, std::vector<uint8_t>* bytes) {
    DeviceArray<uint8_t> device_y(static_cast<size_t>(num_rows_ * y_stride()) * Size());
    DeviceArray<uint8_t> workspace(static_cast<size_t>(kernel.workspace_bytes()) + 256);
    LinearOperands operands = operands_;
    operands.x = device_x_->data();
    operands.x_stride = x_stride();
    operands.weight = device_w_->data();
    operands.gamma = device_gamma_->data();
    operands.bias = device_bias_->data();
    operands.residual = device_residual_->data();
    operands.residual_stride = problem_.out_features;
    operands.y = device_y.data();
    operands.y_stride = y_stride();
    operands.num_rows = num_rows_;
    operands.num_tokens = device_count_->data();
    LaunchContext context;
    TRIREME_RETURN_IF_ERROR(kernel.Run(operands, workspace.data(), context));
    *bytes = device_y.Read();
    *y = Decode(problem_.y_dtype, *bytes);
    return OkStatus();
  }

  // Compares the first num_tokens rows; says nothing of the others.
  void Check(const std::vector<float>& y, double tolerance) const {
    double error = 0;
    double norm = 0;
    double worst = 0;
    for (int row = 0; row < num_tokens_; ++row) {
      for (int64_t column = 0; column < columns_; ++column) {
        const double want = reference_[static_cast<size_t>(row * columns_ + column)];
        const double got = y[static_cast<size_t>(row * y_stride() + column)];
        ASSERT_TRUE(std::isfinite(got)) << "row " << row << " column " << column;
        error += (got - want) * (got - want);
        norm += want * want;
        worst = std::max(worst, std::abs(got - want) - std::abs(want) * tolerance);
      }
    }
    EXPECT_LE(std::sqrt(error / norm), tolerance);
    const double rms = std::sqrt(norm / static_cast<double>(num_tokens_ * columns_));
    EXPECT_LE(worst, kOutlier * tolerance * rms);
  }

  // Nothing was written between the rows, nor to rows beyond the count.
  void CheckUntouched(const std::vector<uint8_t>& bytes) const {
    for (int row = 0; row < num_rows_; ++row) {
      const int64_t written = row < num_tokens_ ? columns_ : 0;
      for (int64_t column = written; column < y_stride(); ++column) {
        const size_t at = static_cast<size_t>(row * y_stride() + column) * Size();
        ASSERT_EQ(bytes[at], 0xff) << "row " << row << " column " << column;
      }
    }
  }

  double tolerance() const {
    if (problem_.y_dtype == Element::kFloat8E4M3) return 4e-2;  // of the output's own rounding
    return fp8_ ? kToleranceFp8 : kTolerance16;
  }

 private:
  size_t Size() const {
    return problem_.y_dtype == Element::kFloat32      ? 4
           : problem_.y_dtype == Element::kFloat8E4M3 ? 1
                                                      : 2;
  }

  std::vector<float> Draw(Element dtype, int64_t count, float std) {
    std::normal_distribution<float> normal(0.0f, std);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = Round(dtype, normal(random_));
    return values;
  }

  std::vector<float> InputRow(int row) const {
    std::vector<float> x(x_.begin() + row * x_stride(),
                         x_.begin() + row * x_stride() + problem_.in_features);
    double sum = 0;
    for (const float value : x) sum += double{value} * value;
    const double scale =
        1.0 / std::sqrt(sum / static_cast<double>(problem_.in_features) + operands_.epsilon);
    for (size_t i = 0; i < x.size(); ++i) {
      double value = x[i];
      if (problem_.has_rms_norm) {
        value *= scale * (gamma_[i] + (problem_.gamma_plus_one ? 1.0 : 0.0));
      }
      if (fp8_ && problem_.x_dtype != Element::kFloat8E4M3) {
        x[i] = Round(Element::kFloat8E4M3, static_cast<float>(value / operands_.x_scale));
      } else {
        x[i] = Round(problem_.x_dtype, static_cast<float>(value));
      }
    }
    return x;
  }

  void Reference() {
    const double alpha = fp8_ ? double{operands_.x_scale} * operands_.w_scale : 1.0;
    reference_.resize(static_cast<size_t>(num_tokens_ * columns_));
    for (int row = 0; row < num_tokens_; ++row) {
      const std::vector<float> x = InputRow(row);
      const auto dot = [&](int64_t out) {
        const float* w = &w_[static_cast<size_t>(out * problem_.in_features)];
        double sum = 0;
        for (size_t i = 0; i < x.size(); ++i) sum += double{x[i]} * w[i];
        return sum * alpha;
      };
      for (int64_t column = 0; column < columns_; ++column) {
        double value = dot(column);
        if (problem_.gated) value = Activated(problem_.activation, value) * dot(column + columns_);
        if (problem_.has_bias) value += bias_[static_cast<size_t>(column)];
        if (problem_.has_residual) {
          value += residual_[static_cast<size_t>(row * problem_.out_features + column)];
        }
        if (problem_.y_dtype == Element::kFloat8E4M3) value /= operands_.y_scale;
        reference_[static_cast<size_t>(row * columns_ + column)] = value;
      }
    }
  }

  LinearProblem problem_;
  int num_rows_;
  int num_tokens_;
  bool fp8_ = false;
  int64_t columns_ = 0;
  std::mt19937 random_;
  LinearOperands operands_;
  std::vector<float> w_, x_, gamma_, bias_, residual_;
  std::vector<double> reference_;
  std::unique_ptr<DeviceArray<uint8_t>> device_w_, device_x_, device_gamma_, device_bias_,
      device_residual_;
  std::unique_ptr<DeviceArray<int32_t>> device_count_;
};

const LinearLibrary* Library() {
  static const auto library = LinearLibrary::Create("");
  EXPECT_TRUE(library.ok()) << library.status().ToString();
  return library.ok() ? library->get() : nullptr;
}

// Runs every tactic for up to max_rows rows twice: right, and the same bits.
void CheckAllTactics(const LinearProblem& problem, int max_rows, int num_rows, int num_tokens) {
  SCOPED_TRACE(::testing::Message()
               << problem.out_features << " x " << problem.in_features << ", rows " << num_tokens
               << " of " << num_rows << ", dtype " << static_cast<int>(problem.dtype) << ", fp8 "
               << (problem.weight == LinearWeight::kFloat8E4M3));
  const LinearLibrary* library = Library();
  ASSERT_NE(library, nullptr);
  auto tactics = library->Tactics(problem, max_rows);
  ASSERT_TRUE(tactics.ok()) << tactics.status().ToString();
  LinearCase test(problem, num_rows, num_tokens, 11);
  for (const std::string& tactic : *tactics) {
    SCOPED_TRACE(tactic);
    auto kernel = library->Bind(problem, max_rows, tactic);
    ASSERT_TRUE(kernel.ok()) << kernel.status().ToString();
    std::vector<float> y;
    std::vector<uint8_t> bytes;
    std::vector<uint8_t> again;
    const Status status = test.Run(**kernel, &y, &bytes);
    ASSERT_TRUE(status.ok()) << status.ToString();
    const bool fast = tactic.rfind("cublaslt_fast", 0) == 0;
    test.Check(y, std::max(test.tolerance(), fast ? kToleranceFp8Fast : 0.0));
    if (tactic.rfind("gemv", 0) == 0) {
      test.CheckUntouched(bytes);
      ASSERT_TRUE(test.Run(**kernel, &y, &again).ok());
      EXPECT_TRUE(bytes == again) << "a second run gave other bits";
    }
    if (::testing::Test::HasFailure()) return;
  }
}

void CheckAllTactics(const LinearProblem& problem, int num_rows, int num_tokens) {
  CheckAllTactics(problem, num_rows, num_rows, num_tokens);
}

LinearProblem Problem(int64_t out, int64_t in, Element dtype, bool fp8) {
  LinearProblem problem;
  problem.out_features = out;
  problem.in_features = in;
  problem.dtype = problem.x_dtype = problem.y_dtype = dtype;
  if (fp8) problem.weight = LinearWeight::kFloat8E4M3;
  return problem;
}

TEST(LinearGpuTest, RaggedShapesAndRows) {
  for (const Element dtype : {Element::kBFloat16, Element::kFloat16}) {
    for (const bool fp8 : {false, true}) {
      CheckAllTactics(Problem(16, 16, dtype, fp8), 1, 1);
      CheckAllTactics(Problem(48, 208, dtype, fp8), 2, 2);
      CheckAllTactics(Problem(4864, 896, dtype, fp8), 5, 3);
      CheckAllTactics(Problem(2304, 1008, dtype, fp8), 8, 7);
      if (!fp8) CheckAllTactics(Problem(1000, 136, dtype, fp8), 3, 3);
    }
  }
}

TEST(LinearGpuTest, RealReductionLengths) {
  for (const bool fp8 : {false, true}) {
    for (const int rows : {1, 3, 8, 70}) {
      CheckAllTactics(Problem(320, 4096, Element::kBFloat16, fp8), rows, rows);
      CheckAllTactics(Problem(336, 14336, Element::kBFloat16, fp8), rows, rows);
    }
    // Several tiles a block, and x in several phases.
    CheckAllTactics(Problem(2304, 5120, Element::kBFloat16, fp8), 8, 8);
  }
}

TEST(LinearGpuTest, NormGateBiasAndResidual) {
  for (const bool fp8 : {false, true}) {
    for (const int rows : {1, 2, 6, 40}) {
      LinearProblem norm = Problem(320, 4096, Element::kBFloat16, fp8);
      norm.has_rms_norm = true;
      norm.has_bias = true;
      norm.has_residual = true;
      CheckAllTactics(norm, rows, rows);
      LinearProblem gate = Problem(2 * 2160, 896, Element::kFloat16, fp8);
      gate.has_rms_norm = true;
      gate.gamma_plus_one = true;
      gate.gated = true;
      for (const Activation activation :
           {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
        gate.activation = activation;
        CheckAllTactics(gate, rows, rows);
      }
    }
  }
}

// As in a small biased model: no norm before the layer, few inputs, rows of several prompts.
TEST(LinearGpuTest, BiasAndResidualWithoutANorm) {
  for (const Element dtype : {Element::kBFloat16, Element::kFloat16}) {
    for (const int rows : {1, 7, 33, 131}) {
      for (const int64_t in : {64, 256}) {
        LinearProblem problem = Problem(64, in, dtype, false);
        problem.has_bias = true;
        CheckAllTactics(problem, rows, rows);
        problem.has_residual = true;
        CheckAllTactics(problem, rows, rows);
        CheckAllTactics(problem, 256, rows, rows);
      }
    }
  }
}

TEST(LinearGpuTest, OtherInputAndOutputTypes) {
  for (const int rows : {1, 8, 33}) {
    LinearProblem head = Problem(4016, 512, Element::kBFloat16, false);
    head.y_dtype = Element::kFloat32;
    CheckAllTactics(head, rows, rows);
    LinearProblem quantized = Problem(512, 1024, Element::kBFloat16, true);
    quantized.x_dtype = Element::kFloat8E4M3;
    quantized.has_residual = true;
    CheckAllTactics(quantized, rows, rows);
    LinearProblem gate = Problem(1024, 1024, Element::kBFloat16, true);
    gate.gated = true;
    gate.y_dtype = Element::kFloat8E4M3;
    CheckAllTactics(gate, rows, rows);
  }
}

// A kernel bound for a bucket serves every step below it.
TEST(LinearGpuTest, FewerRowsThanBoundFor) {
  for (const bool fp8 : {false, true}) {
    LinearProblem problem = Problem(512, 1024, Element::kBFloat16, fp8);
    problem.has_rms_norm = true;
    problem.has_residual = true;
    CheckAllTactics(problem, 8, 3, 2);
    CheckAllTactics(problem, 64, 37, 35);
    CheckAllTactics(problem, 512, 129, 129);
    CheckAllTactics(problem, 512, 1, 1);
    LinearProblem gate = Problem(1024, 512, Element::kBFloat16, fp8);
    gate.gated = true;
    CheckAllTactics(gate, 256, 65, 65);
  }
}

// A chain in which each launch may start before the one it depends on has ended.
TEST(LinearGpuTest, DependentLaunchesGiveTheSameBits) {
  const LinearLibrary* library = Library();
  ASSERT_NE(library, nullptr);
  constexpr int kSize = 2048;
  LinearProblem problem = Problem(kSize, kSize, Element::kBFloat16, false);
  problem.has_rms_norm = true;
  problem.has_residual = true;
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values(size_t{kSize} * kSize);
  for (float& value : values) value = normal(random);
  DeviceArray<__nv_bfloat16> w(ToBFloat16(values));
  DeviceArray<__nv_bfloat16> gamma(ToBFloat16(std::vector<float>(kSize, 1.0f)));
  DeviceArray<int32_t> count(std::vector<int32_t>{4});
  values.resize(size_t{4} * kSize);
  const auto start = ToBFloat16(values);
  std::vector<std::vector<__nv_bfloat16>> results;
  for (const char* tactic : {"gemv:16x2+0", "gemv:8x5+64"}) {
    auto kernel = library->Bind(problem, 4, tactic);
    ASSERT_TRUE(kernel.ok()) << kernel.status().ToString();
    for (const bool dependent : {false, true, true}) {
      DeviceArray<__nv_bfloat16> a(start);
      DeviceArray<__nv_bfloat16> b(start.size());
      LaunchContext context;
      for (int i = 0; i < 40; ++i) {
        LinearOperands operands;
        operands.x = operands.residual = i % 2 == 0 ? a.data() : b.data();
        operands.y = i % 2 == 0 ? b.data() : a.data();
        operands.x_stride = operands.residual_stride = operands.y_stride = kSize;
        operands.weight = w.data();
        operands.gamma = gamma.data();
        operands.num_rows = 4;
        operands.num_tokens = count.data();
        ASSERT_TRUE((*kernel)->Run(operands, nullptr, context).ok());
        context.dependent = dependent;
      }
      results.push_back(a.Read());
    }
    const size_t last = results.size() - 1;
    for (const size_t other : {last - 1, last - 2}) {
      EXPECT_EQ(std::memcmp(results[last].data(), results[other].data(), start.size() * 2), 0);
    }
  }
}

TEST(LinearGpuTest, RefusesWhatItCannotRun) {
  const LinearLibrary* library = Library();
  ASSERT_NE(library, nullptr);
  EXPECT_FALSE(SupportsLinear(Problem(64, 12, Element::kBFloat16, false)).ok());
  EXPECT_FALSE(SupportsLinear(Problem(64, 24, Element::kBFloat16, true)).ok());
  EXPECT_FALSE(SupportsLinear(Problem(20, 64, Element::kBFloat16, false)).ok());
  EXPECT_FALSE(SupportsLinear(Problem(64, 64, Element::kFloat32, false)).ok());
  LinearProblem gated = Problem(64, 64, Element::kBFloat16, false);
  gated.gated = gated.has_bias = true;
  EXPECT_FALSE(SupportsLinear(gated).ok());
  LinearProblem head = Problem(64, 64, Element::kBFloat16, false);
  head.y_dtype = Element::kFloat32;
  head.has_bias = true;
  EXPECT_FALSE(SupportsLinear(head).ok());
  const LinearProblem plain = Problem(64, 64, Element::kBFloat16, false);
  for (const char* tactic :
       {"gemv:16x2", "gemv:16x5+0", "gemv:x", "cublaslt:12", "cublaslt_fast", "marlin", ""}) {
    EXPECT_FALSE(library->Bind(plain, 1, tactic).ok()) << tactic;
  }
  EXPECT_FALSE(library->Bind(plain, 9, "gemv").ok());
  EXPECT_FALSE(library->Bind(plain, 0, "cublaslt").ok());
}

TEST(LinearGpuTest, SaysHowToGetAMissingLibrary) {
  const auto library = LinearLibrary::Create("/nowhere/libcublasLt.so.13");
  ASSERT_FALSE(library.ok());
  EXPECT_EQ(library.status().code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(library.status().message().find("LD_LIBRARY_PATH"), std::string_view::npos);
}

}  // namespace
}  // namespace trireme::cuda

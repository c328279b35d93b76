// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <set>

#include "kernels/linear_variant.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr std::byte kGuard{0xa5};
constexpr int64_t kGuardBytes = 256;

// Bytes at a 64-byte boundary between guards, poisoned with NaN patterns.
class GuardedBuffer {
 public:
  explicit GuardedBuffer(int64_t bytes) : bytes_(bytes), storage_(bytes + 2 * kGuardBytes + 64) {
    std::fill(storage_.begin(), storage_.end(), kGuard);
    const auto at = reinterpret_cast<uintptr_t>(storage_.data()) + kGuardBytes;
    offset_ = static_cast<int64_t>((at + 63) / 64 * 64 - at) + kGuardBytes;
    std::memset(data(), 0xff, static_cast<size_t>(bytes));  // NaN as float and as bfloat16
  }
  std::byte* data() { return storage_.data() + offset_; }
  float* floats() { return reinterpret_cast<float*>(data()); }
  int64_t bytes() const { return bytes_; }
  bool GuardsIntact() const {
    for (int64_t i = 0; i < static_cast<int64_t>(storage_.size()); ++i) {
      const bool inside = i >= offset_ && i < offset_ + bytes_;
      if (!inside && storage_[i] != kGuard) return false;
    }
    return true;
  }

 private:
  int64_t bytes_;
  int64_t offset_ = 0;
  std::vector<std::byte> storage_;
};

std::vector<float> Normal(int64_t count, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

HostTensor ToTensor(const std::vector<float>& values, DType dtype, Shape shape) {
  HostTensor tensor(dtype, shape);
  ConvertFloats(DType::kFloat32, reinterpret_cast<const std::byte*>(values.data()), dtype,
                tensor.bytes().data(), static_cast<int64_t>(values.size()));
  return tensor;
}

// Weights (and scales) of a problem, drawn at random.
struct Weights {
  HostTensor values;
  HostTensor scales;
  bool quantized = false;

  explicit Weights(const LinearProblem& problem, uint32_t seed) {
    const int64_t out = problem.out_features;
    const int64_t in = problem.in_features;
    const float deviation = 1.0f / std::sqrt(static_cast<float>(in));
    if (problem.quant.kind == WeightQuant::Kind::kNone) {
      values = ToTensor(Normal(out * in, seed, deviation), problem.dtype, {out, in});
      return;
    }
    quantized = true;
    const bool int4 = problem.quant.kind == WeightQuant::Kind::kInt4;
    values = HostTensor(int4 ? DType::kInt4 : DType::kInt8, {out, in});
    std::mt19937 random(seed);
    for (std::byte& byte : values.bytes()) byte = static_cast<std::byte>(random());
    const int64_t group = problem.quant.group_size == 0 ? in : problem.quant.group_size;
    const int64_t groups = (in + group - 1) / group;
    std::vector<float> scale(static_cast<size_t>(out * groups));
    for (float& s : scale) {
      s = deviation / (int4 ? 4.6f : 74.0f) * (0.5f + static_cast<float>(random() % 100) / 100.0f);
    }
    scales = ToTensor(scale, problem.dtype, {out, groups});
  }
  TensorView weight() const { return values.view(); }
};

struct Options {
  bool bias = false;
  bool residual = false;
};

int64_t Outputs(const LinearProblem& problem) {
  return problem.gated == GatedActivation::kNone ? problem.out_features : problem.out_features / 2;
}

// One layer: its weights, and x, bias and residual for up to max_tokens rows.
class Layer {
 public:
  Layer(const LinearProblem& problem, int64_t max_tokens, Options options, uint32_t seed = 1)
      : problem_(problem),
        weights_(problem, seed),
        scales_(weights_.scales.view()),
        x_(Normal(max_tokens * problem.in_features, seed + 1)),
        bias_(Normal(problem.out_features, seed + 2)),
        residual_(Normal(max_tokens * Outputs(problem), seed + 3)),
        options_(options) {}

  const LinearProblem& problem() const { return problem_; }
  std::vector<float>& x() { return x_; }

  LinearParams Params(int64_t first_row, int64_t rows) const {
    LinearParams params;
    params.x = x_.data() + first_row * problem_.in_features;
    params.x_stride = problem_.in_features;
    params.bias = options_.bias ? bias_.data() : nullptr;
    params.residual =
        options_.residual ? residual_.data() + first_row * Outputs(problem_) : nullptr;
    params.residual_stride = Outputs(problem_);
    params.num_tokens = rows;
    return params;
  }

  std::vector<float> Reference(int64_t rows) const {
    std::vector<float> y(static_cast<size_t>(rows * Outputs(problem_)), kNaN);
    LinearParams params = Params(0, rows);
    params.y = y.data();
    params.y_stride = Outputs(problem_);
    LinearReference(problem_, weights_.weight(), scales(), params);
    return y;
  }

  // Packs W once per layout; the bytes after the packed ones are guards.
  const std::byte* Packed(const std::string& layout) {
    auto found = packed_.find(layout);
    if (found == packed_.end()) {
      auto bytes = PackedLinearBytes(problem_, layout);
      EXPECT_TRUE(bytes.ok()) << bytes.status().ToString();
      found = packed_.try_emplace(layout, *bytes).first;
      const Status status = PackLinear(problem_, layout, weights_.weight(), scales(),
                                       {found->second.data(), static_cast<size_t>(*bytes)});
      EXPECT_TRUE(status.ok()) << status.ToString();
      EXPECT_TRUE(found->second.GuardsIntact());
    }
    return found->second.data();
  }

  // Rows [first_row, first_row + rows) through a tactic: poisoned y with a gap between its rows.
  std::vector<float> Run(const LinearTactic& tactic, int64_t first_row, int64_t rows,
                         ThreadPool& pool) {
    auto kernel = LinearKernel::Create(problem_, tactic);
    EXPECT_TRUE(kernel.ok()) << kernel.status().ToString();
    CpuContext context{&pool, BestIsa(HostCpuFeatures())};
    const int64_t outputs = Outputs(problem_);
    const int64_t stride = outputs + 3;
    GuardedBuffer y(rows * stride * 4);
    GuardedBuffer workspace(LinearWorkspaceBytes(problem_, tactic, rows, pool.num_threads()));
    LinearParams params = Params(first_row, rows);
    params.packed = Packed(tactic.layout);
    params.y = y.floats();
    params.y_stride = stride;
    params.workspace = workspace.data();
    kernel->Run(params, context);
    EXPECT_TRUE(y.GuardsIntact());
    EXPECT_TRUE(workspace.GuardsIntact());
    std::vector<float> result;
    for (int64_t row = 0; row < rows; ++row) {
      const float* at = y.floats() + row * stride;
      result.insert(result.end(), at, at + outputs);
      for (int64_t gap = outputs; gap < stride; ++gap) EXPECT_TRUE(std::isnan(at[gap]));
    }
    return result;
  }

  // All rows through the reference that reads packed weights.
  std::vector<float> PackedReference(const std::string& layout, int64_t rows) {
    auto reference = PackedLinearReference::Create(problem_, layout);
    EXPECT_TRUE(reference.ok()) << reference.status().ToString();
    std::vector<float> y(static_cast<size_t>(rows * Outputs(problem_)), kNaN);
    LinearParams params = Params(0, rows);
    params.packed = Packed(layout);
    params.y = y.data();
    params.y_stride = Outputs(problem_);
    reference->Run(params);
    return y;
  }

 private:
  const TensorView* scales() const { return weights_.quantized ? &scales_ : nullptr; }

  LinearProblem problem_;
  Weights weights_;
  TensorView scales_;
  std::vector<float> x_;
  std::vector<float> bias_;
  std::vector<float> residual_;
  Options options_;
  std::map<std::string, GuardedBuffer> packed_;
};

double Rms(const std::vector<float>& values) {
  double sum = 0;
  for (float value : values) sum += double{value} * value;
  return std::sqrt(sum / static_cast<double>(values.size()));
}

double RmsDifference(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return std::sqrt(sum / static_cast<double>(a.size()));
}

// Largest allowed rms error against the reference, as a share of the rms of the outputs.
double Tolerance(const std::string& numerics) {
  // x rounded to 8 significant bits: at most 2^-9 / sqrt(3) * sqrt(2) of it, uniformly distributed.
  if (numerics == "bfloat16_dot") return 2.5e-3;
  // Steps of max|x| / 127 over 32 normal values: 2.37 / 127 / sqrt(12) = 5.4e-3.
  if (numerics == "int8_activations_g32") return 6.0e-3;
  // ... and of max|x| / 16256: 4.2e-5.
  if (numerics == "int16_activations_g32") return 6.0e-5;
  return 2.0e-6;  // float32 sums of up to a few thousand products, in another order
}

LinearProblem Problem(DType dtype, int64_t out, int64_t in,
                      GatedActivation gated = GatedActivation::kNone) {
  LinearProblem problem;
  problem.out_features = out;
  problem.in_features = in;
  problem.dtype = dtype;
  problem.gated = gated;
  return problem;
}

LinearProblem Quantized(WeightQuant::Kind kind, int group, int64_t out, int64_t in,
                        GatedActivation gated = GatedActivation::kNone) {
  LinearProblem problem = Problem(DType::kBFloat16, out, in, gated);
  problem.quant = {kind, group};
  return problem;
}

constexpr auto kInt8 = WeightQuant::Kind::kInt8;
constexpr auto kInt4 = WeightQuant::Kind::kInt4;

// One of each kind of weight.
std::vector<LinearProblem> Kinds(int64_t out, int64_t in,
                                 GatedActivation gated = GatedActivation::kNone) {
  return {Problem(DType::kFloat32, out, in, gated),  Problem(DType::kFloat16, out, in, gated),
          Problem(DType::kBFloat16, out, in, gated), Quantized(kInt8, 0, out, in, gated),
          Quantized(kInt8, 64, out, in, gated),      Quantized(kInt4, 0, out, in, gated),
          Quantized(kInt4, 128, out, in, gated),     Quantized(kInt4, 32, out, in, gated)};
}

// The tactics of every instruction set that the host has.
std::vector<LinearTactic> AllTactics(const LinearProblem& problem) {
  return AllLinearTactics(problem, HostCpuFeatures());
}

std::string Describe(const LinearProblem& problem, const LinearTactic& tactic, int64_t rows) {
  return tactic.kernel + " " + tactic.layout + " out=" + std::to_string(problem.out_features) +
         " in=" + std::to_string(problem.in_features) +
         " group=" + std::to_string(problem.quant.group_size) + " rows=" + std::to_string(rows);
}

ThreadPool& TwoThreads() {
  static ThreadPool pool(2, false);
  return pool;
}

void ExpectNearReference(const LinearProblem& problem, int64_t rows, Options options) {
  Layer layer(problem, rows, options);
  ThreadPool& pool = TwoThreads();
  const std::vector<float> reference = layer.Reference(rows);
  const std::vector<LinearTactic> tactics = AllTactics(problem);
  ASSERT_GE(tactics.size(), 2u);
  for (const LinearTactic& tactic : tactics) {
    SCOPED_TRACE(Describe(problem, tactic, rows));
    const std::vector<float> y = layer.Run(tactic, 0, rows, pool);
    // A gate multiplies two outputs of size one or so, each with its error; a handful of outputs
    // strays further from the mean error than many do.
    const bool gated = problem.gated != GatedActivation::kNone;
    const double size = Rms(reference) + (gated || reference.size() < 400 ? 1.0 : 1e-3);
    EXPECT_LE(RmsDifference(y, reference), Tolerance(tactic.numerics) * size * (gated ? 2 : 1));
  }
}

TEST(LinearTest, AgreesWithReferenceOverRaggedShapes) {
  const std::pair<int64_t, int64_t> shapes[] = {{1, 64},   {31, 160}, {64, 64}, {65, 96},
                                                {130, 34}, {97, 896}, {7, 4864}};
  for (auto [out, in] : shapes) {
    for (const LinearProblem& problem : Kinds(out, in)) {
      ExpectNearReference(problem, 7, {.bias = true, .residual = true});
    }
  }
}

TEST(LinearTest, OddInputs) {
  for (DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    ExpectNearReference(Problem(dtype, 70, 37), 13, {.bias = true});
    ExpectNearReference(Problem(dtype, 70, 1), 13, {});
  }
  ExpectNearReference(Quantized(kInt8, 0, 70, 37), 13, {});
}

TEST(LinearTest, EveryNumberOfRows) {
  for (const LinearProblem& problem : Kinds(40, 64)) {
    for (int64_t rows = 1; rows <= 26; ++rows) ExpectNearReference(problem, rows, {});
  }
}

TEST(LinearTest, GatesBothBranches) {
  for (auto gated : {GatedActivation::kSilu, GatedActivation::kGelu, GatedActivation::kGeluTanh,
                     GatedActivation::kRelu}) {
    for (int64_t out : {2, 62, 160, 194}) {
      for (const LinearProblem& problem : Kinds(out, 64, gated)) {
        ExpectNearReference(problem, 9, {.bias = true, .residual = true});
        ExpectNearReference(problem, 3, {});
      }
    }
  }
}

TEST(LinearTest, ReferenceReadsEveryPackedLayoutBitForBit) {
  std::set<std::string> layouts;
  for (auto gated : {GatedActivation::kNone, GatedActivation::kSilu}) {
    for (auto [out, in] : {std::pair<int64_t, int64_t>{2, 64}, {66, 96}, {130, 34}, {96, 288}}) {
      for (const LinearProblem& problem : Kinds(out, in, gated)) {
        Layer layer(problem, 5, {.bias = true, .residual = true});
        for (const LinearTactic& tactic : AllTactics(problem)) {
          SCOPED_TRACE(Describe(problem, tactic, 5));
          EXPECT_TRUE(layer.Reference(5) == layer.PackedReference(tactic.layout, 5));
          layouts.insert(tactic.layout);
        }
      }
    }
  }
  // Five formats, two block widths, plain and gated.
  EXPECT_EQ(layouts.size(), BestIsa(HostCpuFeatures()) == Isa::kAvx512 ? 20u : 10u);
  EXPECT_EQ(PackedLinearReference::Create(Kinds(4, 64)[0], "bf16_n32k2").status().code(),
            StatusCode::kInvalidArgument);
}

// The binding rule: a row's bits depend on neither the rows beside it, nor the tactic within one
// numerics class, nor the number of threads.
void ExpectSameBits(const LinearProblem& problem, const std::vector<int64_t>& row_counts) {
  const int64_t max_rows = row_counts.back();
  Layer layer(problem, max_rows, {.bias = true, .residual = true});
  ThreadPool& two = TwoThreads();
  ThreadPool one(1, false);
  const int64_t outputs = Outputs(problem);
  std::map<std::string, std::vector<float>> alone;  // numerics -> row after row, one at a time
  for (const LinearTactic& tactic : AllTactics(problem)) {
    const bool slow = tactic.kernel.find("generic") != std::string::npos;
    const int64_t limit = slow ? std::min<int64_t>(max_rows, 17) : max_rows;
    std::vector<float>& rows = alone[tactic.numerics];
    for (int64_t row = static_cast<int64_t>(rows.size()) / outputs; row < limit; ++row) {
      const std::vector<float> y = layer.Run(tactic, row, 1, one);
      rows.insert(rows.end(), y.begin(), y.end());
    }
    for (int64_t count : row_counts) {
      if (count > limit) continue;
      SCOPED_TRACE(Describe(problem, tactic, count));
      const std::vector<float> y = layer.Run(tactic, 0, count, two);
      EXPECT_EQ(std::memcmp(y.data(), rows.data(), y.size() * sizeof(float)), 0);
    }
  }
}

TEST(LinearTest, RowsAreBitIdenticalAloneAndBatched) {
  for (const LinearProblem& problem : Kinds(136, 160)) {
    ExpectSameBits(problem, {1, 2, 3, 5, 16, 17, 64, 100, 512});
  }
}

// Long rows are reduced in several passes when batched, in one when alone.
TEST(LinearTest, LongRowsAreBitIdenticalAloneAndBatched) {
  for (const LinearProblem& problem : Kinds(40, 4864)) {
    ExpectSameBits(problem, {1, 2, 3, 5, 16, 17, 64, 100});
  }
}

// With more threads than blocks, rows are dealt out too.
TEST(LinearTest, ManyThreadsComputeTheSameBits) {
  ThreadPool many(3, false);
  for (const LinearProblem& problem : Kinds(72, 64)) {
    Layer layer(problem, 500, {.bias = true, .residual = true});
    for (const LinearTactic& tactic : AllTactics(problem)) {
      for (int64_t rows : {13, 500}) {
        SCOPED_TRACE(Describe(problem, tactic, rows));
        const std::vector<float> y = layer.Run(tactic, 0, rows, many);
        const std::vector<float> expected = layer.Run(tactic, 0, rows, TwoThreads());
        EXPECT_EQ(std::memcmp(y.data(), expected.data(), y.size() * sizeof(float)), 0);
      }
    }
  }
}

TEST(LinearTest, GatedRowsAreBitIdenticalAloneAndBatched) {
  for (const LinearProblem& problem : Kinds(200, 96, GatedActivation::kSilu)) {
    ExpectSameBits(problem, {1, 2, 3, 5, 16, 17, 64, 100, 512});
  }
}

TEST(LinearTest, NotANumberReachesItsRowAlone) {
  for (const LinearProblem& problem : Kinds(33, 96)) {
    Layer layer(problem, 5, {});
    layer.x()[2 * 96 + 50] = kNaN;
    layer.x()[4 * 96 + 3] = std::numeric_limits<float>::infinity();
    for (const LinearTactic& tactic : AllTactics(problem)) {
      SCOPED_TRACE(Describe(problem, tactic, 5));
      const std::vector<float> y = layer.Run(tactic, 0, 5, TwoThreads());
      for (int64_t row = 0; row < 5; ++row) {
        for (int64_t n = 0; n < 33; ++n) {
          EXPECT_EQ(std::isfinite(y[row * 33 + n]), row != 2 && row != 4) << row << " " << n;
        }
      }
    }
  }
}

TEST(LinearTest, ZerosAndTinyInputsAreZero) {
  for (const LinearProblem& problem : Kinds(33, 96)) {
    Layer layer(problem, 2, {});
    std::fill(layer.x().begin(), layer.x().begin() + 96, 0.0f);
    std::fill(layer.x().begin() + 96, layer.x().end(), 1e-40f);
    ThreadPool pool(1, false);
    for (const LinearTactic& tactic : AllTactics(problem)) {
      for (float y : layer.Run(tactic, 0, 2, pool)) EXPECT_NEAR(y, 0.0f, 1e-37f) << tactic.kernel;
    }
  }
}

// Each instruction set offers its own kernels, over the same layouts and, for integers, with the same
// bits.
TEST(LinearTest, LesserProcessorsKeepLayouts) {
  CpuFeatures avx2;
  avx2.avx2 = true;
  CpuFeatures avx512 = avx2;
  avx512.avx512 = true;
  for (const LinearProblem& problem : Kinds(64, 64)) {
    std::map<std::string, std::set<std::string>> layouts;
    std::map<std::string, std::set<std::string>> numerics;
    for (const auto& [isa, features] :
         {std::pair{"generic", CpuFeatures{}}, {"avx2", avx2}, {"avx512", avx512}}) {
      for (const LinearTactic& tactic : LinearTactics(problem, features)) {
        EXPECT_EQ(tactic.kernel.substr(0, tactic.kernel.find('_')), isa);
        layouts[isa].insert(tactic.layout);
        numerics[isa].insert(tactic.numerics);
      }
      EXPECT_GE(layouts[isa].size(), 2u);
    }
    EXPECT_EQ(layouts["generic"], layouts["avx512"]);
    EXPECT_EQ(layouts["avx2"], layouts["avx512"]);
    if (problem.quant.kind != WeightQuant::Kind::kNone) {
      EXPECT_EQ(numerics["generic"], numerics["avx512"]);
      EXPECT_EQ(numerics["avx2"], numerics["avx512"]);
    }
  }
}

// A float32 engine keeps its activations to 16 bits in integer layers.
TEST(LinearTest, Float32EnginesGetNoEightBitActivations) {
  for (auto kind : {kInt8, kInt4}) {
    LinearProblem problem = Quantized(kind, 0, 64, 64);
    problem.dtype = DType::kFloat32;
    const std::vector<LinearTactic> tactics = LinearTactics(problem, HostCpuFeatures());
    EXPECT_GE(tactics.size(), 2u);
    for (const LinearTactic& tactic : tactics) EXPECT_EQ(tactic.numerics, "int16_activations_g32");
    ExpectNearReference(problem, 7, {});
  }
}

TEST(LinearTest, NamesAreUnique) {
  const std::vector<std::string> names = LinearVariantNames();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), names.size());
}

TEST(LinearTest, RefusesWhatItCannotDo) {
  const CpuFeatures& host = HostCpuFeatures();
  LinearProblem problem = Problem(DType::kFloat32, 64, 64);
  const LinearTactic tactic = LinearTactics(problem, host).front();
  EXPECT_TRUE(LinearTactics(Problem(DType::kFloat32, 0, 64), host).empty());
  EXPECT_TRUE(LinearTactics(Problem(DType::kInt64, 64, 64), host).empty());
  EXPECT_TRUE(LinearTactics(Quantized(kInt4, 48, 64, 64), host).empty());
  EXPECT_TRUE(
      LinearTactics(Problem(DType::kFloat32, 65, 64, GatedActivation::kSilu), host).empty());
  LinearTactic unknown = tactic;
  unknown.kernel = "no_such";
  EXPECT_EQ(LinearKernel::Create(problem, unknown).status().code(), StatusCode::kInvalidArgument);
  unknown = tactic;
  unknown.layout = "bf16_n64k2";
  EXPECT_EQ(LinearKernel::Create(problem, unknown).status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(PackedLinearBytes(problem, "row_major").status().code(), StatusCode::kInvalidArgument);
  problem.quant.kind = WeightQuant::Kind::kFloat8;
  EXPECT_EQ(LinearKernel::Create(problem, tactic).status().code(), StatusCode::kUnimplemented);
}

TEST(LinearTest, RefusesToPackWrongTensors) {
  const LinearProblem problem = Quantized(kInt4, 32, 8, 64);
  const std::string layout = LinearTactics(problem, HostCpuFeatures()).front().layout;
  std::vector<std::byte> packed(static_cast<size_t>(*PackedLinearBytes(problem, layout)));
  const HostTensor weight(DType::kInt4, {8, 64});
  const HostTensor scales(DType::kFloat32, {8, 2});
  const TensorView scale_view = scales.view();
  EXPECT_TRUE(PackLinear(problem, layout, weight.view(), &scale_view, packed).ok());
  EXPECT_FALSE(PackLinear(problem, layout, weight.view(), nullptr, packed).ok());
  EXPECT_FALSE(
      PackLinear(problem, layout, HostTensor(DType::kInt4, {8, 32}).view(), &scale_view, packed)
          .ok());
  EXPECT_FALSE(
      PackLinear(problem, layout, HostTensor(DType::kInt8, {8, 64}).view(), &scale_view, packed)
          .ok());
  const TensorView few_scales = {DType::kFloat32, {8, 1}, scale_view.data};
  EXPECT_FALSE(PackLinear(problem, layout, weight.view(), &few_scales, packed).ok());
  EXPECT_FALSE(PackLinear(problem, layout, weight.view(), &scale_view,
                          std::span(packed).first(packed.size() - 1))
                   .ok());
}

}  // namespace
}  // namespace trireme::kernels

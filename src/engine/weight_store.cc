// SPDX-License-Identifier: Apache-2.0
#include "engine/weight_store.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <random>

#include "base/status.h"
#include "kernels/linear_problem.h"
#include "tensor/tensor_view.h"

namespace trireme::engine {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20;
constexpr int64_t kWeightAlignment = 256;

int64_t AlignUp(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// Draws from N(0, 1), as many as a random 12-bit index tells apart: enough for benchmarks, at the
// speed of a table look-up.
class NormalTable {
 public:
  NormalTable() {
    std::mt19937 random(20);
    std::normal_distribution<float> normal;
    for (float& value : values_) value = normal(random);
  }
  float operator[](uint64_t bits) const { return values_[bits % values_.size()]; }

 private:
  std::array<float, 4096> values_;
};

// SplitMix64 (Steele, Lea, Flood 2014).
uint64_t NextRandom(uint64_t& state) {
  uint64_t z = (state += 0x9e3779b97f4a7c15ull);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// Fills rows of a float tensor with N(mean, std).
void FillNormal(HostTensor& tensor, float mean, float std, ThreadPool& pool, uint64_t seed) {
  static const NormalTable table;
  const int64_t count = tensor.shape().num_elements();
  constexpr int64_t kChunk = 1 << 16;
  const DType dtype = tensor.dtype();
  pool.ParallelFor((count + kChunk - 1) / kChunk, [&](int64_t chunk, int) {
    uint64_t state = seed * 0x100000001b3ull + static_cast<uint64_t>(chunk);
    std::array<float, 256> values;
    const int64_t end = std::min(count, (chunk + 1) * kChunk);
    for (int64_t begin = chunk * kChunk; begin < end; begin += 256) {
      const int64_t n = std::min<int64_t>(256, end - begin);
      for (int64_t i = 0; i < n; ++i) values[i] = mean + std * table[NextRandom(state) >> 20];
      ConvertFloats(DType::kFloat32, reinterpret_cast<const std::byte*>(values.data()), dtype,
                    tensor.bytes().data() + DTypeBytes(dtype, begin), n);
    }
  });
}

Status MakeLinear(const plan::Weight& weight, const kernels::LinearProblem& problem,
                  ThreadPool& pool, uint64_t seed, std::span<std::byte> packed) {
  const int64_t out = problem.out_features;
  const int64_t in = problem.in_features;
  const float std = static_cast<float>(weight.synthetic_std);
  if (problem.quant.kind == WeightQuant::Kind::kNone) {
    HostTensor values(weight.dtype, {out, in});
    FillNormal(values, 0.0f, std, pool, seed);
    return kernels::PackLinear(problem, weight.layout, values.view(), nullptr, packed);
  }
  // Uniform integers; their scale gives them the wanted deviation (step * range / sqrt(12)).
  const bool int4 = problem.quant.kind == WeightQuant::Kind::kInt4;
  HostTensor values(int4 ? DType::kInt4 : DType::kInt8, {out, in});
  uint64_t state = seed;
  for (std::byte& byte : values.bytes()) byte = static_cast<std::byte>(NextRandom(state) >> 56);
  const int64_t groups = problem.quant.group_size == 0
                             ? 1
                             : (in + problem.quant.group_size - 1) / problem.quant.group_size;
  HostTensor scales(DType::kFloat32,
                    problem.quant.group_size == 0 ? Shape{out} : Shape{out, groups});
  std::fill_n(scales.as<float>(), out * groups, std * std::sqrt(12.0f) / (int4 ? 16.0f : 256.0f));
  const TensorView scale_view = scales.view();
  return kernels::PackLinear(problem, weight.layout, values.view(), &scale_view, packed);
}

// The launch that reads weight `index` first.
const plan::Launch* ReaderOf(const plan::Plan& plan, int index) {
  for (const plan::Launch& launch : plan.launches) {
    if (std::find(launch.weights.begin(), launch.weights.end(), index) != launch.weights.end()) {
      return &launch;
    }
  }
  return nullptr;
}

Status MakeSynthetic(const plan::Plan& plan, int index, ThreadPool& pool,
                     std::span<std::byte> bytes) {
  const plan::Weight& weight = plan.weights[index];
  const plan::Launch* reader = ReaderOf(plan, index);
  if (reader == nullptr) return OkStatus();
  const uint64_t seed = static_cast<uint64_t>(index) + 1;
  if ((reader->kind == OpKind::kLinear && reader->weights[0] == index) ||
      reader->kind == OpKind::kExpertLinear) {
    const kernels::LinearProblem problem =
        kernels::LinearProblemOf(LinearAttrsOf(reader->attrs), plan.dtype, weight.quant);
    return MakeLinear(weight, problem, pool, seed, bytes);
  }
  // A norm scales around one, so that activations keep their size through the layers.
  const auto* norm = std::get_if<NormAttrs>(&reader->attrs);
  const bool norm_scale =
      reader->weights[0] == index &&
      ((norm != nullptr && !norm->gamma_offset) || reader->kind == OpKind::kHeadRmsNorm);
  HostTensor values(weight.dtype, weight.shape);
  FillNormal(values, norm_scale ? 1.0f : 0.0f, static_cast<float>(weight.synthetic_std), pool,
             seed);
  std::copy(values.bytes().begin(), values.bytes().end(), bytes.begin());
  return OkStatus();
}

}  // namespace

StatusOr<WeightStore> WeightStore::Make(const LoadedEngine& engine, ThreadPool& pool) {
  const std::vector<plan::Weight>& weights = engine.plan.weights;
  WeightStore store;
  // One buffer for all synthetic weights, from a huge page's begin on: the ends of many would lie in
  // small pages, whose translations a processor has to fetch beside them.
  int64_t bytes = kHugePage;
  for (const plan::Weight& weight : weights) {
    if (weight.synthetic_std > 0) bytes += AlignUp(weight.num_bytes, kWeightAlignment);
  }
  if (bytes > kHugePage) {
    store.synthetic_ = AlignedBuffer(bytes);
    store.synthetic_.UseHugePages();
  }
  auto* next = reinterpret_cast<std::byte*>(
      AlignUp(reinterpret_cast<int64_t>(store.synthetic_.data()), kHugePage));
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i].synthetic_std <= 0) {
      TRIREME_ASSIGN_OR_RETURN(const std::span<const std::byte> stored,
                               engine.file->Bytes(weights[i].name));
      store.pointers_.push_back(stored.data());
      continue;
    }
    TRIREME_RETURN_IF_ERROR(MakeSynthetic(engine.plan, static_cast<int>(i), pool,
                                          {next, static_cast<size_t>(weights[i].num_bytes)}));
    store.pointers_.push_back(next);
    next += AlignUp(weights[i].num_bytes, kWeightAlignment);
  }
  return store;
}

}  // namespace trireme::engine

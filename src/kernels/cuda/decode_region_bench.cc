// SPDX-License-Identifier: Apache-2.0
// The decoder layers of Llama-3.1-8B in one launch, at batch 1 to 4.
#include <cstdio>
#include <string>
#include <vector>

#include "kernels/cuda/bench.h"
#include "kernels/cuda/decode_region.h"

namespace trireme::cuda {
namespace {

constexpr int kLayers = 32;
constexpr int kHidden = 4096;
constexpr int kQkv = 6144;
constexpr int kIntermediate = 14336;
constexpr int kBlockSize = 64;
constexpr int kMaxContext = 32768;
constexpr int64_t kLayerValues =
    int64_t{kHidden} * (kQkv + kHidden + 2 * kIntermediate) + int64_t{kIntermediate} * kHidden;

// Weights of all layers, a cache and the step's arrays.
class RegionBench {
 public:
  explicit RegionBench(bool fp8)
      : fp8_(fp8),
        weights_(kLayers * kLayerValues * (fp8 ? 1 : 2),
                 fp8 ? BenchArray::Fill::kFloat8E4M3 : BenchArray::Fill::kBFloat16,
                 fp8 ? 16.0f : 0.02f),
        gamma_(kHidden * 2, BenchArray::Fill::kBFloat16, 1.0f),
        activations_(int64_t{kMaxRegionRows} * 4 * (kQkv + kIntermediate) * 2,
                     BenchArray::Fill::kBFloat16, 1.0f),
        table_(int64_t{kMaxContext + 1} * 64 * 4, BenchArray::Fill::kNone, 0.0f),
        pool_(int64_t{kMaxRegionRows} * (kMaxContext / kBlockSize + 1) * kBlockBytes,
              BenchArray::Fill::kBFloat16, 1.0f),
        step_(1 << 20, BenchArray::Fill::kNone, 0.0f),
        layers_(kLayers * static_cast<int64_t>(sizeof(RegionLayer)), BenchArray::Fill::kNone, 0.0f),
        workspace_(int64_t{16} << 20, BenchArray::Fill::kNone, 0.0f) {
    if (!ok()) return;
    cudaMemset(workspace_.data(), 0, size_t{16} << 20);
    cudaMemset(table_.data(), 0, size_t{kMaxContext + 1} * 64 * 4);
    SetLayers();
  }

  bool ok() const {
    return weights_.ok() && activations_.ok() && pool_.ok() && step_.ok() && workspace_.ok();
  }

  DecodeRegionParams Params(int rows, int context) {
    std::vector<int32_t> words(1 << 18, 0);
    words[0] = words[1] = words[2] = rows;  // counts
    words[3] = 1;
    constexpr int kStride = kMaxContext / kBlockSize + 1;
    for (int row = 0; row < rows; ++row) {
      words[16 + row] = context;  // positions, context_lens
      words[32 + row] = row;      // token_seqs, cu_query_lens
      for (int block = 0; block < kStride; ++block) {
        words[64 + row * kStride + block] = row * kStride + block * 37 % kStride;
      }
    }
    words[32 + rows] = rows;
    cudaMemcpy(step_.data(), words.data(), words.size() * 4, cudaMemcpyHostToDevice);
    const auto* step = reinterpret_cast<const int32_t*>(step_.data());
    DecodeRegionParams params;
    params.weight = fp8_ ? Element::kFloat8E4M3 : Element::kBFloat16;
    params.num_layers = kLayers;
    params.hidden_size = kHidden;
    params.intermediate_size = kIntermediate;
    params.num_heads = 32;
    params.style = RotaryStyle::kNeox;
    params.rotary_dim = 128;
    params.cos = params.sin = reinterpret_cast<const float*>(table_.data());
    params.attention_scale = 0.088f;
    params.layers = reinterpret_cast<const RegionLayer*>(layers_.data());
    params.step.counts = reinterpret_cast<const StepCounts*>(step);
    params.step.positions = params.step.context_lens = step + 16;
    params.step.token_seqs = params.step.cu_query_lens = step + 32;
    params.step.block_tables = step + 64;
    params.step.block_table_stride = kStride;
    params.kv.pool = pool_.data();
    params.kv.block_bytes = kBlockBytes;
    params.kv.num_kv_heads = 8;
    params.kv.head_dim = 128;
    params.kv.block_size = kBlockSize;
    params.workspace = workspace_.data();
    params.num_rows = rows;
    return params;
  }

  void Report(Bench& bench, int rows, int context, const DecodeRegionConfig& config) {
    const std::string name = std::string("decode_region/") + (fp8_ ? "fp8" : "bf16") + "/m" +
                             std::to_string(rows) + "/" + std::to_string(context);
    if (!bench.Wants(name)) return;
    const DecodeRegionParams params = Params(rows, context);
    if (DecodeRegionWorkspaceBytes(params, LaunchContext().num_sms) > int64_t{16} << 20) return;
    const double us = bench.Time(1, 15, [&](int, LaunchContext& context_) {
      const cudaError_t error = DecodeRegion(params, config, context_);
      if (error != cudaSuccess) std::printf("%s: %s\n", name.c_str(), cudaGetErrorString(error));
      return error == cudaSuccess;
    });
    const double cache = double{kLayers} * rows * context * 2 * 8 * 128 * 2;
    bench.Report({.name = name,
                  .detail = std::to_string(config.chunks_in_flight) + " of " +
                            std::to_string(config.slot_bytes),
                  .us = us,
                  .bytes = static_cast<double>(kLayers * kLayerValues * (fp8_ ? 1 : 2)) + cache});
  }

 private:
  static constexpr int64_t kBlockBytes = int64_t{kLayers} * 2 * 8 * kBlockSize * 128 * 2;

  void SetLayers() {
    std::vector<RegionLayer> layers(kLayers);
    const int64_t value_bytes = fp8_ ? 1 : 2;
    const uint8_t* w = weights_.data();
    constexpr int64_t kSpan = int64_t{kMaxRegionRows} * (kQkv + kIntermediate) * 2;
    uint8_t* qkv = activations_.data();
    uint8_t* attention = qkv + kSpan;
    uint8_t* hidden = attention + kSpan;
    uint8_t* gate = hidden + kSpan;
    const auto linear = [&](int64_t out, int64_t in, const uint8_t* x, uint8_t* y, bool normed) {
      RegionLinear l;
      l.w = w;
      l.x = x;
      l.y = y;
      if (normed) l.gamma = gamma_.data();
      if (!normed) l.residual = hidden;
      if (fp8_) {
        l.x_scale = 0.03f;
        l.alpha = 0.03f * 0.02f / 16;
      }
      w += out * in * value_bytes;
      return l;
    };
    for (int i = 0; i < kLayers; ++i) {
      layers[i].cache_layer = i;
      layers[i].qkv = linear(kQkv, kHidden, hidden, qkv, true);
      layers[i].o = linear(kHidden, kHidden, attention, hidden, false);
      layers[i].gate_up = linear(2 * kIntermediate, kHidden, hidden, gate, true);
      layers[i].down = linear(kHidden, kIntermediate, gate, hidden, false);
    }
    cudaMemcpy(layers_.data(), layers.data(), layers.size() * sizeof(RegionLayer),
               cudaMemcpyHostToDevice);
  }

  bool fp8_;
  BenchArray weights_;
  BenchArray gamma_;
  BenchArray activations_;
  BenchArray table_;
  BenchArray pool_;
  BenchArray step_;
  BenchArray layers_;
  BenchArray workspace_;
};

TRIREME_GPU_BENCH(decode_region) {
  if (!bench.Wants("decode_region")) return;
  for (const bool fp8 : {false, true}) {
    RegionBench data(fp8);
    if (!data.ok()) return;
    for (const int in_flight : {4, 5, 6, 7, 8, 12, 24}) {
      data.Report(bench, 1, 384, {.chunks_in_flight = in_flight});
    }
    for (const int context : {0, 128, 1024, 4096, 8192, 32768}) data.Report(bench, 1, context, {});
    for (const int rows : {2, 4}) data.Report(bench, rows, 384, {});
  }
}

}  // namespace
}  // namespace trireme::cuda

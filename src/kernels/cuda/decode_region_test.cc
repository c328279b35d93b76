// SPDX-License-Identifier: Apache-2.0
// Each stage of a region is compared with the kernel that does it alone, given the region's own input
// of that stage: nothing but the order of sums lies between the two.
#include "kernels/cuda/decode_region.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <random>
#include <string>

#include "kernels/cuda/attention_testing.h"
#include "kernels/cuda/decode_region_plan.h"
#include "kernels/cuda/gemv.h"
#include "kernels/cuda/random_normal.h"

namespace trireme::cuda {
namespace {

struct RegionShape {
  AttentionShape attention;
  int hidden_size = 256;
  int intermediate_size = 512;
  int num_layers = 2;
  bool fp8 = false;
  bool quantized = false;  // between gate_up and down
  bool bias = false;
  bool gamma_plus_one = false;
  Activation activation = Activation::kSilu;
  int num_rows = 1;
  std::vector<int> contexts = {100};
};

constexpr float kWeightScale = 0.02f / 16.0f;
constexpr float kInputScale = 0.03f;

using Halves = DeviceArray<uint16_t>;
using ByteArray = DeviceArray<unsigned char>;

std::vector<SequenceSpec> Sequences(const RegionShape& shape) {
  std::vector<SequenceSpec> sequences;
  for (int context : shape.contexts) sequences.push_back({context, 1});
  return sequences;
}

// A region over random weights; every layer has activations of its own.
class RegionCase {
 public:
  explicit RegionCase(const RegionShape& shape)
      : shape_(shape),
        attention_(shape.attention, Sequences(shape)),
        device_(attention_),
        q_width_(attention_.q_width()),
        qkv_width_(attention_.qkv_width()) {
    for (int i = 0; i < shape.num_layers; ++i) AddLayer(i);
    layers_ = std::make_unique<DeviceArray<RegionLayer>>(host_layers_);
    workspace_ = std::make_unique<ByteArray>(
        static_cast<size_t>(DecodeRegionWorkspaceBytes(Params(), LaunchContext().num_sms)));
    EXPECT_EQ(cudaMemset(workspace_->data(), 0, workspace_->bytes()), cudaSuccess);
  }

  DecodeRegionParams Params() {
    const RopeKvWriteParams rope = attention_.Rope(device_);
    const PagedAttentionParams attention = attention_.Attention(device_);
    DecodeRegionParams params;
    params.dtype = shape_.attention.dtype;
    params.weight = WeightElement();
    params.num_layers = shape_.num_layers;
    params.hidden_size = shape_.hidden_size;
    params.intermediate_size = shape_.intermediate_size;
    params.num_heads = shape_.attention.num_heads;
    params.gamma_plus_one = shape_.gamma_plus_one;
    params.activation = shape_.activation;
    params.activated = ActivatedElement();
    params.style = rope.style;
    params.rotary_dim = rope.rotary_dim;
    params.cos = rope.cos;
    params.sin = rope.sin;
    params.attention_scale = attention.scale;
    params.layers = layers_ ? layers_->data() : nullptr;
    params.step = rope.step;
    params.kv = rope.kv;
    params.workspace = workspace_ ? workspace_->data() : nullptr;
    params.num_rows = shape_.num_rows;
    return params;
  }

  void Run(const DecodeRegionConfig& config) {
    LaunchContext context;
    ASSERT_EQ(DecodeRegion(Params(), config, context), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }

  // All that the layers leave, and the cache.
  std::vector<std::vector<uint16_t>> Activations() {
    std::vector<std::vector<uint16_t>> all;
    for (auto& array : activations_) all.push_back(array->Read());
    const std::vector<unsigned char> pool = device_.pool.Read();
    all.emplace_back(pool.begin(), pool.end());
    return all;
  }

  void ExpectStages() {
    for (int i = 0; i < shape_.num_layers; ++i) {
      SCOPED_TRACE("layer " + std::to_string(i));
      const RegionLayer& layer = host_layers_[i];
      ExpectLinear("qkv", layer.qkv, qkv_width_, shape_.hidden_size, false);
      ExpectAttention(layer, i + 1 == shape_.num_layers);
      ExpectLinear("o", layer.o, shape_.hidden_size, q_width_, false);
      ExpectLinear("gate_up", layer.gate_up, shape_.intermediate_size, shape_.hidden_size, true);
      ExpectLinear("down", layer.down, shape_.hidden_size, shape_.intermediate_size, false);
    }
  }

 private:
  Element WeightElement() const {
    return shape_.fp8 ? Element::kFloat8E4M3 : shape_.attention.dtype;
  }

  Element ActivatedElement() const {
    return shape_.quantized ? Element::kFloat8E4M3 : shape_.attention.dtype;
  }

  uint16_t* Activation(int width) {
    activations_.push_back(std::make_unique<Halves>(static_cast<size_t>(width) *
                                                    static_cast<size_t>(shape_.num_rows)));
    return activations_.back()->data();
  }

  void* Weight(Element element, int64_t count, float std) {
    weights_.push_back(std::make_unique<ByteArray>(
        static_cast<size_t>(count * (element == Element::kFloat8E4M3 ? 1 : 2))));
    LaunchContext context;
    EXPECT_EQ(RandomNormal({.dtype = element,
                            .y = weights_.back()->data(),
                            .count = count,
                            .std = std,
                            .seed = weights_.size()},
                           context),
              cudaSuccess);
    return weights_.back()->data();
  }

  const void* Gamma() {
    std::mt19937 random(static_cast<unsigned>(weights_.size()));
    std::normal_distribution<float> normal(shape_.gamma_plus_one ? 0.0f : 1.0f, 0.1f);
    std::vector<uint16_t> gamma;
    for (int i = 0; i < shape_.hidden_size; ++i) {
      gamma.push_back(Encode(shape_.attention.dtype, normal(random)));
    }
    gammas_.push_back(std::make_unique<Halves>(gamma));
    return gammas_.back()->data();
  }

  // Outputs of about unit size from inputs of about unit size.
  RegionLinear Linear(int rows, int in, const void* x, uint16_t* y) {
    const float std = 1.0f / std::sqrt(static_cast<float>(in));
    RegionLinear linear;
    linear.w = Weight(WeightElement(), int64_t{rows} * in, shape_.fp8 ? std / kWeightScale : std);
    linear.x = x;
    linear.y = y;
    if (shape_.fp8) {
      linear.x_scale = kInputScale;
      linear.alpha = kInputScale * kWeightScale;
    }
    return linear;
  }

  void AddLayer(int index) {
    if (index == 0) {
      std::mt19937 random(5);
      std::normal_distribution<float> normal;
      std::vector<uint16_t> x;
      for (int i = 0; i < shape_.hidden_size * shape_.num_rows; ++i) {
        x.push_back(Encode(shape_.attention.dtype, normal(random)));
      }
      input_ = std::make_unique<Halves>(x);
    }
    const void* x = index == 0 ? input_->data() : host_layers_.back().down.y;
    RegionLayer layer;
    layer.cache_layer = 1;
    layer.kv_scale = shape_.attention.k_scale;
    layer.qkv = Linear(qkv_width_, shape_.hidden_size, x, Activation(qkv_width_));
    layer.qkv.gamma = Gamma();
    if (shape_.bias) layer.qkv.bias = Weight(shape_.attention.dtype, qkv_width_, 0.5f);
    layer.o =
        Linear(shape_.hidden_size, q_width_, Activation(q_width_), Activation(shape_.hidden_size));
    layer.o.residual = x;
    if (shape_.bias) layer.o.bias = Weight(shape_.attention.dtype, shape_.hidden_size, 0.5f);
    layer.gate_up = Linear(2 * shape_.intermediate_size, shape_.hidden_size, layer.o.y,
                           Activation(shape_.intermediate_size));
    layer.gate_up.gamma = Gamma();
    layer.gate_up.y_scale = kInputScale;
    layer.down = Linear(shape_.hidden_size, shape_.intermediate_size, layer.gate_up.y,
                        Activation(shape_.hidden_size));
    layer.down.residual = layer.o.y;
    host_layers_.push_back(layer);
  }

  // Rows that count, as floats.
  std::vector<float> ReadRows(Element element, const void* data, int width) const {
    std::vector<float> rows;
    std::vector<unsigned char> bytes(shape_.contexts.size() * static_cast<size_t>(width) *
                                     static_cast<size_t>(Bytes(element)));
    EXPECT_EQ(cudaMemcpy(bytes.data(), data, bytes.size(), cudaMemcpyDeviceToHost), cudaSuccess);
    for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(Bytes(element))) {
      uint16_t bits = 0;
      std::memcpy(&bits, &bytes[at], static_cast<size_t>(Bytes(element)));
      rows.push_back(Decode(element, bits));
    }
    return rows;
  }

  // Off by a unit in the last place, and by `spread` of it for a value of the whole result's size.
  void ExpectNear(const char* stage, Element element, const std::vector<float>& got,
                  const std::vector<float>& want, double spread) const {
    const double unit = element == Element::kFloat8E4M3 ? 0x1p-3
                        : element == Element::kBFloat16 ? 0x1p-7
                                                        : 0x1p-10;
    double squares = 0;
    for (double value : want) squares += value * value;
    const double size = std::sqrt(squares / static_cast<double>(want.size()));
    ASSERT_GT(size, 1e-3) << stage;
    size_t wrong = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const double a = got[i];
      const double b = want[i];
      if (std::fabs(a - b) <= unit * (std::fabs(b) + spread * size)) continue;
      if (++wrong <= 3) ADD_FAILURE() << stage << " at " << i << ": " << a << " for " << b;
    }
    EXPECT_EQ(wrong, 0u) << stage << " of " << want.size();
  }

  void ExpectLinear(const char* stage, const RegionLinear& linear, int out, int in, bool gated) {
    Halves y(static_cast<size_t>(out) * static_cast<size_t>(shape_.num_rows));
    GemvParams params;
    params.dtype = params.x_dtype = params.y_dtype = shape_.attention.dtype;
    if (gated) params.y_dtype = ActivatedElement();
    if (std::string(stage) == "down") params.x_dtype = ActivatedElement();
    params.weight = WeightElement();
    params.out_features = gated ? 2 * out : out;
    params.in_features = in;
    params.w = linear.w;
    params.x = linear.x;
    params.x_stride = in;
    params.gamma = linear.gamma;
    params.gamma_plus_one = shape_.gamma_plus_one;
    params.epsilon = linear.epsilon;
    params.x_scale = linear.x_scale;
    params.alpha = linear.alpha;
    params.bias = linear.bias;
    params.residual = linear.residual;
    params.residual_stride = out;
    params.gated = gated;
    params.activation = shape_.activation;
    params.y = y.data();
    params.y_stride = out;
    params.y_scale = linear.y_scale;
    params.num_rows = shape_.num_rows;
    params.num_tokens = &device_.counts.data()->num_tokens;
    LaunchContext context;
    ASSERT_EQ(Gemv(params, {}, context), cudaSuccess) << stage;
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    // e4m3 inputs on the border of two values may fall to either side.
    ExpectNear(stage, params.y_dtype, ReadRows(params.y_dtype, linear.y, out),
               ReadRows(params.y_dtype, y.data(), out), shape_.fp8 ? 1.0 : 0.25);
  }

  void ExpectAttention(const RegionLayer& layer, bool last_layer) {
    AttentionCase::Device other(attention_);
    RopeKvWriteParams rope = attention_.Rope(other);
    PagedAttentionParams attention = attention_.Attention(other);
    rope.qkv = layer.qkv.y;
    attention.q = layer.qkv.y;
    LaunchContext context;
    ByteArray workspace(static_cast<size_t>(PagedAttentionWorkspaceBytes(attention, context)));
    attention.workspace = workspace.data();
    ASSERT_EQ(PlanPagedAttention(attention, context), cudaSuccess);
    ASSERT_EQ(RopePagedAttention(rope, attention, context), cudaSuccess);
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const Element dtype = shape_.attention.dtype;
    // The other kernel rounds probabilities, and the outputs of few keys are larger than the mean.
    ExpectNear("attention", dtype, ReadRows(dtype, layer.o.x, q_width_),
               ReadRows(dtype, other.out.data(), q_width_), 2.0);
    if (!last_layer) return;
    EXPECT_EQ(device_.pool.Read(), other.pool.Read()) << "the cache holds other bits";
  }

  RegionShape shape_;
  AttentionCase attention_;
  AttentionCase::Device device_;
  int q_width_;
  int qkv_width_;
  std::unique_ptr<Halves> input_;
  std::vector<std::unique_ptr<Halves>> activations_;
  std::vector<std::unique_ptr<Halves>> gammas_;
  std::vector<std::unique_ptr<ByteArray>> weights_;
  std::vector<RegionLayer> host_layers_;
  std::unique_ptr<DeviceArray<RegionLayer>> layers_;
  std::unique_ptr<ByteArray> workspace_;
};

void Check(const RegionShape& shape, const DecodeRegionConfig& config = {}) {
  RegionCase c(shape);
  ASSERT_TRUE(SupportsDecodeRegion(c.Params(), config, LaunchContext().num_sms));
  c.Run(config);
  if (testing::Test::HasFatalFailure()) return;
  c.ExpectStages();
  const auto first = c.Activations();
  for (int again = 0; again < 3; ++again) {
    c.Run(config);
    if (testing::Test::HasFatalFailure()) return;
    EXPECT_EQ(c.Activations(), first) << "the same step gave other bits";
  }
}

AttentionShape Llama8B() { return {.num_heads = 32, .num_kv_heads = 8}; }

TEST(DecodeRegionGpuTest, Llama8BShapes) {
  for (const bool fp8 : {false, true}) {
    SCOPED_TRACE(fp8 ? "e4m3" : "bfloat16");
    for (const int context : {0, 63, 64, 700}) {
      SCOPED_TRACE(context);
      for (const bool quantized : {false, fp8}) {
        Check({.attention = Llama8B(),
               .hidden_size = 4096,
               .intermediate_size = 14336,
               .num_layers = 1,
               .fp8 = fp8,
               .quantized = quantized,
               .contexts = {context}});
        if (!fp8) break;
      }
    }
  }
}

TEST(DecodeRegionGpuTest, SmallAndOddShapes) {
  for (const Element dtype : {Element::kBFloat16, Element::kFloat16}) {
    for (const bool fp8 : {false, true}) {
      SCOPED_TRACE(testing::Message() << static_cast<int>(dtype) << (fp8 ? " e4m3" : ""));
      AttentionShape attention = {.dtype = dtype, .cache = dtype};
      attention.num_heads = 4;
      attention.head_dim = attention.rotary_dim = 16;
      attention.block_size = 16;
      Check({.attention = attention, .hidden_size = 64, .intermediate_size = 176, .fp8 = fp8});
      attention.num_heads = 14;
      attention.head_dim = attention.rotary_dim = 64;
      Check({.attention = attention,
             .hidden_size = 896,
             .intermediate_size = 4864,
             .num_layers = 3,
             .fp8 = fp8,
             .bias = true,
             .contexts = {333}});
      Check({.attention = attention,
             .hidden_size = 272,
             .intermediate_size = 1040,
             .fp8 = fp8,
             .quantized = fp8,
             .gamma_plus_one = true,
             .activation = Activation::kGeluTanh});
    }
  }
}

TEST(DecodeRegionGpuTest, EveryHeadDimGroupAndCache) {
  for (const int head_dim : {16, 32, 64, 128, 256}) {
    for (const int group : {1, 3, 4, 7, 8}) {
      for (const bool fp8_cache : {false, true}) {
        SCOPED_TRACE(testing::Message()
                     << head_dim << " x " << group << (fp8_cache ? " e4m3" : ""));
        AttentionShape attention = {.num_heads = 2 * group, .num_kv_heads = 2};
        attention.head_dim = attention.rotary_dim = head_dim;
        if (fp8_cache) {
          attention.cache = Element::kFloat8E4M3;
          attention.k_scale = attention.v_scale = 0.03f;
        }
        Check({.attention = attention, .contexts = {head_dim == 128 ? 5000 : 150}});
      }
    }
  }
}

TEST(DecodeRegionGpuTest, RotaryStyles) {
  AttentionShape attention = {.num_heads = 4, .num_kv_heads = 1, .head_dim = 64};
  attention.style = RotaryStyle::kGptj;
  attention.rotary_dim = 32;
  Check({.attention = attention});
  attention.style = RotaryStyle::kNeox;
  Check({.attention = attention});
  attention.style = RotaryStyle::kNone;
  attention.rotary_dim = 0;
  Check({.attention = attention});
}

TEST(DecodeRegionGpuTest, SeveralRows) {
  for (const bool fp8 : {false, true}) {
    SCOPED_TRACE(fp8 ? "e4m3" : "bfloat16");
    Check({.attention = Llama8B(),
           .hidden_size = 4096,
           .intermediate_size = 14336,
           .num_layers = 1,
           .fp8 = fp8,
           .num_rows = 2,
           .contexts = {300, 1}});
    Check({.attention = Llama8B(),
           .hidden_size = 4096,
           .intermediate_size = 14336,
           .num_layers = 1,
           .fp8 = fp8,
           .num_rows = 4,
           .contexts = {17, 1500, 200}});
    Check({.num_layers = 4,
           .fp8 = fp8,
           .quantized = fp8,
           .num_rows = 4,
           .contexts = {0, 63, 64, 300}});
  }
}

// A ring of many and of few slots, which goes round often.
TEST(DecodeRegionGpuTest, Configurations) {
  for (const int slot_bytes : {1024, 4096, 8192, 16384, 24576}) {
    for (const int in_flight : {1, 6, 1000}) {
      SCOPED_TRACE(testing::Message() << in_flight << " of " << slot_bytes);
      Check({.attention = {.num_heads = 8, .head_dim = 64, .rotary_dim = 64},
             .hidden_size = 2048,
             .intermediate_size = 5632,
             .num_layers = 5},
            {.slot_bytes = slot_bytes, .chunks_in_flight = in_flight});
    }
  }
}

TEST(DecodeRegionGpuTest, ReplaysFromAGraph) {
  RegionCase c({.num_layers = 7});
  c.Run({});
  const auto want = c.Activations();
  LaunchContext context;
  ASSERT_EQ(cudaStreamCreateWithFlags(&context.stream, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(context.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  const cudaError_t launched = DecodeRegion(c.Params(), {}, context);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(context.stream, &graph), cudaSuccess);
  ASSERT_EQ(launched, cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(cudaGraphLaunch(exec, context.stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(context.stream), cudaSuccess);
  EXPECT_EQ(c.Activations(), want);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(context.stream);
}

TEST(DecodeRegionGpuTest, RefusesWhatItCannotDo) {
  RegionCase c({});
  LaunchContext context;
  const auto refused = [&](auto change) {
    DecodeRegionParams bad = c.Params();
    change(bad);
    return DecodeRegion(bad, {}, context) == cudaErrorInvalidValue;
  };
  EXPECT_TRUE(refused([](DecodeRegionParams& p) { p.num_rows = 3; }));
  EXPECT_TRUE(refused([](DecodeRegionParams& p) { p.num_rows = 8; }));
  EXPECT_TRUE(refused([](DecodeRegionParams& p) { p.step.max_query = 2; }));
  EXPECT_TRUE(refused([](DecodeRegionParams& p) { p.dtype = Element::kFloat32; }));
  EXPECT_TRUE(refused([](DecodeRegionParams& p) { p.weight = Element::kInt8; }));
  EXPECT_TRUE(refused([](DecodeRegionParams& p) { p.kv.dtype = Element::kInt8; }));
  EXPECT_TRUE(refused([](DecodeRegionParams& p) { p.kv.head_dim = 80; }));
  EXPECT_TRUE(refused([](DecodeRegionParams& p) { p.hidden_size = 260; }));
  EXPECT_TRUE(refused([](DecodeRegionParams& p) { p.num_layers = 0; }));
  EXPECT_TRUE(refused([](DecodeRegionParams& p) { p.intermediate_size = 100000; }));
}

}  // namespace
}  // namespace trireme::cuda

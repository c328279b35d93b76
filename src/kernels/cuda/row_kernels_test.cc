// SPDX-License-Identifier: Apache-2.0
// Norms, activations and row ops on the GPU against the CPU's reference kernels.
#include <gtest/gtest.h>

#include "kernels/activation.h"
#include "kernels/cuda/activation.h"
#include "kernels/cuda/binary.h"
#include "kernels/cuda/layer_norm.h"
#include "kernels/cuda/quantize_rows.h"
#include "kernels/cuda/random_normal.h"
#include "kernels/cuda/rms_norm.h"
#include "kernels/cuda/rows_testing.h"
#include "kernels/cuda/select_rows.h"
#include "kernels/elementwise.h"
#include "kernels/layer_norm.h"
#include "kernels/rms_norm.h"

namespace trireme::cuda {
namespace {

using kernels::TestRandom;

template <typename T>
class RowKernelsGpuTest : public testing::Test {};
using HalfTypes = testing::Types<__nv_bfloat16, __half>;
TYPED_TEST_SUITE(RowKernelsGpuTest, HalfTypes);

constexpr float kSumError = 1e-4f;  // of float32 sums over up to 16384 values in another order

std::vector<float> AddRounded(const std::vector<float>& a, const std::vector<float>& b,
                              auto round) {
  std::vector<float> sum(a.size());
  for (size_t i = 0; i < a.size(); ++i) sum[i] = round(a[i] + b[i]);
  return sum;
}

TYPED_TEST(RowKernelsGpuTest, RmsNorm) {
  using T = TypeParam;
  using Traits = HalfTraits<T>;
  TestRandom random(1);
  for (const int size : {8, 64, 128, 248, 256, 896, 4096, 8192, 8200, 16384}) {
    const int max_tokens = 7;
    const int num_tokens = 5;
    const auto x = RoundAll<T>(random.Normals(int64_t{max_tokens} * size, 3.0f));
    const auto residual = RoundAll<T>(random.Normals(int64_t{max_tokens} * size));
    const auto gamma = RoundAll<T>(random.Normals(size));
    const std::vector<float> sum = AddRounded(
        Floats(x), Floats(residual), [](float v) { return Traits::Float(Traits::Round(v)); });
    std::vector<float> want(sum.size());
    const std::vector<float> gamma_floats = Floats(gamma);
    kernels::RmsNormReference({.x = sum.data(),
                               .x_stride = size,
                               .gamma = gamma_floats.data(),
                               .gamma_plus_one = true,
                               .epsilon = 1e-5f,
                               .y = want.data(),
                               .y_stride = size,
                               .num_tokens = max_tokens,
                               .size = size});
    DeviceArray<T> dx(x), dr(residual), dg(gamma), h(x.size()), y(x.size());
    DeviceArray<float> dg32(gamma_floats);
    DeviceArray<__nv_fp8_e4m3> y8(x.size());
    DeviceArray<int32_t> count(std::vector<int32_t>{num_tokens});
    LaunchContext context;
    RmsNormParams params{.dtype = Traits::kElement,
                         .x = dx.data(),
                         .x_stride = size,
                         .residual = dr.data(),
                         .residual_stride = size,
                         .h = h.data(),
                         .h_stride = size,
                         .gamma_dtype = Traits::kElement,
                         .gamma = dg.data(),
                         .gamma_plus_one = true,
                         .y_dtype = Traits::kElement,
                         .y = y.data(),
                         .y_stride = size,
                         .size = size,
                         .max_tokens = max_tokens,
                         .num_tokens = count.data()};
    ASSERT_EQ(RmsNorm(params, context), cudaSuccess);
    const std::string what = "size " + std::to_string(size);
    ExpectRows<T>(h.Read(), sum, num_tokens, size, 0.0f, "h, " + what);
    ExpectRows<T>(y.Read(), want, num_tokens, size, kSumError, "y, " + what);

    params.y_dtype = Element::kFloat8E4M3;
    params.y = y8.data();
    params.y_scale = 0.011f;
    params.gamma_dtype = Element::kFloat32;
    params.gamma = dg32.data();
    params.h = dr.data();  // in place
    ASSERT_EQ(RmsNorm(params, context), cudaSuccess);
    ExpectFloat8Rows(y8.Read(), want, 0.011f, num_tokens, size, "y8, " + what);
    const auto in_place = dr.Read();
    EXPECT_EQ(Traits::Float(in_place[0]), sum[0]);
  }
}

TYPED_TEST(RowKernelsGpuTest, RmsNormOfHeadsInPlace) {
  using T = TypeParam;
  using Traits = HalfTraits<T>;
  TestRandom random(2);
  for (const int head_dim : {32, 64, 128, 256, 512}) {
    const int num_heads = 3;
    const int stride = (num_heads + 2) * head_dim;
    const int num_tokens = 9;
    const auto x = RoundAll<T>(random.Normals(int64_t{num_tokens} * stride));
    const auto gamma = RoundAll<T>(random.Normals(head_dim));
    std::vector<float> want = Floats(x);
    const std::vector<float> gamma_floats = Floats(gamma);
    float* heads = want.data() + head_dim;  // the first head is left alone
    kernels::RmsNormReference({.x = heads,
                               .x_stride = stride,
                               .x_head_stride = head_dim,
                               .gamma = gamma_floats.data(),
                               .epsilon = 1e-6f,
                               .y = heads,
                               .y_stride = stride,
                               .y_head_stride = head_dim,
                               .num_tokens = num_tokens,
                               .num_heads = num_heads,
                               .size = head_dim});
    DeviceArray<T> dx(x), dg(gamma);
    DeviceArray<int32_t> count(std::vector<int32_t>{num_tokens});
    LaunchContext context;
    ASSERT_EQ(RmsNorm({.dtype = Traits::kElement,
                       .x = dx.data() + head_dim,
                       .x_stride = stride,
                       .x_head_stride = head_dim,
                       .gamma_dtype = Traits::kElement,
                       .gamma = dg.data(),
                       .epsilon = 1e-6f,
                       .y_dtype = Traits::kElement,
                       .y = dx.data() + head_dim,
                       .y_stride = stride,
                       .y_head_stride = head_dim,
                       .num_heads = num_heads,
                       .size = head_dim,
                       .max_tokens = num_tokens,
                       .num_tokens = count.data()},
                      context),
              cudaSuccess);
    ExpectRows<T>(dx.Read(), want, num_tokens, stride, kSumError, std::to_string(head_dim));
  }
}

TYPED_TEST(RowKernelsGpuTest, LayerNorm) {
  using T = TypeParam;
  using Traits = HalfTraits<T>;
  TestRandom random(3);
  for (const int size : {8, 96, 768, 4096, 16384}) {
    const int max_tokens = 5;
    const int num_tokens = 3;
    const auto x = RoundAll<T>(random.Normals(int64_t{max_tokens} * size, 2.0f));
    const auto gamma = RoundAll<T>(random.Normals(size));
    const auto beta = RoundAll<T>(random.Normals(size));
    const std::vector<float> xf = Floats(x), gf = Floats(gamma), bf = Floats(beta);
    std::vector<float> want(xf.size());
    kernels::LayerNormReference({.x = xf.data(),
                                 .x_stride = size,
                                 .gamma = gf.data(),
                                 .beta = bf.data(),
                                 .y = want.data(),
                                 .y_stride = size,
                                 .num_tokens = max_tokens,
                                 .size = size});
    DeviceArray<T> dx(x), dg(gamma), db(beta), y(x.size());
    DeviceArray<int32_t> count(std::vector<int32_t>{num_tokens});
    LaunchContext context;
    ASSERT_EQ(LayerNorm({.dtype = Traits::kElement,
                         .x = dx.data(),
                         .x_stride = size,
                         .gamma_dtype = Traits::kElement,
                         .gamma = dg.data(),
                         .beta = db.data(),
                         .y_dtype = Traits::kElement,
                         .y = y.data(),
                         .y_stride = size,
                         .size = size,
                         .max_tokens = max_tokens,
                         .num_tokens = count.data()},
                        context),
              cudaSuccess);
    const auto got = Floats(y.Read());
    for (size_t i = 0; i < got.size(); ++i) {
      if (i >= static_cast<size_t>(num_tokens) * size) {
        ASSERT_TRUE(std::isnan(got[i])) << i;
      } else {  // gamma * x_hat and beta may cancel: an absolute bound
        ASSERT_NEAR(got[i], want[i], 1e-3f + Traits::kRounding * std::abs(want[i])) << i;
      }
    }
  }
}

TYPED_TEST(RowKernelsGpuTest, ActivationsPlainAndGated) {
  using T = TypeParam;
  using Traits = HalfTraits<T>;
  TestRandom random(4);
  const kernels::Activation kinds[] = {kernels::Activation::kSilu, kernels::Activation::kGelu,
                                       kernels::Activation::kGeluTanh, kernels::Activation::kRelu};
  for (int kind = 0; kind < 4; ++kind) {
    for (const int size : {8, 72, 2048, 14336}) {
      for (const bool gated : {false, true}) {
        const int num_tokens = 3;
        const auto x = RoundAll<T>(random.Normals(int64_t{num_tokens} * 2 * size, 3.0f));
        const std::vector<float> xf = Floats(x);
        std::vector<float> want(static_cast<size_t>(num_tokens) * size);
        kernels::ActivateReference({.activation = kinds[kind],
                                    .x = xf.data(),
                                    .x_stride = 2 * size,
                                    .up = gated ? xf.data() + size : nullptr,
                                    .up_stride = 2 * size,
                                    .y = want.data(),
                                    .y_stride = size,
                                    .num_tokens = num_tokens,
                                    .size = size});
        DeviceArray<T> dx(x), y(want.size() + static_cast<size_t>(size));
        DeviceArray<int32_t> count(std::vector<int32_t>{num_tokens});
        DeviceArray<__nv_fp8_e4m3> y8(want.size());
        LaunchContext context;
        ActivationParams params{.dtype = Traits::kElement,
                                .activation = static_cast<Activation>(kind),
                                .x = dx.data(),
                                .x_stride = 2 * size,
                                .up = gated ? dx.data() + size : nullptr,
                                .up_stride = 2 * size,
                                .y_dtype = Traits::kElement,
                                .y = y.data(),
                                .y_stride = size,
                                .size = size,
                                .max_tokens = num_tokens + 1,
                                .num_tokens = count.data()};
        ASSERT_EQ(Activate(params, context), cudaSuccess);
        const auto got = Floats(y.Read());
        for (size_t i = 0; i < want.size(); ++i) {  // tails of gelu cancel: absolute bound
          ASSERT_NEAR(got[i], want[i], 1e-5f + (Traits::kRounding + 1e-5f) * std::abs(want[i]));
        }
        ASSERT_TRUE(std::isnan(got.back()));
        if (kinds[kind] != kernels::Activation::kSilu) continue;
        params.y_dtype = Element::kFloat8E4M3;
        params.y = y8.data();
        params.y_scale = 0.5f;
        params.max_tokens = num_tokens;
        ASSERT_EQ(Activate(params, context), cudaSuccess);
        ExpectFloat8Rows(y8.Read(), want, 0.5f, num_tokens, size, "fp8");
      }
    }
  }
}

TYPED_TEST(RowKernelsGpuTest, AddMulScaleSoftCap) {
  using T = TypeParam;
  using Traits = HalfTraits<T>;
  TestRandom random(5);
  const int size = 1032;
  const int num_rows = 4;
  const auto a = RoundAll<T>(random.Normals(int64_t{num_rows} * size, 20.0f));
  const auto b = RoundAll<T>(random.Normals(int64_t{num_rows} * size));
  const std::vector<float> af = Floats(a), bf = Floats(b);
  for (int op = 0; op < 4; ++op) {
    const bool binary = op < 2;
    std::vector<float> want(af.size());
    for (size_t i = 0; i < want.size(); ++i) {
      const float bias = bf[i % size];  // a stride of 0: row 0 again and again
      want[i] = op == 0   ? af[i] + bias
                : op == 1 ? af[i] * bias
                : op == 2 ? 30.0f * af[i]
                          : 30.0f * std::tanh(af[i] / 30.0f);
    }
    DeviceArray<T> da(a), db(b), y(a.size() + 8);
    DeviceArray<int32_t> count(std::vector<int32_t>{num_rows});
    LaunchContext context;
    ASSERT_EQ(Binary({.dtype = Traits::kElement,
                      .op = static_cast<BinaryOp>(op),
                      .a = da.data(),
                      .a_stride = size,
                      .b = binary ? db.data() : nullptr,
                      .b_stride = 0,
                      .value = 30.0f,
                      .y = y.data(),
                      .y_stride = size,
                      .size = size,
                      .max_rows = num_rows + 3,
                      .num_rows = count.data()},
                     context),
              cudaSuccess);
    ExpectRows<T>(y.Read(), want, num_rows, size, 1e-5f, "op " + std::to_string(op));
  }
  // Logits: float32, in place.
  DeviceArray<float> logits(af);
  DeviceArray<int32_t> count(std::vector<int32_t>{num_rows});
  LaunchContext context;
  ASSERT_EQ(Binary({.dtype = Element::kFloat32,
                    .op = BinaryOp::kSoftCap,
                    .a = logits.data(),
                    .a_stride = size,
                    .value = 30.0f,
                    .y = logits.data(),
                    .y_stride = size,
                    .size = size,
                    .max_rows = num_rows,
                    .num_rows = count.data()},
                   context),
            cudaSuccess);
  std::vector<float> want(af.size());
  kernels::SoftCapReference({.x = af.data(),
                             .x_stride = size,
                             .value = 30.0f,
                             .y = want.data(),
                             .y_stride = size,
                             .num_rows = num_rows,
                             .size = size});
  kernels::ExpectNear(logits.Read(), want, 1e-5f, 1e-6f, "soft cap of logits");
}

TYPED_TEST(RowKernelsGpuTest, SelectRowsAndPositions) {
  using T = TypeParam;
  using Traits = HalfTraits<T>;
  TestRandom random(6);
  const int size = 520;
  const auto x = RoundAll<T>(random.Normals(11 * size));
  const auto base = RoundAll<T>(random.Normals(4 * size));
  const std::vector<float> xf = Floats(x), bf = Floats(base);
  DeviceArray<T> dx(x), db(base), y(static_cast<size_t>(4) * size);
  DeviceArray<int32_t> rows(std::vector<int32_t>{10, 0, 9, 3});
  DeviceArray<int32_t> count(std::vector<int32_t>{3});
  LaunchContext context;
  SelectRowsParams params{.dtype = Traits::kElement,
                          .x = dx.data(),
                          .x_stride = size,
                          .num_x_rows = 11,
                          .rows = rows.data(),
                          .y = y.data(),
                          .y_stride = size,
                          .size = size,
                          .max_rows = 4,
                          .num_rows = count.data()};
  ASSERT_EQ(SelectRows(params, context), cudaSuccess);
  std::vector<float> want(static_cast<size_t>(4) * size);
  const int32_t indices[] = {10, 0, 9};
  kernels::GatherRowsReference({.x = xf.data(),
                                .x_stride = size,
                                .rows = indices,
                                .y = want.data(),
                                .y_stride = size,
                                .num_rows = 3,
                                .size = size});
  ExpectRows<T>(y.Read(), want, 3, size, 0.0f, "gather");

  params.base = db.data();
  params.base_stride = size;
  params.row_offset = 1;  // row 10 + 1 does not exist: zeros are added
  ASSERT_EQ(SelectRows(params, context), cudaSuccess);
  for (int i = 0; i < size; ++i) {
    want[i] = bf[i];
    want[size + i] = bf[size + i] + xf[size + i];
    want[2 * size + i] = bf[2 * size + i] + xf[10 * size + i];
  }
  ExpectRows<T>(y.Read(), want, 3, size, 1e-6f, "positions");
}

TYPED_TEST(RowKernelsGpuTest, QuantizeRowsSaturates) {
  using T = TypeParam;
  TestRandom random(7);
  const int size = 136;
  auto values = random.Normals(3 * size, 100.0f);
  values[5] = 60000.0f;
  const auto x = RoundAll<T>(values);
  DeviceArray<T> dx(x);
  DeviceArray<__nv_fp8_e4m3> y(x.size());
  DeviceArray<int32_t> count(std::vector<int32_t>{2});
  LaunchContext context;
  ASSERT_EQ(QuantizeRows({.dtype = HalfTraits<T>::kElement,
                          .x = dx.data(),
                          .x_stride = size,
                          .y = y.data(),
                          .y_stride = size,
                          .scale = 0.7f,
                          .size = size,
                          .max_rows = 3,
                          .num_rows = count.data()},
                         context),
            cudaSuccess);
  ExpectFloat8Rows(y.Read(), Floats(x), 0.7f, 2, size, "quantize");
}

TEST(RandomNormalGpuTest, SameNumbersInEveryDtypeWithTheRightMoments) {
  const int64_t count = (1 << 20) + 5;
  LaunchContext context;
  DeviceArray<float> a(static_cast<size_t>(count));
  DeviceArray<__nv_bfloat16> b(static_cast<size_t>(count));
  DeviceArray<__nv_fp8_e4m3> c(static_cast<size_t>(count));
  const RandomNormalParams common{.count = count, .std = 0.5f, .seed = 7};
  RandomNormalParams params = common;
  params.dtype = Element::kFloat32;
  params.y = a.data();
  ASSERT_EQ(RandomNormal(params, context), cudaSuccess);
  params.dtype = Element::kBFloat16;
  params.y = b.data();
  ASSERT_EQ(RandomNormal(params, context), cudaSuccess);
  params.dtype = Element::kFloat8E4M3;
  params.y = c.data();
  ASSERT_EQ(RandomNormal(params, context), cudaSuccess);
  const auto floats = a.Read();
  const auto halves = b.Read();
  const auto eighths = Floats(c.Read());
  double sum = 0, squares = 0, fourth = 0;
  for (size_t i = 0; i < floats.size(); ++i) {
    const double x = floats[i] / 0.5;
    ASSERT_TRUE(std::isfinite(x)) << i;
    sum += x, squares += x * x, fourth += x * x * x * x;
    ASSERT_EQ(__bfloat162float(halves[i]), __bfloat162float(__float2bfloat16_rn(floats[i]))) << i;
    ASSERT_EQ(eighths[i], trireme::ToFloat(ToFloat8E4M3(floats[i]))) << i;
  }
  const double n = static_cast<double>(count);  // bounds: about five standard errors
  EXPECT_NEAR(sum / n, 0.0, 5e-3);
  EXPECT_NEAR(squares / n, 1.0, 8e-3);
  EXPECT_NEAR(fourth / n, 3.0, 5e-2);
}

TEST(RowKernelsGpuRefusals, OperandsOutsideTheTables) {
  LaunchContext context;
  EXPECT_EQ(RmsNorm({.size = 12, .max_tokens = 1}, context), cudaErrorInvalidValue);
  EXPECT_EQ(RmsNorm({.size = 16392, .max_tokens = 1}, context), cudaErrorInvalidValue);
  EXPECT_EQ(LayerNorm({.size = 9, .max_tokens = 1}, context), cudaErrorInvalidValue);
  EXPECT_EQ(Activate({.size = 4, .max_tokens = 1}, context), cudaErrorInvalidValue);
  EXPECT_EQ(Binary({.op = BinaryOp::kAdd, .size = 8, .max_rows = 1}, context),
            cudaErrorInvalidValue);
  EXPECT_EQ(QuantizeRows({.scale = 0.0f, .size = 8, .max_rows = 1}, context),
            cudaErrorInvalidValue);
  EXPECT_EQ(RandomNormal({.count = 0}, context), cudaErrorInvalidValue);
  EXPECT_EQ(context.num_launches, 0);
}

}  // namespace
}  // namespace trireme::cuda

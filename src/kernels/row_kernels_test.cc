// SPDX-License-Identifier: Apache-2.0
// Norms, activations, elementwise and embedding: every variant against the reference.
#include <gtest/gtest.h>

#include "kernels/cpu_variants.h"
#include "kernels/kernels_testing.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {
namespace {

const int64_t kSizes[] = {1, 7, 8, 16, 31, 64, 65, 127, 896, 1000, 4099};
const int64_t kRows[] = {1, 2, 5, 33};

// A sum of n products of order one in float32, whatever its order.
float SumTolerance(int64_t n) { return 1e-6f * std::sqrt(static_cast<float>(n)) + 2e-6f; }

struct Case {
  Isa isa;
  int64_t rows;
  int64_t size;
  int64_t stride;
};

template <typename Fn>
void ForCases(Fn fn) {
  ThreadPool pool(3, false);
  for (Isa isa : HostIsas()) {
    for (int64_t size : kSizes) {
      for (int64_t rows : kRows) {
        CpuContext context{&pool, isa};
        const Case c{isa, rows, size, size + (rows % 2 ? 0 : 3)};
        SCOPED_TRACE(IsaName(isa) + " rows " + std::to_string(rows) + " size " +
                     std::to_string(size));
        fn(c, context);
        if (::testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(RmsNormTest, AgreesWithReference) {
  TestRandom random(1);
  ForCases([&](const Case& c, CpuContext& context) {
    for (int kind = 0; kind < 4; ++kind) {
      const std::vector<float> x = random.Normals(c.rows * c.stride);
      const std::vector<float> residual = random.Normals(c.rows * c.stride);
      const std::vector<float> gamma = random.Normals(c.size);
      GuardedFloats y(c.rows * c.stride), want(c.rows * c.stride);
      GuardedFloats h(c.rows * c.stride), want_h(c.rows * c.stride);
      RmsNormParams p{.x = x.data(),
                      .x_stride = c.stride,
                      .gamma = gamma.data(),
                      .gamma_plus_one = kind == 1,
                      .y = y.data(),
                      .y_stride = c.stride,
                      .num_tokens = c.rows,
                      .size = c.size};
      if (kind >= 2) p.residual = residual.data(), p.residual_stride = c.stride;
      if (kind == 3) p.h = h.data(), p.h_stride = c.stride;
      RmsNorm(p, context);
      const std::vector<float> first = y.values();
      RmsNorm(p, context);
      EXPECT_TRUE(SameBits(first, y.values()));
      p.y = want.data();
      if (kind == 3) p.h = want_h.data();
      RmsNormReference(p);
      ExpectNear(y.values(), want.values(), SumTolerance(c.size), 1e-7f, "y");
      EXPECT_TRUE(SameBits(h.values(), want_h.values()));
      EXPECT_TRUE(y.GuardsIntact() && h.GuardsIntact());
    }
  });
}

TEST(RmsNormTest, RowsDoNotDependOnTheirNeighbours) {
  ThreadPool pool(3, false);
  TestRandom random(2);
  const int64_t rows = 37, size = 4096;
  const std::vector<float> x = random.Normals(rows * size), gamma = random.Normals(size);
  for (Isa isa : HostIsas()) {
    CpuContext context{&pool, isa};
    GuardedFloats all(rows * size), single(rows * size);
    RmsNormParams p{.x = x.data(),
                    .x_stride = size,
                    .gamma = gamma.data(),
                    .y = all.data(),
                    .y_stride = size,
                    .num_tokens = rows,
                    .size = size};
    RmsNorm(p, context);
    p.num_tokens = 1;
    p.y = single.data();
    for (int64_t t = 0; t < rows; ++t, p.x += size, p.y += size) RmsNorm(p, context);
    EXPECT_TRUE(SameBits(all.values(), single.values())) << IsaName(isa);
  }
}

TEST(RmsNormTest, NormsHeadsInPlace) {
  TestRandom random(3);
  const int64_t tokens = 5, heads = 3, head_dim = 48, stride = 3 * 200;
  const std::vector<float> source = random.Normals(tokens * stride),
                           gamma = random.Normals(head_dim);
  for (Isa isa : HostIsas()) {
    CpuContext context{nullptr, isa};
    std::vector<float> got = source, want = source;
    RmsNormParams p{.x = got.data(),
                    .x_stride = stride,
                    .x_head_stride = head_dim,
                    .gamma = gamma.data(),
                    .y = got.data(),
                    .y_stride = stride,
                    .y_head_stride = head_dim,
                    .num_tokens = tokens,
                    .num_heads = heads,
                    .size = head_dim};
    RmsNorm(p, context);
    p.x = want.data();
    p.y = want.data();
    RmsNormReference(p);
    ExpectNear(got, want, SumTolerance(head_dim), 0, IsaName(isa));
    // Columns past the heads are untouched.
    for (int64_t t = 0; t < tokens; ++t) {
      EXPECT_EQ(got[static_cast<size_t>(t * stride + heads * head_dim)],
                source[static_cast<size_t>(t * stride + heads * head_dim)]);
    }
  }
}

TEST(LayerNormTest, AgreesWithReference) {
  TestRandom random(4);
  ForCases([&](const Case& c, CpuContext& context) {
    for (int kind = 0; kind < 4; ++kind) {
      const std::vector<float> x = random.Normals(c.rows * c.stride);
      const std::vector<float> residual = random.Normals(c.rows * c.stride);
      const std::vector<float> gamma = random.Normals(c.size), beta = random.Normals(c.size);
      GuardedFloats y(c.rows * c.stride), want(c.rows * c.stride);
      GuardedFloats h(c.rows * c.stride), want_h(c.rows * c.stride);
      LayerNormParams p{.x = x.data(),
                        .x_stride = c.stride,
                        .epsilon = 1e-3f,
                        .y = y.data(),
                        .y_stride = c.stride,
                        .num_tokens = c.rows,
                        .size = c.size};
      if (kind >= 1) p.gamma = gamma.data(), p.beta = beta.data();
      if (kind >= 2) p.residual = residual.data(), p.residual_stride = c.stride;
      if (kind == 3) p.h = h.data(), p.h_stride = c.stride;
      LayerNorm(p, context);
      const std::vector<float> first = y.values();
      LayerNorm(p, context);
      EXPECT_TRUE(SameBits(first, y.values()));
      p.y = want.data();
      if (kind == 3) p.h = want_h.data();
      LayerNormReference(p);
      ExpectNear(y.values(), want.values(), 4 * SumTolerance(c.size), 2 * SumTolerance(c.size),
                 "y");
      EXPECT_TRUE(SameBits(h.values(), want_h.values()));
      EXPECT_TRUE(y.GuardsIntact() && h.GuardsIntact());
    }
  });
}

TEST(ActivationTest, AgreesWithReference) {
  TestRandom random(5);
  ForCases([&](const Case& c, CpuContext& context) {
    for (Activation activation :
         {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh, Activation::kRelu}) {
      for (bool gated : {false, true}) {
        // Two halves of one row, as a merged gate-up projection leaves them.
        const std::vector<float> x = random.Normals(c.rows * 2 * c.stride, 4.0f);
        GuardedFloats y(c.rows * c.stride), want(c.rows * c.stride);
        ActivationParams p{.activation = activation,
                           .x = x.data(),
                           .x_stride = 2 * c.stride,
                           .up = gated ? x.data() + c.size : nullptr,
                           .up_stride = 2 * c.stride,
                           .y = y.data(),
                           .y_stride = c.stride,
                           .num_tokens = c.rows,
                           .size = c.size};
        Activate(p, context);
        p.y = want.data();
        ActivateReference(p);
        ExpectNear(y.values(), want.values(), 2e-6f, 2e-6f, "y");
        EXPECT_TRUE(y.GuardsIntact());
      }
    }
  });
}

TEST(ActivationTest, KeepsExtremes) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> x = {0.0f,  -0.0f, 100.0f, -100.0f, 1e30f,
                                -1e4f, inf,   1e-30f, 9.0f,    -9.0f};
  for (Isa isa : HostIsas()) {
    CpuContext context{nullptr, isa};
    for (Activation activation : {Activation::kSilu, Activation::kGelu, Activation::kGeluTanh}) {
      SCOPED_TRACE(IsaName(isa) + " activation " + std::to_string(static_cast<int>(activation)));
      std::vector<float> y(x.size());
      Activate({.activation = activation,
                .x = x.data(),
                .y = y.data(),
                .num_tokens = 1,
                .size = static_cast<int64_t>(x.size())},
               context);
      EXPECT_EQ(y[0], 0.0f);
      EXPECT_EQ(y[2], 100.0f);
      EXPECT_NEAR(y[3], 0.0f, 1e-30f);
      EXPECT_EQ(y[4], 1e30f);
      EXPECT_EQ(std::abs(y[5]), 0.0f);
      EXPECT_EQ(y[6], inf);
      EXPECT_NEAR(y[7], 0.5e-30f, 1e-36f);
      EXPECT_NEAR(y[8], 9.0f, 2e-3f);
    }
  }
}

TEST(ElementwiseTest, AgreesWithReference) {
  TestRandom random(6);
  ForCases([&](const Case& c, CpuContext& context) {
    const std::vector<float> a = random.Normals(c.rows * c.stride, 30.0f);
    const std::vector<float> b = random.Normals(c.rows * c.stride);
    const auto binary = [&](auto fn, auto reference, int64_t b_stride) {
      GuardedFloats y(c.rows * c.stride), want(c.rows * c.stride);
      BinaryParams p{.a = a.data(),
                     .a_stride = c.stride,
                     .b = b.data(),
                     .b_stride = b_stride,
                     .y = y.data(),
                     .y_stride = c.stride,
                     .num_rows = c.rows,
                     .size = c.size};
      fn(p, context);
      p.y = want.data();
      reference(p);
      EXPECT_TRUE(SameBits(y.values(), want.values()) && y.GuardsIntact());
    };
    binary(Add, AddReference, c.stride);
    binary(Add, AddReference, 0);
    binary(Mul, MulReference, c.stride);
    const auto unary = [&](auto fn, auto reference, float value, float tolerance) {
      GuardedFloats y(c.rows * c.stride), want(c.rows * c.stride);
      UnaryParams p{.x = a.data(),
                    .x_stride = c.stride,
                    .value = value,
                    .y = y.data(),
                    .y_stride = c.stride,
                    .num_rows = c.rows,
                    .size = c.size};
      fn(p, context);
      p.y = want.data();
      reference(p);
      ExpectNear(y.values(), want.values(), tolerance, tolerance, "unary");
      EXPECT_TRUE(y.GuardsIntact());
    };
    unary(Scale, ScaleReference, 0.3f, 0.0f);
    unary(SoftCap, SoftCapReference, 30.0f, 30.0f * 3e-7f);
    unary(CopyRows, CopyRowsReference, 0.0f, 0.0f);
  });
}

TEST(ElementwiseTest, GathersRows) {
  TestRandom random(7);
  const std::vector<float> x = random.Normals(10 * 70);
  const std::vector<int32_t> rows = {9, 0, 3, 3};
  CpuContext context;
  GuardedFloats y(4 * 65);
  GatherRows({.x = x.data(),
              .x_stride = 70,
              .rows = rows.data(),
              .y = y.data(),
              .y_stride = 65,
              .num_rows = 4,
              .size = 65},
             context);
  for (size_t r = 0; r < 4; ++r) {
    for (size_t i = 0; i < 65; ++i) {
      EXPECT_EQ(y.data()[r * 65 + i], x[static_cast<size_t>(rows[r]) * 70 + i]);
    }
  }
  EXPECT_TRUE(y.GuardsIntact());
}

TEST(EmbeddingTest, AgreesWithReference) {
  TestRandom random(8);
  const int vocab_size = 50;
  ForCases([&](const Case& c, CpuContext& context) {
    for (DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
      // Exactly the table's bytes, so that a read past its end is a read past the allocation.
      std::vector<std::byte> table(static_cast<size_t>(DTypeBytes(dtype, vocab_size * c.size)));
      for (int64_t i = 0; i < vocab_size * c.size; ++i) {
        const float value = random.Normal();
        if (dtype == DType::kFloat32) reinterpret_cast<float*>(table.data())[i] = value;
        if (dtype == DType::kFloat16)
          reinterpret_cast<float16_t*>(table.data())[i] = ToFloat16(value);
        if (dtype == DType::kBFloat16) {
          reinterpret_cast<bfloat16_t*>(table.data())[i] = ToBFloat16(value);
        }
      }
      std::vector<int32_t> ids(static_cast<size_t>(c.rows));
      for (int32_t& id : ids) id = random.Below(vocab_size);
      ids.back() = vocab_size - 1;
      GuardedFloats y(c.rows * c.stride), want(c.rows * c.stride);
      EmbeddingParams p{.token_ids = ids.data(),
                        .table_dtype = dtype,
                        .table = table.data(),
                        .scale = 1.7f,
                        .y = y.data(),
                        .y_stride = c.stride,
                        .num_tokens = c.rows,
                        .hidden_size = c.size};
      Embedding(p, context);
      p.y = want.data();
      EmbeddingReference(p);
      EXPECT_TRUE(SameBits(y.values(), want.values()) && y.GuardsIntact());
    }
  });
}

}  // namespace
}  // namespace trireme::kernels

// SPDX-License-Identifier: Apache-2.0
// Inside the linear layers: packed layouts, and the table of micro-kernels that read them. Immutable
// after static initialisation; not part of the contract (linear.h is).
//
// W is packed as blocks of `block_n` outputs, each contiguous over the whole of `in`, so that one
// thread streams one block. A gated layer's block holds block_n / 2 outputs: first their gate
// rows, then their up rows, so that both meet in one accumulator tile.
//
//   float32, float16 : [k][block_n]
//   bfloat16         : [k / 2][block_n][2]                        odd `in` padded with zero
//   int8             : per weight group: float scale[block_n], then [k / 4][block_n][4] of u8 = w + 128
//   int4             : per weight group: float scale[block_n], then [k / 8][block_n / 16][16][4] bytes,
//                      low nibbles k .. k + 3, high nibbles k + 4 .. k + 7 of w + 8
//
// The integer layouts pad `in` to a multiple of kActivationGroup. A weight is stored unsigned because
// vpdpbusd wants one unsigned operand: sum (w + z) x = sum w x + z sum x, and z sum x is one number
// per row and group, found while x is quantized and subtracted inside the integer accumulator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/cpu_features.h"
#include "kernels/linear.h"
#include "kernels/variant_log.h"

namespace trireme::kernels {

// Inputs that share one scale when x is quantized.
inline constexpr int64_t kActivationGroup = 32;

enum class WeightLayout { kFloat32, kFloat16, kBFloat16Pairs, kInt8Quads, kInt4Quads };

// How x is read: as given, or converted into the workspace first.
enum class ActivationFormat {
  kFloat32,   // in place
  kBFloat16,  // pairs, `in` padded to even with zero
  kInt8,      // per group of kActivationGroup: round(x / s), s = max|x| / 127
  kInt16,     // ... q = round(x / s), s = max|x| / 16256, as q = 128 hi + lo: 32 hi, then 32 lo
};

// x as a micro-kernel reads it; all strides from one row to the next.
struct LinearActivation {
  const std::byte* values = nullptr;
  int64_t row_bytes = 0;
  const float* scales = nullptr;     // [row][group]
  const int32_t* offsets = nullptr;  // [row][group]: -z sum(q), see above
  int64_t groups = 0;                // groups of a row: the stride of both
};

// One micro-kernel call: accumulators[row][n] += the products of `in` range [k_begin, k_end), rows
// of one block. Ranges start at multiples of LinearRangeUnit.
struct LinearTile {
  const std::byte* block = nullptr;  // of W
  LinearActivation x;                // at the first row
  int64_t in_features = 0;
  int64_t k_begin = 0;
  int64_t k_end = 0;
  int64_t weight_group = 0;       // integer layouts: inputs per weight scale, a multiple of 32
  bool one_group = false;         // integer layouts: the scales are left to the epilogue
  float* accumulators = nullptr;  // [rows][block_n]
};

// y rows from accumulators, for outputs [n_begin, n_begin + n_count) of y.
struct LinearEpilogue {
  const float* accumulators = nullptr;
  int block_n = 0;
  const float* scales = nullptr;  // [block_n] or null
  GatedActivation gated = GatedActivation::kNone;
  const float* bias = nullptr;      // at n_begin; of the gate branch
  const float* bias_up = nullptr;   // at n_begin
  const float* residual = nullptr;  // at row 0, n_begin
  int64_t residual_stride = 0;
  float* y = nullptr;  // at row 0, n_begin
  int64_t y_stride = 0;
  int64_t n_count = 0;
  int64_t rows = 0;
};

struct LinearQuantizeRow {
  const float* x = nullptr;
  int64_t in_features = 0;
  std::byte* values = nullptr;
  float* scales = nullptr;
  int32_t* offsets = nullptr;
  int32_t zero_point = 0;  // z above
};

// Portable converters, whose bits the vector ones match.
void QuantizeRowInt8(const LinearQuantizeRow& row);
void QuantizeRowInt16(const LinearQuantizeRow& row);

// A group whose largest magnitude is below this is quantized to zero: its inverse would overflow.
inline constexpr float kSmallestQuantized = 1e-30f;

// Names of the numerics classes.
inline constexpr char kInt8Numerics[] = "int8_activations_g32";
inline constexpr char kInt16Numerics[] = "int16_activations_g32";
inline constexpr char kFmaNumerics[] = "float32_fma";
inline constexpr char kBFloat16Numerics[] = "bfloat16_dot";

struct LinearVariant {
  static constexpr int kMaxRows = 12;
  using MicroKernel = void (*)(const LinearTile&);

  const char* name = nullptr;
  const char* numerics = nullptr;
  WeightLayout layout = WeightLayout::kFloat32;
  ActivationFormat activation = ActivationFormat::kFloat32;
  int block_n = 0;
  int max_rows = 0;                                     // rows of the largest tile
  const MicroKernel* micro = nullptr;                   // micro[rows - 1], rows in [1, max_rows]
  void (*convert)(const LinearQuantizeRow&) = nullptr;  // null where x is read in place
  void (*epilogue)(const LinearEpilogue&) = nullptr;
  KernelVariant* log = nullptr;
};

std::span<const LinearVariant> GenericLinearVariants();
std::span<const LinearVariant> Avx2LinearVariants();
std::span<const LinearVariant> Avx512LinearVariants();

// What a problem and a block width make of the layout.
struct LinearPacking {
  WeightLayout layout = WeightLayout::kFloat32;
  int block_n = 0;
  int64_t num_blocks = 0;
  int64_t outputs_per_block = 0;  // y columns: block_n, or half of it when gated
  int64_t padded_in = 0;
  int64_t weight_group = 0;  // 0 for float weights
  int64_t num_groups = 0;    // weight groups of a row; 0 for float weights
  int64_t block_bytes = 0;
};

LinearPacking PackingOf(const LinearProblem& problem, WeightLayout layout, int block_n);

// Status of a problem no layer could have (sizes, groups, odd gated rows) or none here supports.
Status CheckLinearProblem(const LinearProblem& problem);

// The packing that `layout` names. INVALID_ARGUMENT when the problem has no such layout.
StatusOr<LinearPacking> FindPacking(const LinearProblem& problem, const std::string& layout);

// One packed block of W as float32 [in][block_n], scales applied, padding rows zero.
void UnpackLinearBlock(const LinearProblem& problem, const LinearPacking& packing,
                       const std::byte* block, std::span<float> out);

// The layout that stores this problem's weights.
WeightLayout WeightLayoutOf(const LinearProblem& problem);

// "bf16_n64k2", "int4_n32k8_gated", ...
std::string LinearLayoutName(WeightLayout layout, int block_n, bool gated);

// Row of W, as stored, that lane `lane` of block `block` holds; -1 for padding.
int64_t PackedRow(const LinearProblem& problem, const LinearPacking& packing, int64_t block,
                  int64_t lane);

}  // namespace trireme::kernels

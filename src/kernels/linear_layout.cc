// SPDX-License-Identifier: Apache-2.0
// Layouts of packed weights, and the packing itself. Thread-safe.
#include <fmt/format.h>

#include <cstring>

#include "base/check.h"
#include "kernels/linear_variant.h"
#include "tensor/float_formats.h"

namespace trireme::kernels {
namespace {

constexpr int kBlockWidths[] = {32, 64};

int64_t RoundUp(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

// Value bits and `in` padding of each layout.
int LayoutBits(WeightLayout layout) {
  switch (layout) {
    case WeightLayout::kFloat32: return 32;
    case WeightLayout::kFloat16:
    case WeightLayout::kBFloat16Pairs: return 16;
    case WeightLayout::kInt8Quads: return 8;
    case WeightLayout::kInt4Quads: return 4;
  }
  return 0;
}

int64_t InUnit(WeightLayout layout) {
  if (layout == WeightLayout::kBFloat16Pairs) return 2;
  return LayoutBits(layout) <= 8 ? kActivationGroup : 1;
}

Status CheckShapes(const LinearProblem& problem, const TensorView& weight,
                   const TensorView* scales) {
  const Shape want({problem.out_features, problem.in_features});
  if (!(weight.shape == want)) {
    return InvalidArgument("linear weight has shape {}, expected {}", weight.shape.ToString(),
                           want.ToString());
  }
  const bool quantized = problem.quant.kind != WeightQuant::Kind::kNone;
  if (!quantized) {
    if (IsFloat(weight.dtype)) return OkStatus();
    return InvalidArgument("linear weight has dtype {}, expected a float dtype",
                           DTypeName(weight.dtype));
  }
  const DType values = problem.quant.kind == WeightQuant::Kind::kInt8 ? DType::kInt8 : DType::kInt4;
  if (weight.dtype != values) {
    return InvalidArgument("quantized linear weight has dtype {}, expected {}",
                           DTypeName(weight.dtype), DTypeName(values));
  }
  if (weight.dtype == DType::kInt4 && problem.in_features % 2 != 0) {
    return InvalidArgument("int4 linear weight has {} inputs; rows must end at a whole byte",
                           problem.in_features);
  }
  if (scales == nullptr || !IsFloat(scales->dtype)) {
    return InvalidArgument("quantized linear weight needs scales of a float dtype");
  }
  const int group = problem.quant.group_size;
  const int64_t num_groups = group == 0 ? 1 : (problem.in_features + group - 1) / group;
  if (scales->shape.num_elements() != problem.out_features * num_groups) {
    return InvalidArgument("linear scales have shape {}, expected [{}, {}]",
                           scales->shape.ToString(), problem.out_features, num_groups);
  }
  return OkStatus();
}

// The rows of one block as the layout's own element type: floats converted, integers unsigned.
class BlockRows {
 public:
  BlockRows(const LinearProblem& problem, const LinearPacking& packing, const TensorView& weight)
      : problem_(problem), packing_(packing), weight_(weight) {
    const int bytes = LayoutBits(packing.layout) >= 16 ? LayoutBits(packing.layout) / 8 : 1;
    row_bytes_ = packing.padded_in * bytes;
    rows_.resize(static_cast<size_t>(row_bytes_ * packing.block_n));
  }

  void Load(int64_t block) {
    for (int64_t lane = 0; lane < packing_.block_n; ++lane) {
      std::byte* row = rows_.data() + lane * row_bytes_;
      const int64_t source = PackedRow(problem_, packing_, block, lane);
      if (packing_.num_groups == 0) {
        LoadFloats(source, row);
      } else {
        LoadIntegers(source, reinterpret_cast<uint8_t*>(row));
      }
    }
  }

  const std::byte* row(int64_t lane) const { return rows_.data() + lane * row_bytes_; }

 private:
  void LoadFloats(int64_t source, std::byte* row) const {
    std::memset(row, 0, static_cast<size_t>(row_bytes_));
    if (source < 0) return;
    const DType target = packing_.layout == WeightLayout::kFloat32   ? DType::kFloat32
                         : packing_.layout == WeightLayout::kFloat16 ? DType::kFloat16
                                                                     : DType::kBFloat16;
    const int64_t in = problem_.in_features;
    ConvertFloats(weight_.dtype, weight_.data + DTypeBytes(weight_.dtype, source * in), target, row,
                  in);
  }

  void LoadIntegers(int64_t source, uint8_t* row) const {
    const bool int4 = packing_.layout == WeightLayout::kInt4Quads;
    std::memset(row, int4 ? 8 : 128, static_cast<size_t>(row_bytes_));  // the stored form of zero
    if (source < 0) return;
    const int64_t in = problem_.in_features;
    if (!int4) {
      const uint8_t* values = weight_.as<uint8_t>() + source * in;
      for (int64_t k = 0; k < in; ++k) row[k] = values[k] ^ 0x80u;
      return;
    }
    const uint8_t* values = weight_.as<uint8_t>() + source * (in / 2);
    for (int64_t k = 0; k < in; k += 2) {
      row[k] = (values[k / 2] & 0xfu) ^ 8u;
      row[k + 1] = (values[k / 2] >> 4) ^ 8u;
    }
  }

  const LinearProblem& problem_;
  const LinearPacking& packing_;
  const TensorView& weight_;
  int64_t row_bytes_ = 0;
  std::vector<std::byte> rows_;
};

// Interleaves `unit` bytes at a time: [k][lane] units.
void InterleaveUnits(const BlockRows& rows, const LinearPacking& packing, int64_t begin_byte,
                     int64_t end_byte, int unit, std::byte* out) {
  for (int64_t at = begin_byte; at < end_byte; at += unit) {
    for (int64_t lane = 0; lane < packing.block_n; ++lane, out += unit) {
      std::memcpy(out, rows.row(lane) + at, static_cast<size_t>(unit));
    }
  }
}

void InterleaveNibbles(const BlockRows& rows, const LinearPacking& packing, int64_t k_begin,
                       int64_t k_end, std::byte* out) {
  for (int64_t k = k_begin; k < k_end; k += 8) {
    for (int64_t lane = 0; lane < packing.block_n; ++lane, out += 4) {
      const std::byte* row = rows.row(lane) + k;
      for (int i = 0; i < 4; ++i) out[i] = row[i] | (row[i + 4] << 4);
    }
  }
}

void PackQuantizedBlock(const LinearProblem& problem, const LinearPacking& packing,
                        const BlockRows& rows, const TensorView& scales, int64_t block,
                        std::byte* out) {
  for (int64_t group = 0; group < packing.num_groups; ++group) {
    for (int64_t lane = 0; lane < packing.block_n; ++lane, out += sizeof(float)) {
      const int64_t row = PackedRow(problem, packing, block, lane);
      const float scale = row < 0 ? 0.0f : LoadAsFloat(scales, row * packing.num_groups + group);
      std::memcpy(out, &scale, sizeof(float));
    }
    const int64_t begin = group * packing.weight_group;
    const int64_t end = std::min(begin + packing.weight_group, packing.padded_in);
    if (packing.layout == WeightLayout::kInt8Quads) {
      InterleaveUnits(rows, packing, begin, end, 4, out);
    } else {
      InterleaveNibbles(rows, packing, begin, end, out);
    }
    out += (end - begin) * packing.block_n * LayoutBits(packing.layout) / 8;
  }
}

// The integer that lane `lane` of a weight group holds at its input `k`; `at`: the group's values.
int LoadInteger(const LinearPacking& packing, const std::byte* at, int64_t k, int64_t lane) {
  if (packing.layout == WeightLayout::kInt8Quads) {
    return static_cast<int>(at[(k / 4 * packing.block_n + lane) * 4 + k % 4]) - 128;
  }
  const auto byte = static_cast<int>(at[(k / 8 * packing.block_n + lane) * 4 + k % 4]);
  return (k % 8 < 4 ? byte & 0xf : byte >> 4) - 8;
}

void UnpackIntegers(const LinearProblem& problem, const LinearPacking& packing,
                    const std::byte* block, float* out) {
  const int64_t n = packing.block_n;
  const int bits = LayoutBits(packing.layout);
  for (int64_t begin = 0; begin < packing.padded_in; begin += packing.weight_group) {
    const int64_t end = std::min(begin + packing.weight_group, packing.padded_in);
    const auto* scales = reinterpret_cast<const float*>(block);
    const std::byte* values = block + n * static_cast<int64_t>(sizeof(float));
    for (int64_t k = begin; k < std::min(end, problem.in_features); ++k) {
      for (int64_t lane = 0; lane < n; ++lane) {
        const int value = LoadInteger(packing, values, k - begin, lane);
        out[k * n + lane] = static_cast<float>(value) * scales[lane];
      }
    }
    block = values + (end - begin) * n * bits / 8;
  }
}

}  // namespace

StatusOr<LinearPacking> FindPacking(const LinearProblem& problem, const std::string& layout) {
  TRIREME_RETURN_IF_ERROR(CheckLinearProblem(problem));
  const WeightLayout weights = WeightLayoutOf(problem);
  const bool gated = problem.gated != GatedActivation::kNone;
  std::string known;
  for (int block_n : kBlockWidths) {
    const std::string name = LinearLayoutName(weights, block_n, gated);
    if (name == layout) return PackingOf(problem, weights, block_n);
    known += (known.empty() ? "" : ", ") + name;
  }
  return InvalidArgument("'{}' is not a layout of this linear layer, which has {}", layout, known);
}

Status CheckLinearProblem(const LinearProblem& problem) {
  constexpr int64_t kMaxFeatures = int64_t{1} << 24;
  if (problem.out_features < 1 || problem.in_features < 1 || problem.out_features > kMaxFeatures ||
      problem.in_features > kMaxFeatures) {
    return InvalidArgument("a linear layer of {} outputs and {} inputs is out of range",
                           problem.out_features, problem.in_features);
  }
  if (problem.gated != GatedActivation::kNone && problem.out_features % 2 != 0) {
    return InvalidArgument("a gated linear layer has {} outputs; both branches need as many",
                           problem.out_features);
  }
  if (problem.quant.kind == WeightQuant::Kind::kFloat8) {
    return Unimplemented("FP8 weights have no CPU kernel; use int8, int4 or a float dtype");
  }
  if (problem.quant.kind == WeightQuant::Kind::kNone) {
    if (problem.dtype == DType::kFloat32 || problem.dtype == DType::kFloat16 ||
        problem.dtype == DType::kBFloat16) {
      return OkStatus();
    }
    return Unimplemented("linear weights of dtype {} have no CPU kernel", DTypeName(problem.dtype));
  }
  const int group = problem.quant.group_size;
  if (group < 0 || group % kActivationGroup != 0) {
    return InvalidArgument(
        "quantization groups of {} are not supported: use 0 (one per row) or a "
        "multiple of {}",
        group, kActivationGroup);
  }
  return OkStatus();
}

WeightLayout WeightLayoutOf(const LinearProblem& problem) {
  if (problem.quant.kind == WeightQuant::Kind::kInt8) return WeightLayout::kInt8Quads;
  if (problem.quant.kind == WeightQuant::Kind::kInt4) return WeightLayout::kInt4Quads;
  if (problem.dtype == DType::kFloat32) return WeightLayout::kFloat32;
  if (problem.dtype == DType::kFloat16) return WeightLayout::kFloat16;
  return WeightLayout::kBFloat16Pairs;
}

std::string LinearLayoutName(WeightLayout layout, int block_n, bool gated) {
  const char* format = "";
  switch (layout) {
    case WeightLayout::kFloat32: format = "f32_n{}"; break;
    case WeightLayout::kFloat16: format = "f16_n{}"; break;
    case WeightLayout::kBFloat16Pairs: format = "bf16_n{}k2"; break;
    case WeightLayout::kInt8Quads: format = "int8_n{}k4"; break;
    case WeightLayout::kInt4Quads: format = "int4_n{}k8"; break;
  }
  return fmt::format(fmt::runtime(format), block_n) + (gated ? "_gated" : "");
}

LinearPacking PackingOf(const LinearProblem& problem, WeightLayout layout, int block_n) {
  LinearPacking packing;
  packing.layout = layout;
  packing.block_n = block_n;
  const bool gated = problem.gated != GatedActivation::kNone;
  packing.outputs_per_block = gated ? block_n / 2 : block_n;
  const int64_t outputs = gated ? problem.out_features / 2 : problem.out_features;
  packing.num_blocks = (outputs + packing.outputs_per_block - 1) / packing.outputs_per_block;
  packing.padded_in = RoundUp(problem.in_features, InUnit(layout));
  const int bits = LayoutBits(layout);
  if (bits <= 8) {
    const int64_t group = problem.quant.group_size;
    packing.weight_group = group == 0 || group > packing.padded_in ? packing.padded_in : group;
    packing.num_groups = (packing.padded_in + packing.weight_group - 1) / packing.weight_group;
  }
  packing.block_bytes = block_n * (packing.num_groups * int64_t{sizeof(float)}) +
                        block_n * packing.padded_in * bits / 8;
  return packing;
}

int64_t PackedRow(const LinearProblem& problem, const LinearPacking& packing, int64_t block,
                  int64_t lane) {
  const int64_t first = block * packing.outputs_per_block;
  if (problem.gated == GatedActivation::kNone) {
    return first + lane < problem.out_features ? first + lane : -1;
  }
  const int64_t half = problem.out_features / 2;
  const bool up = lane >= packing.outputs_per_block;
  const int64_t output = first + (up ? lane - packing.outputs_per_block : lane);
  if (output >= half) return -1;
  return up ? half + output : output;
}

StatusOr<int64_t> PackedLinearBytes(const LinearProblem& problem, const std::string& layout) {
  TRIREME_ASSIGN_OR_RETURN(const LinearPacking packing, FindPacking(problem, layout));
  return packing.num_blocks * packing.block_bytes;
}

Status PackLinear(const LinearProblem& problem, const std::string& layout, const TensorView& weight,
                  const TensorView* scales, std::span<std::byte> packed) {
  TRIREME_ASSIGN_OR_RETURN(const LinearPacking packing, FindPacking(problem, layout));
  TRIREME_RETURN_IF_ERROR(CheckShapes(problem, weight, scales));
  const int64_t bytes = packing.num_blocks * packing.block_bytes;
  if (static_cast<int64_t>(packed.size()) < bytes) {
    return InvalidArgument("packing a linear layer as '{}' takes {} bytes, given {}", layout, bytes,
                           packed.size());
  }
  BlockRows rows(problem, packing, weight);
  for (int64_t block = 0; block < packing.num_blocks; ++block) {
    rows.Load(block);
    std::byte* out = packed.data() + block * packing.block_bytes;
    if (packing.num_groups > 0) {
      PackQuantizedBlock(problem, packing, rows, *scales, block, out);
    } else {
      const int unit = packing.layout == WeightLayout::kFloat16 ? 2 : 4;
      const int64_t row_bytes = packing.padded_in * LayoutBits(packing.layout) / 8;
      InterleaveUnits(rows, packing, 0, row_bytes, unit, out);
    }
  }
  return OkStatus();
}

void UnpackLinearBlock(const LinearProblem& problem, const LinearPacking& packing,
                       const std::byte* block, std::span<float> out) {
  const int64_t n = packing.block_n;
  TRIREME_CHECK_EQ(static_cast<int64_t>(out.size()), problem.in_features * n);
  switch (packing.layout) {
    case WeightLayout::kFloat32:
      ConvertFloats(DType::kFloat32, block, DType::kFloat32,
                    reinterpret_cast<std::byte*>(out.data()), problem.in_features * n);
      return;
    case WeightLayout::kFloat16:
      ConvertFloats(DType::kFloat16, block, DType::kFloat32,
                    reinterpret_cast<std::byte*>(out.data()), problem.in_features * n);
      return;
    case WeightLayout::kBFloat16Pairs: {
      const auto* values = reinterpret_cast<const bfloat16_t*>(block);
      for (int64_t k = 0; k < problem.in_features; ++k) {
        for (int64_t lane = 0; lane < n; ++lane) {
          out[k * n + lane] = ToFloat(values[(k / 2 * n + lane) * 2 + k % 2]);
        }
      }
      return;
    }
    case WeightLayout::kInt8Quads:
    case WeightLayout::kInt4Quads: return UnpackIntegers(problem, packing, block, out.data());
  }
}

}  // namespace trireme::kernels

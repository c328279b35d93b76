// SPDX-License-Identifier: Apache-2.0
#include "tensor/dtype.h"

#include <array>

namespace trireme {
namespace {

struct DTypeInfo {
  DType dtype;
  int bits;
  std::string_view name;
  std::string_view safetensors_name;
};

constexpr std::array<DTypeInfo, 12> kInfos = {{
    {DType::kFloat32, 32, "float32", "F32"},
    {DType::kFloat16, 16, "float16", "F16"},
    {DType::kBFloat16, 16, "bfloat16", "BF16"},
    {DType::kFloat8E4M3, 8, "fp8", "F8_E4M3"},
    {DType::kInt8, 8, "int8", "I8"},
    {DType::kInt4, 4, "int4", ""},
    {DType::kUInt8, 8, "uint8", "U8"},
    {DType::kInt16, 16, "int16", "I16"},
    {DType::kInt32, 32, "int32", "I32"},
    {DType::kInt64, 64, "int64", "I64"},
    {DType::kBool, 8, "bool", "BOOL"},
    {DType::kFloat64, 64, "float64", "F64"},
}};

const DTypeInfo& Info(DType dtype) { return kInfos[static_cast<size_t>(dtype)]; }

}  // namespace

int DTypeBits(DType dtype) { return Info(dtype).bits; }

int64_t DTypeBytes(DType dtype, int64_t count) { return (count * Info(dtype).bits + 7) / 8; }

std::string_view DTypeName(DType dtype) { return Info(dtype).name; }

StatusOr<DType> ParseDType(std::string_view name) {
  std::string_view bare = name;
  if (bare.starts_with("torch.")) bare.remove_prefix(6);
  for (const DTypeInfo& info : kInfos) {
    if (bare == info.name) return info.dtype;
  }
  if (bare == "half" || bare == "fp16") return DType::kFloat16;
  if (bare == "bf16") return DType::kBFloat16;
  if (bare == "float" || bare == "fp32") return DType::kFloat32;
  if (bare == "float8_e4m3fn") return DType::kFloat8E4M3;
  return InvalidArgument("unknown dtype '{}'; use float32, float16 or bfloat16", name);
}

std::string_view SafetensorsDTypeName(DType dtype) { return Info(dtype).safetensors_name; }

StatusOr<DType> ParseSafetensorsDType(std::string_view name) {
  for (const DTypeInfo& info : kInfos) {
    if (!info.safetensors_name.empty() && name == info.safetensors_name) return info.dtype;
  }
  return InvalidArgument("unsupported safetensors dtype '{}'", name);
}

}  // namespace trireme

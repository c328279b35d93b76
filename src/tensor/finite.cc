// SPDX-License-Identifier: Apache-2.0
#include "tensor/finite.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/check.h"

namespace trireme {
namespace {

// Whether the bits of `mask` are all set in one of `count` values. Whole blocks without an exit, for
// the vectorizer.
template <typename Bits>
bool AnyWithAll(const std::byte* data, int64_t count, Bits mask) {
  constexpr int64_t kBlock = 4096;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    Bits found = 0;
    for (int64_t i = begin; i < end; ++i) {
      Bits value;
      std::memcpy(&value, data + i * sizeof(Bits), sizeof(Bits));
      found |= static_cast<Bits>((value & mask) == mask);
    }
    if (found != 0) return true;
  }
  return false;
}

}  // namespace

bool HasNonFinite(const TensorView& tensor) {
  const int64_t count = tensor.shape.num_elements();
  switch (tensor.dtype) {
    case DType::kFloat64: return AnyWithAll<uint64_t>(tensor.data, count, 0x7ff0000000000000ull);
    case DType::kFloat32: return AnyWithAll<uint32_t>(tensor.data, count, 0x7f800000u);
    case DType::kBFloat16: return AnyWithAll<uint16_t>(tensor.data, count, 0x7f80);
    case DType::kFloat16: return AnyWithAll<uint16_t>(tensor.data, count, 0x7c00);
    case DType::kFloat8E4M3: return AnyWithAll<uint8_t>(tensor.data, count, 0x7f);
    default: TRIREME_CHECK(IsFloat(tensor.dtype));
  }
  return false;
}

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
#include "tensor/finite.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace trireme {
namespace {

// The largest finite value of a dtype and what is none, anywhere in tensors of several lengths.
TEST(FiniteTest, FindsWhatIsNoNumberAnywhere) {
  const struct {
    DType dtype;
    float largest;
  } cases[] = {{DType::kFloat64, 3e38f},
               {DType::kFloat32, 3.4e38f},
               {DType::kBFloat16, 3.3e38f},
               {DType::kFloat16, 65504.0f},
               {DType::kFloat8E4M3, 448.0f}};
  for (const auto& [dtype, largest] : cases) {
    for (int64_t count : {1, 63, 4096, 4097, 9000}) {
      std::vector<float> values(static_cast<size_t>(count), largest);
      const auto bad = [&] {
        HostTensor tensor(dtype, {count});
        ConvertFloats(DType::kFloat32, reinterpret_cast<const std::byte*>(values.data()), dtype,
                      tensor.bytes().data(), count);
        return HasNonFinite(tensor.view());
      };
      EXPECT_FALSE(bad()) << DTypeName(dtype);
      for (size_t at : {size_t{0}, values.size() / 2, values.size() - 1}) {
        for (float odd : {NAN, -NAN, INFINITY, -INFINITY}) {
          if (dtype == DType::kFloat8E4M3 && !std::isnan(odd)) continue;  // saturates
          values[at] = odd;
          EXPECT_TRUE(bad()) << DTypeName(dtype) << " " << odd << " at " << at << " of " << count;
          values[at] = -largest;
        }
      }
    }
  }
  EXPECT_FALSE(HasNonFinite({DType::kFloat32, {0}, nullptr}));
}

}  // namespace
}  // namespace trireme

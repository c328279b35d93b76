// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/classification.h"

#include <algorithm>
#include <numeric>

#include "base/status.h"
#include "server/backends/tensor_values.h"

namespace trireme::server {
namespace {

constexpr size_t kMaxElements = 1000000;

}  // namespace

StatusOr<Tensor> Classify(const Tensor& output, uint64_t k, bool batched,
                          std::span<const std::string> labels) {
  TRIREME_ASSIGN_OR_RETURN(const int64_t total, ElementCount(output.shape));
  const auto batch =
      static_cast<size_t>(batched && !output.shape.empty() ? output.shape.front() : 1);
  const size_t each = batch > 0 ? static_cast<size_t>(total) / batch : 0;
  if (each > kMaxElements) {
    return InvalidArgument("output '{}' has {} elements, more than the {} that can be classified",
                           output.name, each, kMaxElements);
  }
  const size_t count = std::min<size_t>(k, each);
  std::string bytes;
  const bool numeric = VisitNumeric(output.type, [&](auto zero) {
    using T = decltype(zero);
    const std::vector<T> values = ValuesOf<T>(output);
    if (values.size() < batch * each) return;
    std::vector<size_t> order(each);
    for (size_t item = 0; item < batch; ++item) {
      const T* of = values.data() + item * each;
      std::iota(order.begin(), order.end(), size_t{0});
      // Ties go to the lower index.
      std::partial_sort(
          order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
          [of](size_t a, size_t b) { return of[a] != of[b] ? of[a] > of[b] : a < b; });
      for (size_t i = 0; i < count; ++i) {
        const size_t index = order[i];
        std::string text = std::to_string(of[index]) + ":" + std::to_string(index);
        if (index < labels.size()) text += ":" + labels[index];
        AppendBytesElement(bytes, text);
      }
    }
  });
  if (!numeric) {
    return InvalidArgument(
        "class result not available for output '{}' due to unsupported type "
        "'{}'",
        output.name, DataTypeName(output.type));
  }
  Dims shape = {static_cast<int64_t>(count)};
  if (batched) shape.insert(shape.begin(), static_cast<int64_t>(batch));
  return MakeTensor(output.name, DataType::kBytes, std::move(shape), std::move(bytes));
}

}  // namespace trireme::server

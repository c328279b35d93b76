// SPDX-License-Identifier: Apache-2.0
#include "server/core/tensor.h"

#include <cstring>
#include <limits>

#include "base/status.h"

namespace trireme::server {
namespace {

struct TypeRow {
  std::string_view name;
  int bytes;
};
constexpr TypeRow kTypes[] = {{"<invalid>", 0}, {"BOOL", 1},   {"UINT8", 1}, {"UINT16", 2},
                              {"UINT32", 4},    {"UINT64", 8}, {"INT8", 1},  {"INT16", 2},
                              {"INT32", 4},     {"INT64", 8},  {"FP16", 2},  {"FP32", 4},
                              {"FP64", 8},      {"BYTES", 0},  {"BF16", 2}};

}  // namespace

std::string_view DataTypeName(DataType type) { return kTypes[static_cast<int>(type)].name; }

DataType ParseDataType(std::string_view name) {
  for (size_t i = 1; i < std::size(kTypes); ++i) {
    if (kTypes[i].name == name) return static_cast<DataType>(i);
  }
  return DataType::kInvalid;
}

int64_t ElementBytes(DataType type) { return kTypes[static_cast<int>(type)].bytes; }

Tensor MakeTensor(std::string name, DataType type, Dims shape, std::string bytes) {
  const auto owner = std::make_shared<const std::string>(std::move(bytes));
  return {.name = std::move(name),
          .type = type,
          .shape = std::move(shape),
          .data = *owner,
          .owner = owner};
}

StatusOr<int64_t> ElementCount(std::span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t dim : shape) {
    if (dim < 0) return InvalidArgument("shape {} has a negative dimension", ShapeText(shape));
    if (dim != 0 && count > std::numeric_limits<int64_t>::max() / dim) {
      return InvalidArgument("shape {} causes total element count to exceed maximum size of {}",
                             ShapeText(shape), std::numeric_limits<int64_t>::max());
    }
    count *= dim;
  }
  return count;
}

std::string ShapeText(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

void AppendBytesElement(std::string& to, std::string_view element) {
  const auto length = static_cast<uint32_t>(element.size());
  to.append(reinterpret_cast<const char*>(&length), sizeof(length));
  to.append(element);
}

StatusOr<std::vector<std::string_view>> BytesElements(std::string_view data) {
  std::vector<std::string_view> elements;
  while (!data.empty()) {
    uint32_t length = 0;
    if (data.size() < sizeof(length)) {
      return InvalidArgument(
          "incomplete string length indicator, expecting 4 bytes but only {} "
          "bytes available",
          data.size());
    }
    std::memcpy(&length, data.data(), sizeof(length));
    data.remove_prefix(sizeof(length));
    if (data.size() < length) {
      return InvalidArgument(
          "incomplete string data, expecting string of length {} but only {} "
          "bytes available",
          length, data.size());
    }
    elements.push_back(data.substr(0, length));
    data.remove_prefix(length);
  }
  return elements;
}

Status CheckByteSize(const Tensor& tensor) {
  TRIREME_ASSIGN_OR_RETURN(const int64_t count, ElementCount(tensor.shape));
  if (tensor.type == DataType::kBytes) {
    TRIREME_ASSIGN_OR_RETURN(const auto elements, BytesElements(tensor.data));
    if (std::cmp_equal(elements.size(), count)) return OkStatus();
    return InvalidArgument("expected {} strings for inference input '{}', got {}", count,
                           tensor.name, elements.size());
  }
  const int64_t element_bytes = ElementBytes(tensor.type);
  if (element_bytes > 0 && count > std::numeric_limits<int64_t>::max() / element_bytes) {
    return InvalidArgument("byte size overflow for input '{}'", tensor.name);
  }
  if (std::cmp_equal(tensor.data.size(), count * element_bytes)) return OkStatus();
  return InvalidArgument("input byte size mismatch for input '{}'. Expected {}, got {}",
                         tensor.name, count * element_bytes, tensor.data.size());
}

}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
// Values of a row's tensors. Pure functions; errors name the tensor.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "base/status.h"
#include "server/backends/tensor_values.h"
#include "server/core/tensor.h"

namespace trireme::server {

template <typename T>
Status ReadTensor(const Tensor& tensor, T& to) {
  if (tensor.data.size() < sizeof(T)) return InvalidArgument("'{}' is empty", tensor.name);
  std::memcpy(&to, tensor.data.data(), sizeof(T));
  return OkStatus();
}

inline Status ReadTensor(const Tensor& tensor, bool& to) {
  if (tensor.data.empty()) return InvalidArgument("'{}' is empty", tensor.name);
  to = tensor.data.front() != 0;
  return OkStatus();
}

inline Status ReadTensor(const Tensor& tensor, std::vector<std::string>& to) {
  TRIREME_ASSIGN_OR_RETURN(const auto elements, BytesElements(tensor.data));
  to.assign(elements.begin(), elements.end());
  return OkStatus();
}

template <typename T>
Status ReadTensor(const Tensor& tensor, std::vector<T>& to) {
  to = ValuesOf<T>(tensor);
  return OkStatus();
}

// Of what changes nothing here: it must still be a value.
template <typename T>
Status CheckTensor(const Tensor& tensor) {
  T ignored;
  return ReadTensor(tensor, ignored);
}

// INVALID_ARGUMENT unless `tensor` holds exactly one text.
inline Status ReadText(const Tensor& tensor, std::string& to) {
  std::vector<std::string> texts;
  TRIREME_RETURN_IF_ERROR(ReadTensor(tensor, texts));
  if (texts.size() != 1) return InvalidArgument("'{}' must be one text", tensor.name);
  to = std::move(texts.front());
  return OkStatus();
}

}  // namespace trireme::server

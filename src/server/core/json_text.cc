// SPDX-License-Identifier: Apache-2.0
#include "server/core/json_text.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/json_error.h"
#include "base/status.h"
#include "tensor/float_formats.h"

namespace trireme::server {
namespace {

// Bounds the recursion of the parser and of everything that walks what it made.
constexpr int kMaxDepth = 100;

Status CheckDepth(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxDepth) {
        return InvalidArgument("JSON nesting depth exceeds maximum allowed limit ({})", kMaxDepth);
      }
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return OkStatus();
}

template <typename T>
void AppendRaw(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

Status Mismatch(std::string_view what) {
  return InvalidArgument("attempt to access JSON non-{} as {}", what, what);
}

template <typename T>
Status AppendInteger(std::string& bytes, const Json& value) {
  if (std::is_unsigned_v<T> && !value.is_number_unsigned()) return Mismatch("unsigned-integer");
  if (!value.is_number_integer()) return Mismatch("signed-integer");
  // Triton lets such a number wrap around, so that 4294967299 tokens become three.
  const bool fits = value.is_number_unsigned() ? std::in_range<T>(value.get<uint64_t>())
                                               : std::in_range<T>(value.get<int64_t>());
  if (!fits) {
    return InvalidArgument("{} does not fit in {} bits", value.dump(), 8 * sizeof(T));
  }
  AppendRaw(bytes, value.is_number_unsigned() ? static_cast<T>(value.get<uint64_t>())
                                              : static_cast<T>(value.get<int64_t>()));
  return OkStatus();
}

Status AppendFloat(std::string& bytes, const Json& value, DataType type) {
  if (!value.is_number()) return Mismatch("number");
  const double number = value.get<double>();
  switch (type) {
    case DataType::kFp64: AppendRaw(bytes, number); break;
    case DataType::kFp32: AppendRaw(bytes, static_cast<float>(number)); break;
    case DataType::kFp16: AppendRaw(bytes, ToFloat16(static_cast<float>(number)).bits); break;
    default: AppendRaw(bytes, ToBFloat16(static_cast<float>(number)).bits); break;
  }
  return OkStatus();
}

Status AppendNested(std::string& bytes, const Json& data, DataType type, int64_t& count) {
  if (!data.is_array()) {
    ++count;
    return AppendElement(bytes, data, type);
  }
  for (const Json& value : data) TRIREME_RETURN_IF_ERROR(AppendNested(bytes, value, type, count));
  return OkStatus();
}

template <typename T>
void AppendFloatText(std::string& to, T value) {
  if (std::isnan(value)) {
    to += "NaN";
  } else if (std::isinf(value)) {
    to += value > 0 ? "Infinity" : "-Infinity";
  } else {
    char text[40];
    const char* end = std::to_chars(text, text + sizeof(text), value).ptr;
    const std::string_view digits(text, static_cast<size_t>(end - text));
    to += digits;
    // A float stays one for a reader that looks at the text.
    if (digits.find_first_of(".e") == std::string_view::npos) to += ".0";
  }
}

template <typename T>
void AppendIntegerText(std::string& to, T value) {
  char text[24];
  to.append(text, std::to_chars(text, text + sizeof(text), value).ptr);
}

template <typename T, typename Append>
void AppendAll(std::string& to, std::string_view data, Append append) {
  for (size_t at = 0; at < data.size(); at += sizeof(T)) {
    T value;
    std::memcpy(&value, data.data() + at, sizeof(T));
    if (at > 0) to += ',';
    append(value);
  }
}

template <typename T>
void AppendIntegers(std::string& to, std::string_view data) {
  AppendAll<T>(to, data, [&](T value) { AppendIntegerText(to, value); });
}

// Length of the UTF-8 sequence at the start of `text`; 0 when there is none.
size_t SequenceLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  const size_t length = first < 0x80             ? 1
                        : (first & 0xE0) == 0xC0 ? 2
                        : (first & 0xF0) == 0xE0 ? 3
                        : (first & 0xF8) == 0xF0 ? 4
                                                 : 0;
  if (length == 0 || length > text.size()) return 0;
  uint32_t code = length == 1 ? first : first & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
    code = (code << 6) | (byte(i) & 0x3Fu);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return 0;
  return length;
}

void AppendEscaped(std::string& to, char c) {
  switch (c) {
    case '"': to += "\\\""; break;
    case '\\': to += "\\\\"; break;
    case '\n': to += "\\n"; break;
    case '\r': to += "\\r"; break;
    case '\t': to += "\\t"; break;
    case '\b': to += "\\b"; break;
    case '\f': to += "\\f"; break;
    default: to += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
  }
}

}  // namespace

StatusOr<Json> ParseJsonObject(std::string_view text) {
  TRIREME_RETURN_IF_ERROR(CheckDepth(text));
  Json object = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (object.is_discarded()) {
    return InvalidArgument("failed to parse the request JSON buffer: not valid JSON in UTF-8 at {}",
                           JsonErrorPlace(text));
  }
  if (!object.is_object()) {
    return InvalidArgument("failed to parse the request JSON buffer: it must be a JSON object");
  }
  return object;
}

void AppendJsonString(std::string& to, std::string_view text) {
  to += '"';
  while (!text.empty()) {
    const char c = text.front();
    if (c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20) {
      AppendEscaped(to, c);
      text.remove_prefix(1);
      continue;
    }
    const size_t length = SequenceLength(text);
    to += length == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(0, length);
    text.remove_prefix(length == 0 ? 1 : length);
  }
  to += '"';
}

void AppendJsonNumber(std::string& to, double value) { AppendFloatText(to, value); }
void AppendJsonNumber(std::string& to, float value) { AppendFloatText(to, value); }
void AppendJsonNumber(std::string& to, int64_t value) { AppendIntegerText(to, value); }
void AppendJsonNumber(std::string& to, uint64_t value) { AppendIntegerText(to, value); }

Status AppendJsonElements(std::string& to, const Tensor& tensor) {
  const std::string_view data = tensor.data;
  const int64_t element_bytes = ElementBytes(tensor.type);
  if (element_bytes > 0 && data.size() % static_cast<size_t>(element_bytes) != 0) {
    return Internal("output '{}' of type {} has {} bytes", tensor.name, DataTypeName(tensor.type),
                    data.size());
  }
  switch (tensor.type) {
    case DataType::kBool:
      AppendAll<uint8_t>(to, data, [&](uint8_t v) { to += v != 0 ? "true" : "false"; });
      break;
    case DataType::kUint8: AppendIntegers<uint8_t>(to, data); break;
    case DataType::kUint16: AppendIntegers<uint16_t>(to, data); break;
    case DataType::kUint32: AppendIntegers<uint32_t>(to, data); break;
    case DataType::kUint64: AppendIntegers<uint64_t>(to, data); break;
    case DataType::kInt8: AppendIntegers<int8_t>(to, data); break;
    case DataType::kInt16: AppendIntegers<int16_t>(to, data); break;
    case DataType::kInt32: AppendIntegers<int32_t>(to, data); break;
    case DataType::kInt64: AppendIntegers<int64_t>(to, data); break;
    case DataType::kFp16:
      AppendAll<float16_t>(to, data, [&](float16_t v) { AppendFloatText(to, ToFloat(v)); });
      break;
    case DataType::kBf16:
      AppendAll<bfloat16_t>(to, data, [&](bfloat16_t v) { AppendFloatText(to, ToFloat(v)); });
      break;
    case DataType::kFp32:
      AppendAll<float>(to, data, [&](float v) { AppendFloatText(to, v); });
      break;
    case DataType::kFp64:
      AppendAll<double>(to, data, [&](double v) { AppendFloatText(to, v); });
      break;
    case DataType::kBytes: {
      TRIREME_ASSIGN_OR_RETURN(const auto elements, BytesElements(data));
      for (size_t i = 0; i < elements.size(); ++i) {
        if (i > 0) to += ',';
        AppendJsonString(to, elements[i]);
      }
      break;
    }
    case DataType::kInvalid: return Internal("output '{}' has no data type", tensor.name);
  }
  return OkStatus();
}

void AppendJsonParameter(std::string& to, const ParameterValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    AppendJsonString(to, *text);
  } else if (const auto* flag = std::get_if<bool>(&value)) {
    to += *flag ? "true" : "false";
  } else if (const auto* integer = std::get_if<int64_t>(&value)) {
    AppendJsonNumber(to, *integer);
  } else if (const auto* natural = std::get_if<uint64_t>(&value)) {
    AppendJsonNumber(to, *natural);
  } else {
    AppendJsonNumber(to, std::get<double>(value));
  }
}

Status AppendElement(std::string& bytes, const Json& value, DataType type) {
  switch (type) {
    case DataType::kBool:
      if (!value.is_boolean()) return Mismatch("boolean");
      bytes += value.get<bool>() ? '\1' : '\0';
      return OkStatus();
    case DataType::kUint8: return AppendInteger<uint8_t>(bytes, value);
    case DataType::kUint16: return AppendInteger<uint16_t>(bytes, value);
    case DataType::kUint32: return AppendInteger<uint32_t>(bytes, value);
    case DataType::kUint64: return AppendInteger<uint64_t>(bytes, value);
    case DataType::kInt8: return AppendInteger<int8_t>(bytes, value);
    case DataType::kInt16: return AppendInteger<int16_t>(bytes, value);
    case DataType::kInt32: return AppendInteger<int32_t>(bytes, value);
    case DataType::kInt64: return AppendInteger<int64_t>(bytes, value);
    case DataType::kBytes:
      if (!value.is_string()) return Mismatch("string");
      AppendBytesElement(bytes, value.get_ref<const std::string&>());
      return OkStatus();
    case DataType::kInvalid: return Internal("tensor has no data type");
    default: return AppendFloat(bytes, value, type);
  }
}

StatusOr<std::string> TensorBytes(const Json& data, DataType type, int64_t count) {
  std::string bytes;
  int64_t found = 0;
  TRIREME_RETURN_IF_ERROR(AppendNested(bytes, data, type, found));
  if (found == count) return bytes;
  return InvalidArgument("Shape does not match true shape of 'data' field: {} elements for {}",
                         found, count);
}

}  // namespace trireme::server

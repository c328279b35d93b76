// SPDX-License-Identifier: Apache-2.0
#include "formats/npy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/mapped_file.h"
#include "formats/mapped_tensors.h"
#include "formats/output_file.h"

namespace trireme {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
constexpr uint64_t kMaxHeaderBytes = 1 << 16;
constexpr size_t kAlignment = 64;
constexpr uint64_t kMaxCsvBytes = uint64_t{1} << 30;

struct NpyType {
  DType dtype;
  std::string_view code;  // without the byte order
};
constexpr std::array kTypes = {
    NpyType{DType::kFloat32, "f4"}, NpyType{DType::kFloat16, "f2"}, NpyType{DType::kFloat64, "f8"},
    NpyType{DType::kInt8, "i1"},    NpyType{DType::kUInt8, "u1"},   NpyType{DType::kInt16, "i2"},
    NpyType{DType::kInt32, "i4"},   NpyType{DType::kInt64, "i8"},   NpyType{DType::kBool, "b1"},
};

StatusOr<DType> ParseDescr(std::string_view descr) {
  const char order = descr.empty() ? '?' : descr[0];
  for (const NpyType& type : kTypes) {
    if (descr.size() == 3 && descr.substr(1) == type.code) {
      if (order == '<' || order == '=' || (order == '|' && DTypeBits(type.dtype) == 8)) {
        return type.dtype;
      }
    }
  }
  return InvalidArgument(
      "dtype '{}' is not supported; save as little-endian float16, float32, "
      "int32 or int64",
      descr.substr(0, 40));
}

// The header is a Python dict literal of three entries; this reads exactly that.
class HeaderReader {
 public:
  explicit HeaderReader(std::string_view text) : text_(text) {}

  struct Header {
    DType dtype = DType::kFloat32;
    bool fortran_order = false;
    Shape shape;
  };

  StatusOr<Header> Read() {
    Header header;
    bool seen[3] = {false, false, false};
    if (!Accept('{')) return Bad();
    while (!Accept('}')) {
      const std::optional<std::string_view> key = String();
      if (!key || !Accept(':')) return Bad();
      if (*key == "descr") {
        const std::optional<std::string_view> descr = String();
        if (!descr) return InvalidArgument("structured dtypes are not supported");
        TRIREME_ASSIGN_OR_RETURN(header.dtype, ParseDescr(*descr));
        seen[0] = true;
      } else if (*key == "fortran_order") {
        header.fortran_order = Word("True");
        if (!header.fortran_order && !Word("False")) return Bad();
        seen[1] = true;
      } else if (*key == "shape") {
        TRIREME_ASSIGN_OR_RETURN(header.shape, Tuple());
        seen[2] = true;
      } else {
        return Bad();
      }
      if (!Accept(',') && !Peek('}')) return Bad();
    }
    if (!seen[0] || !seen[1] || !seen[2]) return Bad();
    return header;
  }

 private:
  static Status Bad() { return InvalidArgument("its header is not a NumPy header"); }

  void SkipSpace() {
    while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\n')) {
      ++position_;
    }
  }
  bool Peek(char c) {
    SkipSpace();
    return position_ < text_.size() && text_[position_] == c;
  }
  bool Accept(char c) {
    if (!Peek(c)) return false;
    ++position_;
    return true;
  }
  bool Word(std::string_view word) {
    SkipSpace();
    if (!text_.substr(position_).starts_with(word)) return false;
    position_ += word.size();
    return true;
  }
  std::optional<std::string_view> String() {
    if (!Peek('\'') && !Peek('"')) return std::nullopt;
    const size_t end = text_.find(text_[position_], position_ + 1);
    if (end == std::string_view::npos) return std::nullopt;
    const std::string_view value = text_.substr(position_ + 1, end - position_ - 1);
    position_ = end + 1;
    return value;
  }
  StatusOr<Shape> Tuple() {
    std::vector<int64_t> dims;
    if (!Accept('(')) return Bad();
    while (!Accept(')')) {
      SkipSpace();
      int64_t dim = 0;
      const char* begin = text_.data() + position_;
      const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), dim);
      if (error != std::errc() || dim < 0) return Bad();
      position_ += static_cast<size_t>(end - begin);
      // Python 2 wrote long integers with a suffix.
      if (position_ < text_.size() && text_[position_] == 'L') ++position_;
      if (dims.size() == size_t{Shape::kMaxRank}) {
        return InvalidArgument("it has more than {} dimensions", Shape::kMaxRank);
      }
      dims.push_back(dim);
      if (!Accept(',') && !Peek(')')) return Bad();
    }
    return Shape(dims);
  }

  const std::string_view text_;
  size_t position_ = 0;
};

// Splits a file into its header's text and its data.
StatusOr<std::pair<std::string_view, std::string_view>> SplitFile(std::string_view file) {
  if (file.size() < 10 || !file.starts_with(kMagic)) {
    return InvalidArgument("it does not start with NumPy's magic");
  }
  const int version = static_cast<uint8_t>(file[6]);
  if (version < 1 || version > 3) return InvalidArgument("npy version {} is unknown", version);
  const size_t length_bytes = version == 1 ? 2 : 4;
  const size_t begin = 8 + length_bytes;
  if (file.size() < begin) return InvalidArgument("it is truncated");
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data() + 8, length_bytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > file.size() - begin) {
    return InvalidArgument("it claims a header of {} bytes", header_bytes);
  }
  return std::pair(file.substr(begin, header_bytes), file.substr(begin + header_bytes));
}

void FromFortran(const std::byte* source, HostTensor& target) {
  const size_t size = static_cast<size_t>(DTypeBits(target.dtype()) / 8);
  const Shape& shape = target.shape();
  std::array<int64_t, Shape::kMaxRank> strides{};
  int64_t stride = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    strides[axis] = stride;
    stride *= shape[axis];
  }
  std::array<int64_t, Shape::kMaxRank> index{};
  for (int64_t i = 0; i < shape.num_elements(); ++i) {
    int64_t from = 0;
    for (int axis = 0; axis < shape.rank(); ++axis) from += index[axis] * strides[axis];
    std::memcpy(target.bytes().data() + static_cast<size_t>(i) * size,
                source + static_cast<size_t>(from) * size, size);
    for (int axis = shape.rank() - 1; axis >= 0 && ++index[axis] == shape[axis]; --axis) {
      index[axis] = 0;
    }
  }
}

StatusOr<HostTensor> Parse(std::string_view file) {
  TRIREME_ASSIGN_OR_RETURN(const auto parts, SplitFile(file));
  TRIREME_ASSIGN_OR_RETURN(const auto header, HeaderReader(parts.first).Read());
  TRIREME_ASSIGN_OR_RETURN(const uint64_t num_bytes,
                           CheckedTensorBytes(header.dtype, header.shape));
  if (num_bytes != parts.second.size()) {
    return InvalidArgument("shape {} of {} takes {} bytes, the file holds {}",
                           header.shape.ToString(), DTypeName(header.dtype), num_bytes,
                           parts.second.size());
  }
  HostTensor tensor(header.dtype, header.shape);
  const auto* data = reinterpret_cast<const std::byte*>(parts.second.data());
  if (header.fortran_order && header.shape.rank() > 1) {
    FromFortran(data, tensor);
  } else if (num_bytes > 0) {
    std::memcpy(tensor.bytes().data(), data, num_bytes);
  }
  return tensor;
}

StatusOr<std::vector<int32_t>> ParseIdLine(std::string_view line) {
  std::vector<int32_t> ids;
  const char* at = line.data();
  const char* const end = at + line.size();
  auto skip_space = [&] {
    while (at != end && (*at == ' ' || *at == '\t')) ++at;
  };
  while (true) {
    skip_space();
    if (at == end) break;  // a trailing comma is common
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc()) {
      return InvalidArgument("'{}' is not a token id",
                             std::string_view(at, std::min(end, at + 20)));
    }
    ids.push_back(id);
    at = next;
    skip_space();
    if (at == end) break;
    if (*at != ',') return InvalidArgument("ids are not separated by commas");
    ++at;
  }
  return ids;
}

StatusOr<IdRows> RowsOf(const HostTensor& tensor, std::string_view path) {
  const Shape& shape = tensor.shape();
  const TensorView view = tensor.view();
  const bool wide = view.dtype == DType::kInt64;
  if ((!wide && view.dtype != DType::kInt32) || shape.rank() < 1 || shape.rank() > 2) {
    return InvalidArgument(
        "'{}' holds {} {}; token ids are int32 or int64 in one or two dimensions", path,
        DTypeName(view.dtype), shape.ToString());
  }
  const int64_t num_rows = shape.rank() == 1 ? 1 : shape[0];
  const int64_t row_size = shape[shape.rank() - 1];
  if (num_rows > 0 && row_size == 0) return InvalidArgument("'{}' holds empty rows", path);
  IdRows rows(static_cast<size_t>(num_rows));
  for (int64_t i = 0; i < num_rows * row_size; ++i) {
    const int64_t id = wide ? view.as<int64_t>()[i] : view.as<int32_t>()[i];
    if (id < INT32_MIN || id > INT32_MAX) {
      return InvalidArgument("'{}': {} is not a token id", path, id);
    }
    rows[static_cast<size_t>(i / row_size)].push_back(static_cast<int32_t>(id));
  }
  return rows;
}

}  // namespace

StatusOr<HostTensor> ParseNpy(std::span<const std::byte> bytes, std::string_view what) {
  StatusOr<HostTensor> tensor = Parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  if (!tensor.ok()) return tensor.status().WithContext(what);
  return tensor;
}

StatusOr<HostTensor> ReadNpy(const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return ParseNpy(file.bytes(), "'" + path + "'");
}

Status WriteNpy(const std::string& path, const TensorView& tensor) {
  const auto type = std::find_if(kTypes.begin(), kTypes.end(), [&](const NpyType& candidate) {
    return candidate.dtype == tensor.dtype;
  });
  if (type == kTypes.end()) {
    return InvalidArgument("'{}': NumPy has no {}; convert to float32 first", path,
                           DTypeName(tensor.dtype));
  }
  std::string dims;
  for (const int64_t dim : tensor.shape.dims()) dims += fmt::format("{}, ", dim);
  if (tensor.shape.rank() > 1) dims.resize(dims.size() - 2);
  if (tensor.shape.rank() == 1) dims.resize(dims.size() - 1);
  const char order = DTypeBits(tensor.dtype) == 8 ? '|' : '<';
  std::string header = fmt::format("{{'descr': '{}{}', 'fortran_order': False, 'shape': ({}), }}",
                                   order, type->code, dims);
  const size_t prologue = kMagic.size() + 4;
  header.append(kAlignment - 1 - (prologue + header.size()) % kAlignment, ' ');
  header += '\n';
  std::string start(kMagic);
  start += {'\x01', '\x00', static_cast<char>(header.size() & 0xff),
            static_cast<char>(header.size() >> 8)};
  start += header;
  TRIREME_ASSIGN_OR_RETURN(const auto file,
                           OutputFile::Create(path, start.size() + tensor.bytes().size()));
  TRIREME_RETURN_IF_ERROR(file->WriteAt(0, start));
  TRIREME_RETURN_IF_ERROR(file->WriteAt(start.size(), tensor.bytes()));
  return file->Commit();
}

StatusOr<IdRows> ParseIdCsv(std::string_view text, std::string_view what) {
  IdRows rows;
  size_t line_number = 0;
  while (!text.empty()) {
    ++line_number;
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    StatusOr<std::vector<int32_t>> ids = ParseIdLine(line);
    if (!ids.ok()) return ids.status().WithContext(fmt::format("{} line {}", what, line_number));
    if (!ids->empty()) rows.push_back(*std::move(ids));
  }
  return rows;
}

std::string IdCsv(const IdRows& rows) {
  std::string text;
  for (const std::vector<int32_t>& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      if (i > 0) text += ',';
      text += std::to_string(row[i]);
    }
    text += '\n';
  }
  return text;
}

StatusOr<IdRows> ReadIdRows(const std::string& path) {
  if (path.ends_with(".csv")) {
    TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxCsvBytes));
    return ParseIdCsv(text, "'" + path + "'");
  }
  if (path.ends_with(".npy")) {
    TRIREME_ASSIGN_OR_RETURN(const HostTensor tensor, ReadNpy(path));
    return RowsOf(tensor, path);
  }
  return InvalidArgument("'{}' is neither .csv nor .npy", path);
}

}  // namespace trireme

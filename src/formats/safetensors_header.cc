// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors_header.h"

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <unordered_set>
#include <utility>

namespace trireme {
namespace {

constexpr std::string_view kMetadataKey = "__metadata__";

// Receives the header's JSON event by event, so that memory stays near the size of the tensor
// table, and a wrong type or a repeated name is seen where it stands.
class HeaderEvents {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  bool null() { return Unexpected("null"); }
  bool boolean(bool) { return Unexpected("a boolean"); }
  bool number_float(number_float_t, const string_t&) { return Unexpected("a fraction"); }
  bool binary(binary_t&) { return Unexpected("binary data"); }

  bool number_integer(number_integer_t value) {
    return Fail(InvalidArgument("tensor '{}': {} is negative", current_.name, value));
  }

  bool number_unsigned(number_unsigned_t value) {
    if (place_ == Place::kShape) return AddDimension(value);
    if (place_ != Place::kOffsets) return Unexpected("a number");
    if (num_offsets_ == 2) {
      return Fail(
          InvalidArgument("tensor '{}': data_offsets has more than 2 numbers", current_.name));
    }
    offsets_[num_offsets_++] = value;
    return true;
  }

  bool string(string_t& value) {
    if (place_ == Place::kMetadata) {
      header_.metadata[key_] = std::move(value);
      return true;
    }
    if (place_ != Place::kTensor || key_ != "dtype") return Unexpected("a string");
    StatusOr<DType> dtype = ParseSafetensorsDType(value);
    if (!dtype.ok()) {
      return Fail(dtype.status().WithContext(fmt::format("tensor '{}'", current_.name)));
    }
    current_.dtype = *dtype;
    has_dtype_ = true;
    return true;
  }

  bool start_object(size_t) {
    if (place_ == Place::kStart) {
      place_ = Place::kRoot;
    } else if (place_ == Place::kRoot) {
      place_ = current_.name == kMetadataKey ? Place::kMetadata : Place::kTensor;
    } else {
      return Unexpected("an object");
    }
    return true;
  }

  bool key(string_t& key) {
    if (place_ != Place::kRoot) {
      key_ = std::move(key);
      return true;
    }
    if (!names_.insert(key).second) {
      return Fail(InvalidArgument("tensor '{}' is listed twice", key));
    }
    current_ = TensorRecord();
    current_.name = std::move(key);
    dims_.clear();
    has_dtype_ = has_shape_ = false;
    num_offsets_ = 0;
    return true;
  }

  bool end_object() {
    if (place_ == Place::kTensor) {
      place_ = Place::kRoot;
      return FinishTensor();
    }
    key_.clear();
    place_ = place_ == Place::kMetadata ? Place::kRoot : Place::kEnd;
    return true;
  }

  bool start_array(size_t) {
    if (place_ != Place::kTensor) return Unexpected("an array");
    if (key_ == "shape" && !has_shape_) {
      place_ = Place::kShape;
      has_shape_ = true;
      return true;
    }
    if (key_ == "data_offsets" && num_offsets_ == 0) {
      place_ = Place::kOffsets;
      return true;
    }
    return Unexpected("an array");
  }

  bool end_array() {
    place_ = Place::kTensor;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) {
    return Fail(InvalidArgument("header is not valid JSON at byte {}", position));
  }

  const Status& status() const { return status_; }
  SafetensorsHeader TakeHeader() { return std::move(header_); }
  std::vector<uint64_t> TakeEnds() { return std::move(ends_); }

 private:
  enum class Place { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets, kEnd };

  bool Fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
    return false;
  }

  bool Unexpected(std::string_view what) {
    if (place_ == Place::kStart) return Fail(InvalidArgument("header is not a JSON object"));
    return Fail(InvalidArgument("entry '{}'{}: {} is not expected there", current_.name,
                                key_.empty() ? "" : " key '" + key_ + "'", what));
  }

  bool AddDimension(uint64_t value) {
    if (dims_.size() == Shape::kMaxRank) {
      return Fail(InvalidArgument("tensor '{}' has more than {} dimensions", current_.name,
                                  Shape::kMaxRank));
    }
    if (value > static_cast<uint64_t>(INT64_MAX)) {
      return Fail(InvalidArgument("tensor '{}': dimension {} is too large", current_.name, value));
    }
    dims_.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool FinishTensor() {
    key_.clear();
    const std::string& name = current_.name;
    if (!has_dtype_ || !has_shape_ || num_offsets_ != 2) {
      return Fail(InvalidArgument("tensor '{}' lacks dtype, shape or data_offsets", name));
    }
    current_.shape = Shape(dims_);
    StatusOr<uint64_t> bytes = CheckedTensorBytes(current_.dtype, current_.shape);
    if (!bytes.ok()) return Fail(bytes.status().WithContext(fmt::format("tensor '{}'", name)));
    if (offsets_[1] < offsets_[0] || offsets_[1] - offsets_[0] != *bytes) {
      return Fail(InvalidArgument("tensor '{}': data_offsets [{}, {}] do not hold {} of {}", name,
                                  offsets_[0], offsets_[1], DTypeName(current_.dtype),
                                  current_.shape.ToString()));
    }
    current_.begin = offsets_[0];
    header_.records.push_back(std::move(current_));
    ends_.push_back(offsets_[1]);
    current_ = TensorRecord();
    return true;
  }

  Place place_ = Place::kStart;
  Status status_;
  SafetensorsHeader header_;
  std::vector<uint64_t> ends_;  // of header_.records
  std::unordered_set<std::string> names_;
  // The entry being read.
  TensorRecord current_;
  std::string key_;
  std::vector<int64_t> dims_;
  uint64_t offsets_[2] = {0, 0};
  int num_offsets_ = 0;
  bool has_dtype_ = false;
  bool has_shape_ = false;
};

// The tensors must tile the data exactly: an overlap would let one name change another's bytes,
// and a hole or a tail means that the file is not what its header says.
Status CheckTiling(const std::vector<TensorRecord>& records, const std::vector<uint64_t>& ends,
                   uint64_t data_bytes) {
  std::vector<size_t> order(records.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return std::pair(records[a].begin, ends[a]) < std::pair(records[b].begin, ends[b]);
  });
  uint64_t position = 0;
  std::string_view previous = "the header";
  for (const size_t i : order) {
    const TensorRecord& record = records[i];
    if (ends[i] > data_bytes) {
      return InvalidArgument(
          "tensor '{}' ends at data byte {}, but the file holds {}; it is truncated or damaged, "
          "fetch it again",
          record.name, ends[i], data_bytes);
    }
    if (record.begin < position) {
      return InvalidArgument("tensors '{}' and '{}' overlap", previous, record.name);
    }
    if (record.begin > position) {
      return InvalidArgument("{} bytes before tensor '{}' belong to no tensor",
                             record.begin - position, record.name);
    }
    position = ends[i];
    previous = record.name;
  }
  if (position != data_bytes) {
    return InvalidArgument("{} bytes after the last tensor belong to no tensor",
                           data_bytes - position);
  }
  return OkStatus();
}

}  // namespace

StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, uint64_t data_bytes) {
  if (!json.starts_with('{')) return InvalidArgument("header does not start with '{{'");
  HeaderEvents events;
  const bool parsed = nlohmann::json::sax_parse(json.begin(), json.end(), &events);
  if (!events.status().ok()) return events.status();
  if (!parsed) return InvalidArgument("header is not valid JSON");
  SafetensorsHeader header = events.TakeHeader();
  TRIREME_RETURN_IF_ERROR(CheckTiling(header.records, events.TakeEnds(), data_bytes));
  return header;
}

}  // namespace trireme

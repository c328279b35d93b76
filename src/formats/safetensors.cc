// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/mapped_file.h"
#include "formats/blob_writer.h"
#include "formats/mapped_tensors.h"
#include "formats/output_file.h"
#include "formats/safetensors_header.h"
#include "formats/shard_index.h"

namespace trireme {

static_assert(std::endian::native == std::endian::little, "file formats are little endian");

namespace {

constexpr uint64_t kLengthBytes = 8;

// Data starts at a multiple of this, so that a fresh file needs no copies for alignment.
constexpr size_t kDataAlignment = 64;

class Writer final : public SafetensorsWriter {
 public:
  Writer(std::unique_ptr<OutputFile> file, BlobWriter::Slots slots)
      : blobs_(std::move(file), std::move(slots)) {}

  Status Write(std::string_view name, std::span<const std::byte> bytes) override {
    return blobs_.Write(name, bytes);
  }
  Status Append(std::string_view name, std::span<const std::byte> bytes) override {
    return blobs_.Append(name, bytes);
  }
  Status Finish() override { return blobs_.Finish(); }

 private:
  BlobWriter blobs_;
};

// Wider elements first, then by name: every tensor is aligned to its element without padding.
void SortForAlignment(std::vector<SafetensorsWriter::Entry>& entries) {
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    const int a_bits = DTypeBits(a.dtype);
    const int b_bits = DTypeBits(b.dtype);
    return a_bits != b_bits ? a_bits > b_bits : a.name < b.name;
  });
}

// Fills `slots` with offsets that count from the start of the data and returns the header.
StatusOr<std::string> LayOut(const std::vector<SafetensorsWriter::Entry>& entries,
                             const std::map<std::string, std::string>& metadata,
                             BlobWriter::Slots& slots, uint64_t& data_bytes) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  // Keyed insertion into ordered_json is linear; `slots` finds repeated names instead.
  auto& members = header.get_ref<nlohmann::ordered_json::object_t&>();
  data_bytes = 0;
  for (const SafetensorsWriter::Entry& entry : entries) {
    if (SafetensorsDTypeName(entry.dtype).empty() || entry.name == "__metadata__") {
      return InvalidArgument("tensor '{}' of {} cannot be stored in safetensors", entry.name,
                             DTypeName(entry.dtype));
    }
    TRIREME_ASSIGN_OR_RETURN(const uint64_t bytes, CheckedTensorBytes(entry.dtype, entry.shape));
    if (!slots.emplace(entry.name, BlobWriter::Slot{data_bytes, bytes}).second) {
      return InvalidArgument("tensor '{}' is declared twice", entry.name);
    }
    const auto dims = entry.shape.dims();
    static_cast<std::vector<std::pair<const std::string, nlohmann::ordered_json>>&>(members)
        .emplace_back(entry.name, nlohmann::ordered_json{
                                      {"dtype", SafetensorsDTypeName(entry.dtype)},
                                      {"shape", std::vector<int64_t>(dims.begin(), dims.end())},
                                      {"data_offsets", {data_bytes, data_bytes + bytes}}});
    data_bytes += bytes;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const size_t end = kLengthBytes + text.size();
  text.append((kDataAlignment - end % kDataAlignment) % kDataAlignment, ' ');
  return text;
}

}  // namespace

StatusOr<std::unique_ptr<TensorSource>> OpenSafetensors(const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  const std::string_view text = file.text();
  if (text.size() < kLengthBytes) {
    return InvalidArgument("'{}' is not a safetensors file: {} bytes", path, text.size());
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, text.data(), kLengthBytes);
  if (header_bytes > kMaxSafetensorsHeaderBytes || header_bytes > text.size() - kLengthBytes) {
    return InvalidArgument(
        "'{}' is not a safetensors file or is truncated: it claims a header of "
        "{} bytes in a file of {}",
        path, header_bytes, text.size());
  }
  const uint64_t data_begin = kLengthBytes + header_bytes;
  StatusOr<SafetensorsHeader> header =
      ParseSafetensorsHeader(text.substr(kLengthBytes, header_bytes), text.size() - data_begin);
  if (!header.ok()) return header.status().WithContext("'" + path + "'");
  for (TensorRecord& record : header->records) record.begin += data_begin;
  return MakeMappedTensors(std::move(file), std::move(header->records));
}

StatusOr<std::unique_ptr<TensorSource>> OpenSafetensorsIndex(const std::string& index_path) {
  return OpenShards(index_path, OpenSafetensors);
}

StatusOr<std::unique_ptr<SafetensorsWriter>> SafetensorsWriter::Create(
    const std::string& path, std::vector<Entry> entries,
    std::map<std::string, std::string> metadata) {
  SortForAlignment(entries);
  BlobWriter::Slots slots;
  uint64_t data_bytes = 0;
  StatusOr<std::string> header = LayOut(entries, metadata, slots, data_bytes);
  if (!header.ok()) return header.status().WithContext("'" + path + "'");
  const uint64_t header_bytes = header->size();
  const uint64_t data_begin = kLengthBytes + header_bytes;
  for (auto& [name, slot] : slots) slot.offset += data_begin;
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<OutputFile> file,
                           OutputFile::Create(path, data_begin + data_bytes));
  TRIREME_RETURN_IF_ERROR(file->WriteAt(
      0, std::string_view(reinterpret_cast<const char*>(&header_bytes), kLengthBytes)));
  TRIREME_RETURN_IF_ERROR(file->WriteAt(kLengthBytes, *header));
  return std::unique_ptr<SafetensorsWriter>(
      std::make_unique<Writer>(std::move(file), std::move(slots)));
}

}  // namespace trireme

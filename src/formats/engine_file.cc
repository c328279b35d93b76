// SPDX-License-Identifier: Apache-2.0
#include "formats/engine_file.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "base/crc32c.h"
#include "base/mapped_file.h"
#include "base/mutex.h"
#include "formats/blob_writer.h"
#include "formats/json_text.h"
#include "formats/mapped_tensors.h"

namespace trireme {
namespace {

using nlohmann::json;

constexpr std::string_view kMagic = "TRIREME\n";
constexpr uint64_t kMaxHeaderBytes = 64 << 20;
constexpr size_t kMaxNameBytes = 4096;

struct Prologue {
  char magic[8];
  uint32_t version;
  uint32_t crc32c;  // of what follows, to the end of the header
  uint64_t header_bytes;
};
static_assert(sizeof(Prologue) == 24);
constexpr size_t kCheckedFrom = offsetof(Prologue, header_bytes);

constexpr std::string_view kDamaged =
    "the file was changed after it was written; copy it again or build it again: trireme build "
    "--checkpoint_dir CKPT --output_dir DIR";

uint64_t AlignUp(uint64_t value) {
  return (value + kEngineAlignment - 1) / kEngineAlignment * kEngineAlignment;
}

struct Range {
  uint64_t offset = 0;
  uint64_t num_bytes = 0;
  uint32_t crc32c = 0;
};

struct Header {
  Range config;
  Range plan;
  std::vector<EngineTensorEntry> tensors;
};

std::string HeaderJson(const Header& header) {
  nlohmann::ordered_json root;
  for (const auto& [key, range] : {std::pair("config", header.config), {"plan", header.plan}}) {
    root[key] = {{"offset", range.offset}, {"bytes", range.num_bytes}, {"crc32c", range.crc32c}};
  }
  nlohmann::ordered_json& tensors = root["tensors"] = nlohmann::ordered_json::array();
  for (const EngineTensorEntry& entry : header.tensors) {
    const auto dims = entry.shape.dims();
    tensors.push_back({{"name", entry.name},
                       {"layout", entry.layout},
                       {"dtype", DTypeName(entry.dtype)},
                       {"shape", std::vector<int64_t>(dims.begin(), dims.end())},
                       {"offset", entry.offset},
                       {"bytes", entry.num_bytes},
                       {"crc32c", entry.crc32c}});
  }
  return root.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Offsets depend on the header's length and the header on the offsets: reserve a length that
// surely suffices and pad the header with spaces.
Header LayOut(std::vector<EngineTensor> table, std::string_view config, std::string_view plan,
              uint64_t header_bytes) {
  Header header;
  header.config = {sizeof(Prologue) + header_bytes, config.size(), Crc32c(config)};
  header.plan = {header.config.offset + config.size(), plan.size(), Crc32c(plan)};
  uint64_t end = header.plan.offset + plan.size();
  for (EngineTensor& tensor : table) {
    EngineTensorEntry entry;
    static_cast<EngineTensor&>(entry) = std::move(tensor);
    entry.offset = AlignUp(end);
    end = entry.offset + entry.num_bytes;
    header.tensors.push_back(std::move(entry));
  }
  return header;
}

// The header goes out last: only then are all checksums known.
class Writer final : public EngineFileWriter {
 public:
  Writer(std::unique_ptr<OutputFile> file, BlobWriter::Slots slots, Header header,
         uint64_t header_bytes)
      : blobs_(std::move(file), std::move(slots)),
        header_bytes_(header_bytes),
        header_(std::move(header)) {
    MutexLock lock(mutex_);
    for (EngineTensorEntry& entry : header_.tensors) checksums_[entry.name] = &entry.crc32c;
  }

  Status Write(std::string_view name, std::span<const std::byte> bytes) override {
    TRIREME_RETURN_IF_ERROR(blobs_.Write(name, bytes));
    const uint32_t crc = Crc32c(bytes);
    MutexLock lock(mutex_);
    *checksums_.at(name) = crc;
    return OkStatus();
  }

  Status Finish() override {
    TRIREME_RETURN_IF_ERROR(blobs_.CheckComplete());
    Prologue prologue{{}, kEngineFormatVersion, 0, header_bytes_};
    std::memcpy(prologue.magic, kMagic.data(), kMagic.size());
    std::string text(sizeof(prologue), ' ');
    {
      MutexLock lock(mutex_);
      text += HeaderJson(header_);
    }
    text.resize(sizeof(prologue) + header_bytes_, ' ');
    text.back() = '\n';
    std::memcpy(text.data(), &prologue, sizeof(prologue));
    prologue.crc32c = Crc32c(std::string_view(text).substr(kCheckedFrom));
    std::memcpy(text.data(), &prologue, sizeof(prologue));
    TRIREME_RETURN_IF_ERROR(blobs_.file().WriteAt(0, text));
    return blobs_.Finish();
  }

 private:
  BlobWriter blobs_;
  const uint64_t header_bytes_;
  Mutex mutex_;
  Header header_ GUARDED_BY(mutex_);
  std::map<std::string_view, uint32_t*> checksums_ GUARDED_BY(mutex_);  // into header_
};

// ---- reading ----

StatusOr<uint64_t> ReadNumber(const json& object, const char* key) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || it == object.end() || !it->is_number_unsigned()) {
    return InvalidArgument("'{}' is missing or not a count", key);
  }
  return it->get<uint64_t>();
}

StatusOr<uint32_t> ReadChecksum(const json& object) {
  TRIREME_ASSIGN_OR_RETURN(const uint64_t value, ReadNumber(object, "crc32c"));
  if (value > UINT32_MAX) return InvalidArgument("'crc32c' {} has more than 32 bits", value);
  return static_cast<uint32_t>(value);
}

StatusOr<std::string> ReadString(const json& object, const char* key) {
  const auto it = object.is_object() ? object.find(key) : object.end();
  if (!object.is_object() || it == object.end() || !it->is_string()) {
    return InvalidArgument("'{}' is missing or not a string", key);
  }
  return it->get<std::string>();
}

StatusOr<Shape> ReadShape(const json& object) {
  const auto it = object.find("shape");
  if (it == object.end() || !it->is_array() || it->size() > size_t{Shape::kMaxRank}) {
    return InvalidArgument("'shape' is missing or not a list of at most {} sizes", Shape::kMaxRank);
  }
  std::vector<int64_t> dims;
  for (const json& dim : *it) {
    if (!dim.is_number_unsigned() || dim.get<uint64_t>() > uint64_t{INT64_MAX}) {
      return InvalidArgument("'shape' holds something else than sizes");
    }
    dims.push_back(dim.get<int64_t>());
  }
  const Shape shape(dims);
  TRIREME_RETURN_IF_ERROR(CheckedTensorBytes(DType::kFloat64, shape).status());
  return shape;
}

bool Inside(const Range& range, uint64_t file_bytes) {
  return range.offset <= file_bytes && range.num_bytes <= file_bytes - range.offset;
}

StatusOr<Range> ReadRange(const json& root, const char* key, uint64_t file_bytes) {
  const auto it = root.find(key);
  if (it == root.end()) return InvalidArgument("'{}' is missing", key);
  Range range;
  TRIREME_ASSIGN_OR_RETURN(range.offset, ReadNumber(*it, "offset"));
  TRIREME_ASSIGN_OR_RETURN(range.num_bytes, ReadNumber(*it, "bytes"));
  TRIREME_ASSIGN_OR_RETURN(range.crc32c, ReadChecksum(*it));
  if (!Inside(range, file_bytes)) {
    return InvalidArgument("'{}' ends beyond the file's {} bytes; the file is truncated", key,
                           file_bytes);
  }
  return range;
}

StatusOr<EngineTensorEntry> ReadTensor(const json& object, uint64_t file_bytes) {
  EngineTensorEntry entry;
  TRIREME_ASSIGN_OR_RETURN(entry.name, ReadString(object, "name"));
  TRIREME_ASSIGN_OR_RETURN(entry.layout, ReadString(object, "layout"));
  TRIREME_ASSIGN_OR_RETURN(const std::string dtype, ReadString(object, "dtype"));
  TRIREME_ASSIGN_OR_RETURN(entry.dtype, ParseDType(dtype));
  TRIREME_ASSIGN_OR_RETURN(entry.shape, ReadShape(object));
  TRIREME_ASSIGN_OR_RETURN(entry.offset, ReadNumber(object, "offset"));
  TRIREME_ASSIGN_OR_RETURN(entry.num_bytes, ReadNumber(object, "bytes"));
  TRIREME_ASSIGN_OR_RETURN(entry.crc32c, ReadChecksum(object));
  if (entry.name.size() > kMaxNameBytes) return InvalidArgument("a tensor name is too long");
  if (entry.offset % kEngineAlignment != 0) {
    return InvalidArgument("tensor '{}' is not aligned to {} bytes", entry.name, kEngineAlignment);
  }
  if (!Inside({entry.offset, entry.num_bytes}, file_bytes)) {
    return InvalidArgument("tensor '{}' ends beyond the file's {} bytes; the file is truncated",
                           entry.name, file_bytes);
  }
  return entry;
}

// Sorts by offset and refuses tensors that share bytes with each other or with what stands before.
Status CheckOverlap(std::vector<EngineTensorEntry>& tensors, uint64_t begin) {
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(a.offset, a.num_bytes) < std::pair(b.offset, b.num_bytes);
  });
  for (const EngineTensorEntry& entry : tensors) {
    if (entry.offset < begin) {
      return InvalidArgument("tensor '{}' overlaps what stands before it", entry.name);
    }
    begin = entry.offset + entry.num_bytes;
  }
  return OkStatus();
}

StatusOr<Header> ParseHeader(std::string_view text, uint64_t file_bytes) {
  TRIREME_ASSIGN_OR_RETURN(const json root, ParseJson(text, "the header"));
  if (!root.is_object()) return InvalidArgument("the header is not a JSON object");
  Header header;
  TRIREME_ASSIGN_OR_RETURN(header.config, ReadRange(root, "config", file_bytes));
  TRIREME_ASSIGN_OR_RETURN(header.plan, ReadRange(root, "plan", file_bytes));
  const auto tensors = root.find("tensors");
  if (tensors == root.end() || !tensors->is_array()) {
    return InvalidArgument("'tensors' is missing or not an array");
  }
  header.tensors.reserve(tensors->size());
  for (const json& object : *tensors) {
    TRIREME_ASSIGN_OR_RETURN(EngineTensorEntry entry, ReadTensor(object, file_bytes));
    header.tensors.push_back(std::move(entry));
  }
  const uint64_t texts_end = std::max(header.config.offset + header.config.num_bytes,
                                      header.plan.offset + header.plan.num_bytes);
  TRIREME_RETURN_IF_ERROR(
      CheckOverlap(header.tensors, std::max(texts_end, sizeof(Prologue) + text.size())));
  return header;
}

class MappedEngine final : public EngineFile {
 public:
  MappedEngine(MappedFile file, Header header)
      : file_(std::move(file)), header_(std::move(header)) {}

  Status CheckTexts() const {
    for (const auto& [what, range] :
         {std::pair("configuration", header_.config), {"plan", header_.plan}}) {
      if (Crc32c(Text(range)) == range.crc32c) continue;
      return InvalidArgument("its {} does not match its checksum; {}", what, kDamaged);
    }
    return OkStatus();
  }

  // A name listed twice is an error.
  Status BuildIndex() {
    for (const EngineTensorEntry& entry : header_.tensors) {
      if (!index_.emplace(entry.name, &entry).second) {
        return InvalidArgument("tensor '{}' is listed twice", entry.name);
      }
    }
    return OkStatus();
  }

  std::string_view config_json() const override { return Text(header_.config); }
  std::string_view plan_json() const override { return Text(header_.plan); }
  std::span<const EngineTensorEntry> tensors() const override { return header_.tensors; }

  const EngineTensorEntry* Find(std::string_view name) const override {
    const auto it = index_.find(name);
    return it == index_.end() ? nullptr : it->second;
  }

  StatusOr<std::span<const std::byte>> Bytes(std::string_view name) const override {
    const EngineTensorEntry* entry = Find(name);
    if (entry == nullptr) {
      return NotFound("tensor '{}' is not in engine '{}'", name, file_.path());
    }
    return file_.bytes().subspan(entry->offset, entry->num_bytes);
  }

  Status Verify(std::string_view name) const override {
    TRIREME_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes, Bytes(name));
    if (Crc32c(bytes) == Find(name)->crc32c) return OkStatus();
    return InvalidArgument("engine '{}': tensor '{}' does not match its checksum; {}", file_.path(),
                           name, kDamaged);
  }

  void Prefetch(std::string_view name) const override {
    if (const EngineTensorEntry* entry = Find(name)) {
      file_.WillNeed(entry->offset, entry->num_bytes);
    }
  }
  void Release(std::string_view name) const override {
    if (const EngineTensorEntry* entry = Find(name)) {
      file_.DontNeed(entry->offset, entry->num_bytes);
    }
  }

 private:
  std::string_view Text(const Range& range) const {
    return file_.text().substr(range.offset, range.num_bytes);
  }

  const MappedFile file_;
  const Header header_;
  std::map<std::string_view, const EngineTensorEntry*> index_;
};

StatusOr<Prologue> ReadPrologue(std::string_view text, const std::string& path) {
  Prologue prologue{};
  if (text.size() < sizeof(Prologue) || !text.starts_with(kMagic)) {
    return InvalidArgument("'{}' is not an engine file; build one: trireme build", path);
  }
  std::memcpy(&prologue, text.data(), sizeof(prologue));
  if (prologue.version != kEngineFormatVersion) {
    return FailedPrecondition(
        "engine '{}' has format version {}, this program reads version {}; "
        "rebuild it: trireme build --checkpoint_dir CKPT --output_dir DIR",
        path, prologue.version, kEngineFormatVersion);
  }
  if (prologue.header_bytes > kMaxHeaderBytes ||
      prologue.header_bytes > text.size() - sizeof(Prologue)) {
    return InvalidArgument(
        "engine '{}' is damaged or truncated: it claims a header of {} bytes in "
        "a file of {}",
        path, prologue.header_bytes, text.size());
  }
  const size_t checked_bytes = sizeof(Prologue) - kCheckedFrom + prologue.header_bytes;
  if (Crc32c(text.substr(kCheckedFrom, checked_bytes)) != prologue.crc32c) {
    return InvalidArgument("engine '{}' is damaged: its header does not match its checksum; {}",
                           path, kDamaged);
  }
  return prologue;
}

}  // namespace

StatusOr<std::unique_ptr<EngineFileWriter>> EngineFileWriter::Create(
    const std::string& path, std::string_view config_json, std::string_view plan_json,
    std::vector<EngineTensor> table) {
  // Offsets and sizes have at most 20 digits and checksums 10, of which one is there already.
  const uint64_t probe = HeaderJson(LayOut(table, "", "", 0)).size();
  const uint64_t ranges = 2 + table.size();
  const uint64_t header_bytes =
      AlignUp(sizeof(Prologue) + probe + ranges * (2 * 19 + 9)) - sizeof(Prologue);
  if (header_bytes > kMaxHeaderBytes) {
    return InvalidArgument("engine '{}' would have a header of {} bytes, at most {} are allowed",
                           path, header_bytes, kMaxHeaderBytes);
  }
  Header header = LayOut(std::move(table), config_json, plan_json, header_bytes);
  BlobWriter::Slots slots;
  uint64_t end = header.plan.offset + header.plan.num_bytes;
  for (const EngineTensorEntry& entry : header.tensors) {
    if (!slots.emplace(entry.name, BlobWriter::Slot{entry.offset, entry.num_bytes}).second) {
      return InvalidArgument("tensor '{}' is declared twice for '{}'", entry.name, path);
    }
    end = entry.offset + entry.num_bytes;
  }
  TRIREME_ASSIGN_OR_RETURN(std::unique_ptr<OutputFile> file, OutputFile::Create(path, end));
  TRIREME_RETURN_IF_ERROR(file->WriteAt(header.config.offset, config_json));
  TRIREME_RETURN_IF_ERROR(file->WriteAt(header.plan.offset, plan_json));
  return std::unique_ptr<EngineFileWriter>(
      std::make_unique<Writer>(std::move(file), std::move(slots), std::move(header), header_bytes));
}

StatusOr<std::unique_ptr<EngineFile>> EngineFile::Open(const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  const std::string_view text = file.text();
  TRIREME_ASSIGN_OR_RETURN(const Prologue prologue, ReadPrologue(text, path));
  StatusOr<Header> header =
      ParseHeader(text.substr(sizeof(Prologue), prologue.header_bytes), text.size());
  if (!header.ok()) return header.status().WithContext("engine '" + path + "' is damaged");
  auto engine = std::make_unique<MappedEngine>(std::move(file), std::move(*header));
  for (const Status& status : {engine->CheckTexts(), engine->BuildIndex()}) {
    if (!status.ok()) return status.WithContext("engine '" + path + "' is damaged");
  }
  return std::unique_ptr<EngineFile>(std::move(engine));
}

}  // namespace trireme

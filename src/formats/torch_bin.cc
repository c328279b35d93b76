// SPDX-License-Identifier: Apache-2.0
#include "formats/torch_bin.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>
#include <utility>

#include "base/mapped_file.h"
#include "formats/pickle.h"
#include "formats/shard_index.h"
#include "formats/zip_directory.h"

namespace trireme {
namespace {

using Kind = PickleValue::Kind;

struct Blob {
  uint64_t offset = 0;  // in the file
  uint64_t num_bytes = 0;
};
using BlobOf = std::map<std::string_view, Blob>;  // by storage key

// A pickled long of ten bytes opens every file of the older form.
constexpr std::string_view kLegacyMagic("\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 13);
constexpr size_t kProtoBytes = 2;
constexpr int64_t kLegacyProtocol = 1001;

bool IsContiguous(const PickledTensor& tensor) {
  int64_t expected = 1;
  for (int axis = tensor.shape.rank() - 1; axis >= 0; --axis) {
    if (tensor.shape[axis] != 1 && tensor.strides[axis] != expected) return false;
    expected *= tensor.shape[axis];
  }
  return true;
}

// One past the last element that the tensor reaches in its storage; an error on overflow.
StatusOr<uint64_t> ReachedElements(const PickledTensor& tensor) {
  constexpr uint64_t kMax = uint64_t{1} << 56;
  uint64_t last = static_cast<uint64_t>(tensor.offset);
  if (last > kMax) return InvalidArgument("storage offset {} is too large", last);
  for (int axis = 0; axis < tensor.shape.rank(); ++axis) {
    if (tensor.shape[axis] == 0) return uint64_t{0};
    const uint64_t steps = static_cast<uint64_t>(tensor.shape[axis] - 1);
    const uint64_t stride = static_cast<uint64_t>(tensor.strides[axis]);
    if (stride != 0 && steps > (kMax - last) / stride) {
      return InvalidArgument("strides reach beyond any storage");
    }
    last += steps * stride;
  }
  return last + 1;
}

StatusOr<TensorRecord> MakeRecord(const Pickle& pickle, const PickledTensor& tensor,
                                  const BlobOf& blobs) {
  const PickledStorage& storage = pickle.storages[tensor.storage];
  const auto blob = blobs.find(storage.key);
  if (blob == blobs.end()) return InvalidArgument("its storage is not in the file");
  const uint64_t element = static_cast<uint64_t>(DTypeBits(tensor.dtype) / 8);
  // Storages that the file's own size does not bear out would read beyond the map.
  const uint64_t available = blob->second.num_bytes / element;
  if (!storage.untyped && storage.num_elements > available) {
    return InvalidArgument(
        "its storage has {} bytes, too few for {} elements; the file is damaged "
        "or truncated",
        blob->second.num_bytes, storage.num_elements);
  }
  TRIREME_ASSIGN_OR_RETURN(const uint64_t num_bytes,
                           CheckedTensorBytes(tensor.dtype, tensor.shape));
  TRIREME_ASSIGN_OR_RETURN(const uint64_t reached, ReachedElements(tensor));
  if (reached > available) {
    return InvalidArgument("shape {} reaches beyond its storage of {} elements",
                           tensor.shape.ToString(), available);
  }
  if (num_bytes / element > available) {
    return InvalidArgument("shape {} repeats elements of a storage of {}; save it contiguous",
                           tensor.shape.ToString(), available);
  }
  TensorRecord record;
  record.dtype = tensor.dtype;
  record.shape = tensor.shape;
  const bool empty = num_bytes == 0;
  record.begin = blob->second.offset + (empty ? 0 : static_cast<uint64_t>(tensor.offset) * element);
  if (!empty && !IsContiguous(tensor)) record.strides = tensor.strides;
  return record;
}

// The tensors of a dictionary, in its order. A later entry of a name replaces an earlier one, as
// in Python.
StatusOr<std::vector<TensorRecord>> MakeTable(const Pickle& pickle, const BlobOf& blobs) {
  const PickleValue& root = pickle[pickle.root];
  if (root.kind != Kind::kDict) {
    return InvalidArgument("the file holds no dictionary of tensors; save the model's state_dict");
  }
  std::map<std::string_view, const PickledTensor*> tensors;
  for (size_t i = 0; i + 1 < root.items.size(); i += 2) {
    const PickleValue& key = pickle[root.items[i]];
    const PickleValue& value = pickle[root.items[i + 1]];
    if (key.kind != Kind::kString || value.kind != Kind::kTensor) continue;
    tensors[key.text] = &pickle.tensors[static_cast<size_t>(value.number)];
  }
  if (tensors.empty()) {
    return InvalidArgument("the file's dictionary holds no tensors; save the model's state_dict");
  }
  std::vector<TensorRecord> records;
  for (const auto& [name, tensor] : tensors) {
    StatusOr<TensorRecord> record = MakeRecord(pickle, *tensor, blobs);
    if (!record.ok()) {
      return record.status().WithContext(fmt::format("tensor '{}'", name.substr(0, 200)));
    }
    record->name = name;
    records.push_back(*std::move(record));
  }
  return records;
}

// ---- zip form: <prefix>/data.pkl, <prefix>/data/<key>, <prefix>/byteorder ----

StatusOr<std::vector<TensorRecord>> ReadZip(std::string_view file) {
  TRIREME_ASSIGN_OR_RETURN(const std::vector<ZipMember> members,
                           ReadZipDirectory(std::as_bytes(std::span(file))));
  const ZipMember* pickle_member = nullptr;
  for (const ZipMember& member : members) {
    const size_t slash = member.name.find('/');
    if (slash == std::string_view::npos || member.name.substr(slash) != "/data.pkl") continue;
    if (pickle_member != nullptr) return InvalidArgument("the archive holds two data.pkl");
    pickle_member = &member;
  }
  if (pickle_member == nullptr) {
    return InvalidArgument("the archive holds no data.pkl: it was not written by torch.save");
  }
  const std::string prefix(pickle_member->name.substr(0, pickle_member->name.size() - 8));
  BlobOf blobs;
  for (const ZipMember& member : members) {
    if (member.name == prefix + "byteorder" &&
        file.substr(member.offset, member.num_bytes) != "little") {
      return Unimplemented("the file was saved on a big-endian machine");
    }
    if (!member.name.starts_with(prefix + "data/")) continue;
    blobs[member.name.substr(prefix.size() + 5)] = {member.offset, member.num_bytes};
  }
  TRIREME_ASSIGN_OR_RETURN(const Pickle pickle, ReadPickle(file.substr(pickle_member->offset,
                                                                       pickle_member->num_bytes)));
  return MakeTable(pickle, blobs);
}

// ---- older form: pickles of magic, protocol, system, object and storage keys; then per key a
// ---- u64 count and the elements ----

// Reads the pickle at `position` and moves past it.
StatusOr<Pickle> NextPickle(std::string_view file, size_t* position) {
  StatusOr<Pickle> pickle = ReadPickle(file.substr(*position));
  if (pickle.ok()) *position += pickle->num_bytes;
  return pickle;
}

Status CheckSystem(const Pickle& system) {
  const PickleValue& root = system[system.root];
  if (root.kind != Kind::kDict) return InvalidArgument("the system record is not a dictionary");
  for (size_t i = 0; i + 1 < root.items.size(); i += 2) {
    const PickleValue& value = system[root.items[i + 1]];
    if (system[root.items[i]].text == "little_endian" && value.kind == Kind::kBool &&
        value.number == 0) {
      return Unimplemented("the file was saved on a big-endian machine");
    }
  }
  return OkStatus();
}

StatusOr<BlobOf> LocateLegacyBlobs(std::string_view file, size_t position, const Pickle& object,
                                   const Pickle& keys) {
  const PickleValue& list = keys[keys.root];
  if (list.kind != Kind::kList) return InvalidArgument("the list of storages is missing");
  std::map<std::string_view, uint64_t> element_bytes;
  for (const PickledStorage& storage : object.storages) {
    element_bytes[storage.key] =
        storage.untyped ? 1 : static_cast<uint64_t>(DTypeBits(storage.dtype) / 8);
  }
  BlobOf blobs;
  for (const PickleId id : list.items) {
    const auto element = element_bytes.find(keys[id].text);
    if (keys[id].kind != Kind::kString || element == element_bytes.end()) {
      return InvalidArgument("a storage is listed that no tensor names");
    }
    uint64_t count = 0;
    if (file.size() - position < sizeof(count)) return InvalidArgument("the file is truncated");
    std::memcpy(&count, file.data() + position, sizeof(count));
    position += sizeof(count);
    if (count > (file.size() - position) / element->second) {
      return InvalidArgument("the file is truncated: storage '{}' claims {} elements",
                             keys[id].text.substr(0, 80), count);
    }
    blobs[element->first] = {position, count * element->second};
    position += count * element->second;
  }
  return blobs;
}

StatusOr<std::vector<TensorRecord>> ReadLegacy(std::string_view file) {
  size_t position = kProtoBytes + kLegacyMagic.size();
  TRIREME_ASSIGN_OR_RETURN(const Pickle protocol, NextPickle(file, &position));
  if (protocol[protocol.root].number != kLegacyProtocol) {
    return InvalidArgument("torch file protocol {} is unknown", protocol[protocol.root].number);
  }
  TRIREME_ASSIGN_OR_RETURN(const Pickle system, NextPickle(file, &position));
  TRIREME_RETURN_IF_ERROR(CheckSystem(system));
  TRIREME_ASSIGN_OR_RETURN(const Pickle object, NextPickle(file, &position));
  TRIREME_ASSIGN_OR_RETURN(const Pickle keys, NextPickle(file, &position));
  TRIREME_ASSIGN_OR_RETURN(const BlobOf blobs, LocateLegacyBlobs(file, position, object, keys));
  return MakeTable(object, blobs);
}

}  // namespace

StatusOr<std::vector<TensorRecord>> ReadTorchBinTable(std::span<const std::byte> bytes) {
  const std::string_view file(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (file.starts_with("PK")) return ReadZip(file);
  if (file.size() > kProtoBytes && file.substr(kProtoBytes).starts_with(kLegacyMagic)) {
    return ReadLegacy(file);
  }
  return InvalidArgument(
      "this is not a file of torch.save; if it is a pickle or a tar archive of "
      "an old torch, save it again or store the model as safetensors");
}

StatusOr<std::unique_ptr<TensorSource>> OpenTorchBin(const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  StatusOr<std::vector<TensorRecord>> records = ReadTorchBinTable(file.bytes());
  if (!records.ok()) return records.status().WithContext("'" + path + "'");
  return MakeMappedTensors(std::move(file), *std::move(records));
}

StatusOr<std::unique_ptr<TensorSource>> OpenTorchBinIndex(const std::string& index_path) {
  return OpenShards(index_path, OpenTorchBin);
}

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
#include "formats/mapped_tensors.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "base/mutex.h"

namespace trireme {
namespace {

// Copies a strided tensor into row-major order, one innermost row at a time.
void Gather(const TensorRecord& record, const std::byte* base, std::byte* target) {
  const size_t size = static_cast<size_t>(DTypeBits(record.dtype) / 8);
  const int rank = record.shape.rank();
  std::vector<int64_t> index(static_cast<size_t>(rank), 0);
  const int64_t count = record.shape.num_elements();
  int64_t element = 0;  // source element of `index`
  for (int64_t i = 0; i < count; ++i) {
    std::memcpy(target + static_cast<size_t>(i) * size, base + static_cast<size_t>(element) * size,
                size);
    for (int axis = rank - 1; axis >= 0; --axis) {
      element += record.strides[axis];
      if (++index[axis] < record.shape[axis]) break;
      element -= record.strides[axis] * record.shape[axis];
      index[axis] = 0;
    }
  }
}

class MappedTensors final : public TensorSource {
 public:
  MappedTensors(MappedFile file, std::vector<TensorRecord> records)
      : file_(std::move(file)), records_(std::move(records)) {
    std::sort(records_.begin(), records_.end(),
              [](const TensorRecord& a, const TensorRecord& b) { return a.name < b.name; });
  }

  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    names.reserve(records_.size());
    for (const TensorRecord& record : records_) names.push_back(record.name);
    return names;
  }

  bool Has(std::string_view name) const override { return Find(name) != nullptr; }

  StatusOr<TensorView> Describe(std::string_view name) const override {
    const TensorRecord* record = Find(name);
    if (record == nullptr) return Missing(name);
    return TensorView{record->dtype, record->shape, nullptr};
  }

  StatusOr<TensorView> Get(std::string_view name) const override {
    const TensorRecord* record = Find(name);
    if (record == nullptr) return Missing(name);
    const std::byte* data = file_.bytes().data() + record->begin;
    if (NeedsCopy(*record, data)) return Copied(*record, data);
    return TensorView{record->dtype, record->shape, data};
  }

  void Release(std::string_view name) const override {
    const TensorRecord* record = Find(name);
    if (record == nullptr || !record->strides.empty()) return;
    file_.DontNeed(record->begin,
                   static_cast<size_t>(DTypeBytes(record->dtype, record->shape.num_elements())));
  }

 private:
  const TensorRecord* Find(std::string_view name) const {
    const auto it = std::lower_bound(
        records_.begin(), records_.end(), name,
        [](const TensorRecord& record, std::string_view key) { return record.name < key; });
    return it != records_.end() && it->name == name ? &*it : nullptr;
  }

  Status Missing(std::string_view name) const {
    return NotFound("tensor '{}' is not in '{}'", name, file_.path());
  }

  static bool NeedsCopy(const TensorRecord& record, const std::byte* data) {
    if (!record.strides.empty()) return true;
    const size_t size = static_cast<size_t>(std::max(1, DTypeBits(record.dtype) / 8));
    return reinterpret_cast<uintptr_t>(data) % size != 0;
  }

  TensorView Copied(const TensorRecord& record, const std::byte* data) const EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    auto it = copies_.find(record.name);
    if (it == copies_.end()) {
      HostTensor copy(record.dtype, record.shape);
      if (record.strides.empty()) {
        std::memcpy(copy.bytes().data(), data, copy.bytes().size());
      } else {
        Gather(record, data, copy.bytes().data());
      }
      it = copies_.emplace(record.name, std::move(copy)).first;
    }
    return it->second.view();
  }

  const MappedFile file_;
  std::vector<TensorRecord> records_;  // sorted by name
  mutable Mutex mutex_;
  mutable std::map<std::string, HostTensor, std::less<>> copies_ GUARDED_BY(mutex_);
};

}  // namespace

StatusOr<uint64_t> CheckedTensorBytes(DType dtype, const Shape& shape) {
  // Zero anywhere makes the product zero, but the other dimensions must still be sane.
  constexpr uint64_t kMaxElements = uint64_t{1} << 56;
  uint64_t count = 1;
  bool empty = false;
  for (const int64_t dim : shape.dims()) {
    if (dim < 0) return InvalidArgument("shape {} has a negative dimension", shape.ToString());
    if (dim == 0) {
      empty = true;
      continue;
    }
    if (static_cast<uint64_t>(dim) > kMaxElements / count) {
      return InvalidArgument("shape {} has too many elements", shape.ToString());
    }
    count *= static_cast<uint64_t>(dim);
  }
  if (empty) return uint64_t{0};
  return static_cast<uint64_t>(DTypeBytes(dtype, static_cast<int64_t>(count)));
}

std::unique_ptr<TensorSource> MakeMappedTensors(MappedFile file,
                                                std::vector<TensorRecord> records) {
  return std::make_unique<MappedTensors>(std::move(file), std::move(records));
}

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
// A pickle machine that can only rebuild tensors: it knows the opcodes torch.save emits and a
// fixed list of globals, runs no code, and refuses everything else by name. Pure functions.
// Internal to formats/.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/dtype.h"
#include "tensor/shape.h"

namespace trireme {

// Ids of values; an arena instead of pointers, so that a value nested a million deep costs no
// recursion.
using PickleId = uint32_t;

struct PickledStorage {
  DType dtype = DType::kFloat32;
  bool untyped = false;  // `num_elements` counts bytes
  std::string_view key;  // names the record or blob with its bytes
  uint64_t num_elements = 0;
};

struct PickledTensor {
  uint32_t storage = 0;  // index into `storages`
  DType dtype = DType::kFloat32;
  int64_t offset = 0;  // elements from the start of the storage
  Shape shape;
  std::vector<int64_t> strides;  // elements
};

struct PickleValue {
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInt,
    kFloat,
    kString,
    kTuple,
    kList,
    kDict,
    kGlobal,
    kStorage,
    kTensor
  };
  Kind kind = Kind::kNone;
  int64_t number = 0;           // kBool, kInt; index of kGlobal, kStorage, kTensor
  std::string_view text;        // kString: points into the pickle
  std::vector<PickleId> items;  // kTuple, kList; keys and values in turn of kDict
};

struct Pickle {
  std::vector<PickleValue> values;
  std::vector<PickledStorage> storages;
  std::vector<PickledTensor> tensors;
  PickleId root = 0;
  size_t num_bytes = 0;  // of the pickle, up to and with its STOP

  const PickleValue& operator[](PickleId id) const { return values[id]; }
};

// Runs the pickle at the start of `bytes`. The result points into `bytes`.
StatusOr<Pickle> ReadPickle(std::string_view bytes);

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the restricted pickle machine. Every id of an accepted pickle must be valid.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "formats/pickle.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto pickle = trireme::ReadPickle({reinterpret_cast<const char*>(data), size});
  if (!pickle.ok()) return 0;
  TRIREME_CHECK_LE(pickle->num_bytes, size);
  TRIREME_CHECK_LT(pickle->root, pickle->values.size());
  for (const trireme::PickleValue& value : pickle->values) {
    for (const trireme::PickleId id : value.items) TRIREME_CHECK_LT(id, pickle->values.size());
  }
  for (const trireme::PickledTensor& tensor : pickle->tensors) {
    TRIREME_CHECK_LT(tensor.storage, pickle->storages.size());
    TRIREME_CHECK_EQ(static_cast<size_t>(tensor.shape.rank()), tensor.strides.size());
  }
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
// A sequence that reaches its readers in pieces, one tensor after another. Whoever decodes the pieces
// keeps here what one needs of those before it: half a character, a space to come. Thread-safe; a
// reader takes the pieces of one stream in order.
#pragma once

#include <map>
#include <memory>

#include "base/mutex.h"

namespace trireme::server {

class PieceStream {
 public:
  // What `reader` keeps, made by `make` at its first piece. A reader always names the same State.
  template <typename State, typename Make>
  State& For(const void* reader, Make make) {
    MutexLock lock(mutex_);
    std::shared_ptr<void>& slot = states_[reader];
    if (slot == nullptr) slot = std::shared_ptr<State>(make());
    return *static_cast<State*>(slot.get());
  }

 private:
  Mutex mutex_;
  // Shared: the only pointer that remembers how to destroy what it forgot the type of.
  std::map<const void*, std::shared_ptr<void>> states_ GUARDED_BY(mutex_);
};

}  // namespace trireme::server

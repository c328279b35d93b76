// SPDX-License-Identifier: Apache-2.0
#include "server/batching/ordered_release.h"

namespace trireme::server {

void OrderedRelease::Add(InferCall& call) {
  auto slot = std::make_shared<Slot>();
  call.WrapResponses([&](InferCall::ResponseFn deliver) -> InferCall::ResponseFn {
    slot->deliver = std::move(deliver);
    return [self = shared_from_this(), slot](InferCall& from, InferResponse&& response) {
      self->OnResponse(*slot, from, std::move(response));
    };
  });
  MutexLock lock(mutex_);
  slots_.push_back(std::move(slot));
}

void OrderedRelease::OnResponse(Slot& slot, InferCall& call, InferResponse&& response) {
  std::vector<Held> ready;
  std::shared_ptr<Slot> front;
  {
    MutexLock lock(mutex_);
    slot.complete |= response.is_final;
    slot.held.push_back({&call, std::move(response)});
    if (delivering_) return;
    delivering_ = true;
  }
  while (true) {
    {
      MutexLock lock(mutex_);
      while (!slots_.empty() && slots_.front()->complete && slots_.front()->held.empty()) {
        slots_.pop_front();
      }
      if (slots_.empty() || slots_.front()->held.empty()) {
        delivering_ = false;
        return;
      }
      front = slots_.front();
      ready = std::move(front->held);
      front->held.clear();
    }
    for (Held& held : ready) front->deliver(*held.call, std::move(held.response));
  }
}

}  // namespace trireme::server

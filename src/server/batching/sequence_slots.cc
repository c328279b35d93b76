// SPDX-License-Identifier: Apache-2.0
#include "server/batching/sequence_slots.h"

#include <algorithm>

#include "base/log.h"
#include "base/status.h"

namespace trireme::server {
namespace {

std::string IdText(const CorrelationId& id) {
  if (const auto* text = std::get_if<std::string>(&id)) return *text;
  return std::to_string(std::get<uint64_t>(id));
}

int64_t Ns(uint64_t us) {
  return static_cast<int64_t>(std::min<uint64_t>(us, INT64_MAX / 2000)) * 1000;
}

}  // namespace

SequenceSlots::SequenceSlots(const ModelConfig& config, int num_instances)
    : config_(config), batching_(*config.sequence_batching) {
  const int slots = batching_.oldest ? batching_.max_candidate_sequences : config.max_batch_size;
  slots_.assign(static_cast<size_t>(num_instances),
                std::vector<SequencePtr>(static_cast<size_t>(std::max(1, slots))));
}

Status SequenceSlots::Push(const Call& call, int64_t now_ns) {
  const InferRequest& request = call->request();
  auto found = by_id_.find(request.sequence_id);
  if (found != by_id_.end() && request.sequence_start) {
    LogWarning("sequence_begun_again model={} sequence={}", config_.name,
               IdText(request.sequence_id));
  }
  if (found == by_id_.end()) {
    if (!request.sequence_start) {
      return InvalidArgument(
          "inference request for sequence {} to model '{}' must specify the START flag on the "
          "first "
          "request of the sequence",
          IdText(request.sequence_id), config_.name);
    }
    const auto sequence = std::make_shared<Sequence>();
    sequence->id = request.sequence_id;
    if (!Place(sequence)) backlog_.push_back(sequence);
    found = by_id_.emplace(request.sequence_id, sequence).first;
  }
  const SequencePtr sequence = found->second;
  const int64_t deadline = request.timeout_us > 0 ? now_ns + Ns(request.timeout_us) : 0;
  sequence->waiting.push_back({call, now_ns, deadline});
  sequence->last_ns = now_ns;
  if (request.sequence_end) {
    sequence->ended = true;
    by_id_.erase(found);
  }
  return OkStatus();
}

// On the instance with the fewest sequences.
bool SequenceSlots::Place(const SequencePtr& sequence) {
  size_t best = 0;
  int64_t most_free = 0;
  for (size_t i = 0; i < slots_.size(); ++i) {
    const int64_t free = std::count(slots_[i].begin(), slots_[i].end(), nullptr);
    if (free > most_free) {
      most_free = free;
      best = i;
    }
  }
  if (most_free == 0) return false;
  const auto slot = std::find(slots_[best].begin(), slots_[best].end(), nullptr);
  sequence->instance = static_cast<int>(best);
  sequence->slot = static_cast<int>(slot - slots_[best].begin());
  *slot = sequence;
  return true;
}

void SequenceSlots::FreeSlot(Sequence& sequence) {
  slots_[static_cast<size_t>(sequence.instance)][static_cast<size_t>(sequence.slot)] = nullptr;
  while (!backlog_.empty() && Place(backlog_.front())) backlog_.pop_front();
}

void SequenceSlots::EndIfOver(const SequencePtr& sequence) {
  if (!sequence->ended || sequence->in_flight || !sequence->waiting.empty()) return;
  if (sequence->instance >= 0) return FreeSlot(*sequence);
  std::erase(backlog_, sequence);
}

void SequenceSlots::Forget(const SequencePtr& sequence) {
  const auto found = by_id_.find(sequence->id);
  // A newer sequence may have its number.
  if (found != by_id_.end() && found->second == sequence) by_id_.erase(found);
  sequence->ended = true;
  EndIfOver(sequence);
}

std::vector<SequenceSlots::SequencePtr> SequenceSlots::Ready(int instance) const {
  std::vector<SequencePtr> ready;
  for (const SequencePtr& sequence : slots_[static_cast<size_t>(instance)]) {
    if (sequence != nullptr && !sequence->in_flight && !sequence->waiting.empty()) {
      ready.push_back(sequence);
    }
  }
  return ready;
}

SequenceSlots::Next SequenceSlots::Take(int instance, int64_t now_ns) {
  std::vector<SequencePtr> ready = Ready(instance);
  if (ready.empty()) return {};
  return batching_.oldest ? TakeOldest(std::move(ready), now_ns) : TakeDirect(ready, now_ns);
}

SequenceSlots::Next SequenceSlots::TakeDirect(const std::vector<SequencePtr>& ready,
                                              int64_t now_ns) {
  const auto slots = static_cast<float>(slots_.front().size());
  int64_t oldest_ns = now_ns;
  int last = 0;
  for (const SequencePtr& sequence : ready) {
    oldest_ns = std::min(oldest_ns, sequence->waiting.front().arrival_ns);
    last = std::max(last, sequence->slot);
  }
  const int64_t due_ns = oldest_ns + Ns(batching_.max_queue_delay_us);
  const bool enough =
      static_cast<float>(ready.size()) / slots >= batching_.minimum_slot_utilization;
  if (!enough && now_ns < due_ns) return {.wait_until_ns = due_ns};
  Next next;
  next.batch.resize(static_cast<size_t>(last) + 1);
  for (const SequencePtr& sequence : ready) {
    next.batch[static_cast<size_t>(sequence->slot)] = TakeHead(sequence);
  }
  return next;
}

SequenceSlots::Next SequenceSlots::TakeOldest(std::vector<SequencePtr> ready, int64_t now_ns) {
  std::sort(ready.begin(), ready.end(), [](const SequencePtr& a, const SequencePtr& b) {
    return a->waiting.front().arrival_ns < b->waiting.front().arrival_ns;
  });
  const auto most = static_cast<size_t>(std::max(1, config_.max_batch_size));
  size_t count = std::min(most, ready.size());
  const int64_t due_ns =
      ready.front()->waiting.front().arrival_ns + Ns(batching_.max_queue_delay_us);
  if (now_ns < due_ns && count < most) {
    size_t preferred = 0;
    for (const int size : batching_.preferred_batch_sizes) {
      const auto wanted = static_cast<size_t>(size);
      if (wanted <= count) preferred = std::max(preferred, wanted);
    }
    if (preferred == 0) return {.wait_until_ns = due_ns};
    count = preferred;
  }
  Next next;
  for (size_t i = 0; i < count; ++i) next.batch.push_back(TakeHead(ready[i]));
  return next;
}

SequenceSlots::Call SequenceSlots::TakeHead(const SequencePtr& sequence) {
  Call call = std::move(sequence->waiting.front().call);
  sequence->waiting.pop_front();
  sequence->in_flight = true;
  in_flight_[call.get()] = sequence;
  AddStates(*sequence, *call);
  return call;
}

void SequenceSlots::AddStates(Sequence& sequence, InferCall& call) const {
  if (call.request().sequence_start) sequence.states.clear();
  for (const SequenceBatching::State& state : batching_.states) {
    const auto kept = sequence.states.find(state.input);
    Tensor tensor;
    if (kept != sequence.states.end()) {
      tensor = kept->second;
    } else {
      Dims shape = state.initial_dims;
      if (config_.max_batch_size > 0) shape.insert(shape.begin(), 1);
      tensor = MakeTensor(state.input, state.type, std::move(shape), state.initial_bytes);
    }
    call.AddInput(std::move(tensor));
  }
}

void SequenceSlots::TakeStates(const InferCall& call, InferResponse& response) {
  const auto found = in_flight_.find(&call);
  if (found == in_flight_.end()) return;
  for (const SequenceBatching::State& state : batching_.states) {
    for (Tensor& output : response.outputs) {
      if (output.name != state.output) continue;
      // The owner may be memory of a model process: kept as long as the sequence needs it.
      Tensor kept = output;
      kept.name = state.input;
      found->second->states[state.input] = std::move(kept);
    }
    if (config_.FindOutput(state.output) != nullptr) continue;
    std::erase_if(response.outputs,
                  [&](const Tensor& output) { return output.name == state.output; });
  }
}

void SequenceSlots::Done(const InferCall& call, int64_t now_ns) {
  const auto found = in_flight_.find(&call);
  if (found == in_flight_.end()) return;
  const SequencePtr sequence = found->second;
  in_flight_.erase(found);
  sequence->in_flight = false;
  sequence->last_ns = now_ns;
  EndIfOver(sequence);
}

SequenceSlots::Expired SequenceSlots::Expire(int64_t now_ns) {
  Expired expired;
  for (const SequencePtr& sequence : std::deque<SequencePtr>(backlog_)) {
    for (auto item = sequence->waiting.begin(); item != sequence->waiting.end();) {
      const bool late = item->deadline_ns > 0 && item->deadline_ns <= now_ns;
      if (late) expired.calls.push_back(std::move(item->call));
      item = late ? sequence->waiting.erase(item) : item + 1;
    }
    if (!sequence->waiting.empty()) continue;
    Forget(sequence);
  }
  std::vector<SequencePtr> idle;
  for (const auto& [id, sequence] : by_id_) {
    const bool resting =
        sequence->instance >= 0 && !sequence->in_flight && sequence->waiting.empty();
    if (resting && sequence->last_ns + Ns(batching_.max_idle_us) <= now_ns)
      idle.push_back(sequence);
  }
  for (const SequencePtr& sequence : idle) Forget(sequence);
  expired.freed = !idle.empty();
  return expired;
}

int64_t SequenceSlots::next_expiry_ns() const {
  int64_t next = 0;
  const auto add = [&next](int64_t when) {
    if (when > 0 && (next == 0 || when < next)) next = when;
  };
  for (const SequencePtr& sequence : backlog_) {
    for (const Item& item : sequence->waiting) add(item.deadline_ns);
  }
  for (const auto& [id, sequence] : by_id_) {
    if (sequence->instance < 0 || sequence->in_flight || !sequence->waiting.empty()) continue;
    add(sequence->last_ns + Ns(batching_.max_idle_us));
  }
  return next;
}

bool SequenceSlots::Remove(const InferCall& call, int64_t now_ns) {
  const auto remove_from = [&](const SequencePtr& sequence) {
    const auto item = std::find_if(sequence->waiting.begin(), sequence->waiting.end(),
                                   [&](const Item& each) { return each.call.get() == &call; });
    if (item == sequence->waiting.end()) return false;
    sequence->waiting.erase(item);
    sequence->last_ns = now_ns;
    EndIfOver(sequence);
    return true;
  };
  for (const SequencePtr& sequence : std::deque<SequencePtr>(backlog_)) {
    if (remove_from(sequence)) return true;
  }
  for (const auto& instance : std::vector<std::vector<SequencePtr>>(slots_)) {
    for (const SequencePtr& sequence : instance) {
      if (sequence != nullptr && remove_from(sequence)) return true;
    }
  }
  return false;
}

std::vector<SequenceSlots::Call> SequenceSlots::TakeAll() {
  std::vector<Call> calls;
  const auto take = [&calls](const SequencePtr& sequence) {
    if (sequence == nullptr) return;
    for (Item& item : sequence->waiting) calls.push_back(std::move(item.call));
    sequence->waiting.clear();
  };
  for (const auto& instance : slots_) std::for_each(instance.begin(), instance.end(), take);
  std::for_each(backlog_.begin(), backlog_.end(), take);
  backlog_.clear();
  by_id_.clear();
  return calls;
}

int SequenceSlots::num_active() const {
  int count = 0;
  for (const auto& instance : slots_) {
    count += static_cast<int>(instance.size() - static_cast<size_t>(std::count(
                                                    instance.begin(), instance.end(), nullptr)));
  }
  return count;
}

}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
// A request the engine loop works on, and its sequences. Plain data; engine thread only.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "kv_cache/block_table.h"
#include "trireme/request.h"

namespace trireme::executor {

using Clock = std::chrono::steady_clock;

struct ActiveRequest;

// Order of service: higher priority, then earlier arrival. Also the order of age: the last in it
// is the first to be paused, so whoever came first is never set back by whoever came later.
struct ServiceKey {
  float negative_priority = 0;
  RequestId arrival = 0;  // ids rise
  int index = 0;
  friend auto operator<=>(const ServiceKey&, const ServiceKey&) = default;
};

enum class SequenceState { kWaiting, kRunning, kEnded };

struct Sequence {
  ActiveRequest* request = nullptr;
  ServiceKey key;
  SequenceState state = SequenceState::kWaiting;

  std::vector<TokenId> tokens;  // the prompt, then what was generated and read back
  int num_pending = 0;          // sampled on the device, not yet read back
  int max_length = 0;           // tokens it can reach

  // While it holds a slot.
  int slot = -1;
  bool samples_in_slot = false;  // the slot holds this sequence's last sampled token
  int context_len = 0;           // tokens in the cache once the steps in flight are done
  kv_cache::BlockTable table;
  int steps_in_flight = 0;  // steps that name the slot

  int max_context_len = 0;  // the most it ever had in the cache; below it is recomputation
  int num_cached_tokens = 0;

  TokenTimes times;

  // Results not yet handed out.
  int num_sent_tokens = 0;  // of `tokens` without the prompt
  std::vector<float> log_probs;
  float cum_log_prob = 0;
  std::vector<float> context_logits;
  int num_context_logit_rows = 0;  // positions collected, handed out or not
  std::vector<float> generation_logits;

  int length() const { return static_cast<int>(tokens.size()) + num_pending; }
  bool IsGenerating() const { return samples_in_slot && context_len == length() - 1; }
  // Context tokens not yet computed.
  int remaining_tokens() const { return length() - context_len; }
  // All tokens it may have are sampled already; it only waits to read them.
  bool IsFullySampled() const { return length() >= max_length; }
};

struct ActiveRequest {
  RequestId id = 0;
  Request request;
  Clock::time_point arrival;
  std::optional<Clock::time_point> deadline;

  std::vector<std::unique_ptr<Sequence>> sequences;  // made when the loop takes the request
  int num_unfinished = 0;
  bool started = false;  // a sequence has had a slot
  Clock::time_point start;
  std::optional<Clock::time_point> first_token;
  int num_generated_tokens = 0;

  int num_prompt_tokens() const { return static_cast<int>(request.prompt.size()); }
};

}  // namespace trireme::executor

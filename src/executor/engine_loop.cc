// SPDX-License-Identifier: Apache-2.0
// The life of a request: taking it, collecting tokens, ending and answering it.
#include "executor/engine_loop.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "base/status.h"
#include "executor/memory_usage.h"

namespace trireme::executor {
namespace {

double Milliseconds(Clock::duration duration) {
  return std::chrono::duration<double, std::milli>(duration).count();
}

std::unique_ptr<Sequence> NewSequence(ActiveRequest& request, int index) {
  auto sequence = std::make_unique<Sequence>();
  sequence->request = &request;
  sequence->key = {-request.request.priority, request.id, index};
  sequence->tokens = request.request.prompt;
  sequence->max_length = request.num_prompt_tokens() + request.request.max_tokens;
  sequence->times.arrival = request.arrival;
  return sequence;
}

// What a sampler cannot choose from ends the request: any token would be an invention.
Status BadLogits(size_t num_tokens, const ModelConfig& model) {
  const std::string_view remedy =
      model.dtype == "float16" ? "; float16 ends at 65504, build the engine in bfloat16 or float32"
                               : "";
  return Internal(
      "logits are not finite after {} tokens; the weights hold NaN or infinity, or values "
      "overflowed "
      "{}{}; `trireme inspect ENGINE --verify` tells a damaged file",
      num_tokens, model.dtype, remedy);
}

}  // namespace

EngineLoop::EngineLoop(engine::Session& session, const LoopOptions& options)
    : session_(session),
      options_(options),
      vocab_size_(session.info().model.vocab_size),
      cache_({.num_blocks = session.num_kv_blocks(),
              .num_reserved = kNumReservedBlocks,
              .block_size = session.kv_layout().block_size,
              .enable_reuse = options.enable_block_reuse,
              .window = session.kv_window()}) {
  for (int slot = session.limits().max_batch_size - 1; slot >= 0; --slot) {
    free_slots_.push_back(slot);
  }
}

void EngineLoop::Add(std::unique_ptr<ActiveRequest> request) {
  ActiveRequest& added = *request;
  requests_.emplace(added.id, std::move(request));
  ++totals_.requests_accepted;
  ++num_unstarted_;
  const int num_sequences = added.request.sampling.num_return_sequences;
  added.num_unfinished = num_sequences;
  for (int i = 0; i < num_sequences; ++i) {
    added.sequences.push_back(NewSequence(added, i));
    waiting_.emplace(added.sequences.back()->key, added.sequences.back().get());
  }
  if (added.deadline) deadlines_.emplace(*added.deadline, added.id);
  if (!failure_.ok()) EndRequest(added, FinishReason::kNotFinished, failure_);
}

void EngineLoop::Cancel(RequestId id) {
  auto found = requests_.find(id);
  if (found == requests_.end()) return;
  EndRequest(*found->second, FinishReason::kCancelled, OkStatus());
}

void EngineLoop::CancelAll() {
  std::vector<RequestId> ids;
  for (const auto& [id, request] : requests_) ids.push_back(id);
  std::ranges::sort(ids);
  for (RequestId id : ids) Cancel(id);
}

void EngineLoop::ExpireDeadlines(Clock::time_point now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    const RequestId id = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    auto found = requests_.find(id);
    if (found == requests_.end()) continue;
    EndRequest(*found->second, FinishReason::kTimedOut, OkStatus());
  }
}

void EngineLoop::Fail(const Status& error) {
  failure_ = error;
  // The session is dead, so nothing names slots and blocks any more.
  while (!in_flight_.empty()) {
    for (const Row& row : in_flight_.front().rows) {
      Sequence& sequence = *row.sequence;
      if (--sequence.steps_in_flight == 0 && sequence.state == SequenceState::kEnded) {
        ReleaseSlot(sequence);
      }
    }
    in_flight_.pop_front();
    cache_.EndStep();
  }
  std::vector<ActiveRequest*> requests;
  for (const auto& [id, request] : requests_) requests.push_back(request.get());
  std::ranges::sort(requests, {}, &ActiveRequest::id);
  for (ActiveRequest* request : requests) {
    if (request->num_unfinished > 0) {
      EndRequest(*request, FinishReason::kNotFinished, error);
    } else {
      requests_.erase(request->id);
    }
  }
}

Status EngineLoop::Advance() {
  bool launched = false;
  if (static_cast<int>(in_flight_.size()) < options_.max_steps_in_flight) {
    TRIREME_ASSIGN_OR_RETURN(launched, Launch());
  }
  const bool full = static_cast<int>(in_flight_.size()) >= options_.max_steps_in_flight;
  if (!in_flight_.empty() && (full || !launched)) return Collect();
  if (launched || requests_.empty()) return OkStatus();
  return Internal(
      "no step can be formed for {} running and {} waiting sequences, {} of {} KV "
      "blocks available",
      running_.size(), waiting_.size(), cache_.num_available_blocks(), cache_.num_usable_blocks());
}

Status EngineLoop::Collect() {
  StepInFlight step = std::move(in_flight_.front());
  in_flight_.pop_front();
  size_t num_samples = 0;
  for (const Row& row : step.rows) num_samples += row.samples;
  std::vector<engine::SampledToken> sampled;
  Status status;
  if (num_samples > 0) {
    auto awaited = session_.Await();
    status = awaited.status();
    if (awaited.ok()) sampled = std::move(awaited).value();
    if (const std::optional<engine::StepTiming> timing = session_.LastTiming()) {
      step.stats.device_idle_us = timing->idle_us;
      step.stats.device_busy_us = timing->busy_us;
      step.stats.device_launches = timing->launches;
    }
    if (status.ok() && sampled.size() != num_samples) {
      status = Internal("the session returned {} tokens for {} rows", sampled.size(), num_samples);
    }
  }
  cache_.EndStep();
  for (const Row& row : step.rows) --row.sequence->steps_in_flight;
  TRIREME_RETURN_IF_ERROR(status);

  const Clock::time_point now = Clock::now();
  size_t next = 0;
  for (size_t i = 0; i < step.rows.size(); ++i) {
    if (!step.rows[i].samples) continue;
    TakeToken(step.rows[i], sampled[next++], step.generation_logits[i], now);
  }
  FinishIteration(step);
  return OkStatus();
}

void EngineLoop::TakeToken(const Row& row, const engine::SampledToken& sampled,
                           std::span<const float> logits, Clock::time_point now) {
  Sequence& sequence = *row.sequence;
  --sequence.num_pending;
  if (sequence.state == SequenceState::kEnded) return;  // ended while the step ran: a surplus token
  TRIREME_CHECK_EQ(sampled.slot, sequence.slot);
  ActiveRequest& request = *sequence.request;
  if (sampled.bad_logits) {
    // FinishIteration erases the request: rows of this step may still name its sequences.
    return EndUnfinished(request, FinishReason::kNotFinished,
                         BadLogits(sequence.tokens.size(), session_.info().model));
  }
  if (!request.first_token) request.first_token = now;
  FinishReason finish = sampled.finish;
  if (finish != FinishReason::kEndId) {
    sequence.tokens.push_back(sampled.token);
    if (sequence.times.first == Clock::time_point()) sequence.times.first = now;
    sequence.times.last = now;
    ++request.num_generated_tokens;
    ++totals_.generated_tokens;
    if (request.request.output.return_log_probs) sequence.log_probs.push_back(sampled.log_prob);
    sequence.cum_log_prob += sampled.log_prob;
    sequence.generation_logits.insert(sequence.generation_logits.end(), logits.begin(),
                                      logits.end());
    if (finish == FinishReason::kNotFinished && sequence.IsFullySampled() &&
        sequence.num_pending == 0) {
      finish = FinishReason::kLength;
    }
  }
  if (finish != FinishReason::kNotFinished) {
    EndSequence(sequence, finish, OkStatus());
  } else if (request.request.streaming) {
    Respond(sequence, FinishReason::kNotFinished, OkStatus());
  }
}

void EngineLoop::FinishIteration(StepInFlight& step) {
  std::set<ActiveRequest*> touched;
  for (const Row& row : step.rows) {
    if (row.sequence->state != SequenceState::kEnded || row.sequence->steps_in_flight > 0) continue;
    ReleaseSlot(*row.sequence);
    touched.insert(row.sequence->request);
  }
  for (ActiveRequest* request : touched) EraseIfAnswered(*request);
  IterationStats& stats = step.stats;
  stats.iter_latency_ms = Milliseconds(Clock::now() - step.begin);
  stats.num_queued_requests = static_cast<int>(waiting_.size());
  stats.num_active_requests = static_cast<int>(running_.size());
  stats.max_num_active_requests = session_.limits().max_batch_size;
  stats.num_completed_requests = std::exchange(num_completed_since_, 0);
  stats.cpu_mem_usage_bytes = ResidentMemoryBytes();
  stats.kv_cache = cache_.Stats();
  iterations_.push_back(stats);
}

void EngineLoop::EndRequest(ActiveRequest& request, FinishReason reason, const Status& error) {
  if (request.num_unfinished == 0) return;
  EndUnfinished(request, reason, error);
  EraseIfAnswered(request);
}

void EngineLoop::EndUnfinished(ActiveRequest& request, FinishReason reason, const Status& error) {
  for (const auto& sequence : request.sequences) {
    if (sequence->state != SequenceState::kEnded) EndSequence(*sequence, reason, error);
  }
}

void EngineLoop::EndSequence(Sequence& sequence, FinishReason reason, const Status& error) {
  ActiveRequest& request = *sequence.request;
  if (sequence.state == SequenceState::kWaiting) waiting_.erase(sequence.key);
  if (sequence.state == SequenceState::kRunning) LeaveRunning(sequence);
  sequence.state = SequenceState::kEnded;
  if (sequence.steps_in_flight == 0) ReleaseSlot(sequence);
  --request.num_unfinished;
  if (request.num_unfinished == 0) {
    if (!request.started) --num_unstarted_;
    ++totals_.requests_completed;
    ++num_completed_since_;
    LogSummary(request, reason, error);
  }
  Respond(sequence, reason, error);
}

void EngineLoop::LeaveRunning(Sequence& sequence) {
  running_.erase(sequence.key);
  // Positions past the tokens read back hold nothing that anybody asked for.
  const size_t computed = std::min<size_t>(sequence.context_len, sequence.tokens.size());
  if (failure_.ok()) {
    cache_.Remember(prefix_key_, std::span(sequence.tokens).first(computed), sequence.table);
  }
  sequence.table.Clear();
}

void EngineLoop::ReleaseSlot(Sequence& sequence) {
  if (sequence.slot < 0) return;
  free_slots_.push_back(std::exchange(sequence.slot, -1));
}

void EngineLoop::EraseIfAnswered(ActiveRequest& request) {
  if (request.num_unfinished > 0) return;
  for (const auto& sequence : request.sequences) {
    if (sequence->steps_in_flight > 0) return;
  }
  if (request.deadline) {
    auto [begin, end] = deadlines_.equal_range(*request.deadline);
    auto found = std::find_if(begin, end, [&](const auto& d) { return d.second == request.id; });
    if (found != end) deadlines_.erase(found);
  }
  requests_.erase(request.id);
}

void EngineLoop::Respond(Sequence& sequence, FinishReason reason, const Status& error) {
  const ActiveRequest& request = *sequence.request;
  Response response;
  response.request_id = request.id;
  response.sequence_index = sequence.key.index;
  response.error = error;
  response.is_sequence_final = sequence.state == SequenceState::kEnded;
  response.is_final = response.is_sequence_final && request.num_unfinished == 0;
  response.finish_reason = reason;
  response.num_prompt_tokens = request.num_prompt_tokens();
  response.num_cached_tokens = sequence.num_cached_tokens;
  response.times = sequence.times;
  TakeResults(sequence, response);
  responses_.push_back(std::move(response));
}

void EngineLoop::TakeResults(Sequence& sequence, Response& response) {
  const ActiveRequest& request = *sequence.request;
  const bool first = sequence.num_sent_tokens == 0;
  const bool with_prompt = first && !request.request.output.exclude_input_from_output;
  const int from = with_prompt ? 0 : request.num_prompt_tokens() + sequence.num_sent_tokens;
  response.tokens.assign(sequence.tokens.begin() + from, sequence.tokens.end());
  sequence.num_sent_tokens = static_cast<int>(sequence.tokens.size()) - request.num_prompt_tokens();
  response.log_probs = std::exchange(sequence.log_probs, {});
  response.cum_log_prob = sequence.cum_log_prob;
  response.context_logits = std::exchange(sequence.context_logits, {});
  response.generation_logits = std::exchange(sequence.generation_logits, {});
}

void EngineLoop::LogSummary(const ActiveRequest& request, FinishReason reason,
                            const Status& error) const {
  const Clock::time_point now = Clock::now();
  const Clock::time_point start = request.started ? request.start : now;
  const Clock::time_point first = request.first_token.value_or(now);
  const int later_tokens = std::max(1, request.num_generated_tokens - 1);
  LogInfo(
      "request_done id={} prompt_tokens={} generated_tokens={} queue_ms={:.1f} ttft_ms={:.1f} "
      "tpot_ms={:.2f} reason={}",
      request.id, request.num_prompt_tokens(), request.num_generated_tokens,
      Milliseconds(start - request.arrival), Milliseconds(first - request.arrival),
      Milliseconds(now - first) / later_tokens, error.ok() ? FinishReasonName(reason) : "ERROR");
}

void EngineLoop::CheckInvariants() const {
  cache_.CheckInvariants();
  int num_slots_held = 0;
  int num_unfinished = 0;
  for (const auto& [id, request] : requests_) {
    for (const auto& sequence : request->sequences) {
      num_slots_held += sequence->slot >= 0;
      num_unfinished += sequence->state != SequenceState::kEnded;
      const bool running = sequence->state == SequenceState::kRunning;
      TRIREME_CHECK_EQ(running_.contains(sequence->key), running);
      TRIREME_CHECK_EQ(waiting_.contains(sequence->key),
                       sequence->state == SequenceState::kWaiting);
      TRIREME_CHECK(running || sequence->table.num_blocks() == 0);
      TRIREME_CHECK(!running ||
                    cache_.BlocksFor(sequence->context_len) <= sequence->table.num_blocks());
    }
  }
  TRIREME_CHECK_EQ(num_unfinished, static_cast<int>(running_.size() + waiting_.size()));
  TRIREME_CHECK_EQ(num_slots_held + static_cast<int>(free_slots_.size()),
                   session_.limits().max_batch_size);
}

}  // namespace trireme::executor

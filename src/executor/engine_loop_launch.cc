// SPDX-License-Identifier: Apache-2.0
// Forming a step: who holds a slot, how many tokens of each, and the session's input.
#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "base/status.h"
#include "executor/engine_loop.h"
#include "scheduler/capacity.h"
#include "scheduler/token_budget.h"

namespace trireme::executor {
namespace {

double SecondsSinceEpoch() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

// False when no step can be formed now.
StatusOr<bool> EngineLoop::Launch() {
  StepInFlight step;
  step.begin = Clock::now();
  step.stats.timestamp_s = SecondsSinceEpoch();
  if (!ApplyCapacityPlan(step.stats)) return false;
  step.rows = PlanRows();
  if (step.rows.empty()) return false;
  step.stats.iter = num_iterations_++;
  TRIREME_RETURN_IF_ERROR(RunStep(step));
  in_flight_.push_back(std::move(step));
  return true;
}

// False when the plan pauses somebody whose last token is still on its way.
bool EngineLoop::ApplyCapacityPlan(IterationStats& stats) {
  // Counting what a pause would free reads every block table.
  const bool may_pause = options_.capacity_policy == CapacityPolicy::kMaxUtilization;
  std::vector<Sequence*> running;
  std::vector<scheduler::RunningNeed> running_needs;
  for (const auto& [key, sequence] : running_) {
    running.push_back(sequence);
    running_needs.push_back(
        {.held_blocks = sequence->table.num_held(),
         .next_blocks = BlocksToHold(*sequence, sequence->length()),
         .final_blocks = BlocksToHold(*sequence, sequence->max_length - 1),
         .freed_blocks = may_pause ? cache_.BlocksFreedBy(sequence->table) : 0});
  }
  std::vector<Sequence*> waiting;
  std::vector<scheduler::WaitingNeed> waiting_needs;
  for (const auto& [key, sequence] : waiting_) {
    if (waiting.size() == free_slots_.size()) break;
    waiting.push_back(sequence);
    const int start = std::min(sequence->length() + 1, sequence->max_length - 1);
    waiting_needs.push_back({.start_blocks = BlocksToHold(*sequence, start),
                             .final_blocks = BlocksToHold(*sequence, sequence->max_length - 1)});
  }
  const scheduler::CapacityPlan plan =
      scheduler::PlanCapacity({.policy = options_.capacity_policy,
                               .available_blocks = cache_.num_available_blocks(),
                               .free_slots = static_cast<int>(free_slots_.size()),
                               .running = running_needs,
                               .waiting = waiting_needs});
  if (!plan.paused.empty() && !in_flight_.empty()) return false;
  for (int index : plan.paused) Pause(*running[index]);
  for (int i = 0; i < plan.num_admitted; ++i) Admit(*waiting[i]);
  stats.num_paused_requests = static_cast<int>(plan.paused.size());
  stats.num_new_active_requests = plan.num_admitted;
  return true;
}

int EngineLoop::BlocksToHold(const Sequence& sequence, int length) const {
  const int step = std::clamp(sequence.remaining_tokens(), 1, session_.limits().max_num_tokens);
  return cache_.BlocksToHold(sequence.table, length, step);
}

void EngineLoop::Pause(Sequence& sequence) {
  TRIREME_CHECK_EQ(sequence.steps_in_flight, 0);
  LeaveRunning(sequence);
  ReleaseSlot(sequence);
  sequence.context_len = 0;
  sequence.samples_in_slot = false;
  sequence.state = SequenceState::kWaiting;
  waiting_.emplace(sequence.key, &sequence);
  ++totals_.pauses;
}

void EngineLoop::Admit(Sequence& sequence) {
  ActiveRequest& request = *sequence.request;
  if (!request.started) {
    request.started = true;
    request.start = Clock::now();
    --num_unstarted_;
  }
  waiting_.erase(sequence.key);
  running_.emplace(sequence.key, &sequence);
  sequence.state = SequenceState::kRunning;
  sequence.slot = free_slots_.back();
  free_slots_.pop_back();
  // Context logits exist only for positions that are computed.
  if (!request.request.output.return_context_logits) {
    sequence.context_len = cache_.MatchPrefix(prefix_key_, sequence.tokens, sequence.table);
  }
  if (sequence.max_context_len == 0) sequence.num_cached_tokens = sequence.context_len;
  ResetSlot(sequence);
}

void EngineLoop::ResetSlot(const Sequence& sequence) {
  const Request& request = sequence.request->request;
  engine::SlotRequest slot;
  slot.sampling = request.sampling;
  slot.sampling.seed += static_cast<uint64_t>(sequence.key.index);
  slot.prompt = request.prompt;
  slot.generated = std::span(sequence.tokens).subspan(request.prompt.size());
  slot.end_ids = request.extra_end_ids;
  if (request.end_id) slot.end_ids.insert(slot.end_ids.begin(), *request.end_id);
  slot.max_tokens = request.max_tokens;
  slot.bad_words = request.bad_words;
  slot.stop_words = request.stop_words;
  slot.embedding_bias = request.embedding_bias;
  slot.log_probs = request.output.return_log_probs;
  session_.ResetSlot(sequence.slot, slot);
}

std::vector<EngineLoop::Row> EngineLoop::PlanRows() {
  const engine::SessionLimits& limits = session_.limits();
  std::vector<Sequence*> sequences;
  std::vector<scheduler::BudgetSequence> budget;
  for (const auto& [key, sequence] : running_) {
    if (sequence->IsFullySampled()) continue;
    sequences.push_back(sequence);
    budget.push_back(
        {.generating = sequence->IsGenerating(), .remaining_tokens = sequence->remaining_tokens()});
  }
  const std::vector<int> tokens =
      scheduler::PlanTokens({.max_num_tokens = limits.max_num_tokens,
                             .chunked_context = options_.chunked_context,
                             .policy = options_.chunking_policy,
                             .chunk_unit = scheduler::ChunkUnit(
                                 cache_.block_size(), limits.max_num_tokens, limits.max_batch_size),
                             .sequences = budget});
  std::vector<Row> rows;
  for (const bool generating : {true, false}) {
    for (size_t i = 0; i < sequences.size(); ++i) {
      if (tokens[i] == 0 || budget[i].generating != generating) continue;
      // With steps in flight blocks may still be in quarantine; later sequences must not take
      // those that this one waits for.
      if (!PrepareRow(*sequences[i], tokens[i], rows)) return rows;
    }
  }
  return rows;
}

bool EngineLoop::PrepareRow(Sequence& sequence, int num_tokens, std::vector<Row>& rows) {
  if (!cache_.Grow(sequence.table, sequence.context_len + num_tokens)) return false;
  rows.push_back({.sequence = &sequence,
                  .first = sequence.context_len,
                  .num_tokens = num_tokens,
                  .generating = sequence.IsGenerating(),
                  .samples = num_tokens == sequence.remaining_tokens()});
  return true;
}

void EngineLoop::AddToInput(const Row& row, engine::StepInput& input) const {
  Sequence& sequence = *row.sequence;
  const auto blocks = sequence.table.blocks();
  for (int i = sequence.table.num_sent(); i < sequence.table.num_blocks(); ++i) {
    if (!blocks[i].valid()) continue;  // the window left it before it was needed
    input.block_table_deltas.push_back(
        {.slot = sequence.slot, .index = i, .block = blocks[i].id()});
  }
  sequence.table.MarkSent();
  engine::StepRow& added = input.rows.emplace_back();
  added.slot = sequence.slot;
  added.context_len = row.first;
  if (!row.generating) {
    added.tokens = std::span(sequence.tokens).subspan(row.first, row.num_tokens);
  }
  const bool all = sequence.request->request.output.return_context_logits &&
                   sequence.num_context_logit_rows < sequence.request->num_prompt_tokens();
  added.logits = all           ? engine::LogitsWanted::kAll
                 : row.samples ? engine::LogitsWanted::kLast
                               : engine::LogitsWanted::kNone;
}

Status EngineLoop::RunStep(StepInFlight& step) {
  engine::StepInput input;
  std::vector<int> slots;
  for (const Row& row : step.rows) {
    AddToInput(row, input);
    if (row.samples) slots.push_back(row.sequence->slot);
  }
  cache_.BeginStep();
  Status status = session_.Forward(input);
  // Before sampling, which may work on the logits in place.
  for (size_t i = 0; i < step.rows.size() && status.ok(); ++i) status = CopyLogits(i, step);
  if (status.ok() && !slots.empty()) status = session_.Sample(slots);
  if (!status.ok()) {
    cache_.EndStep();
    return status;
  }
  for (const Row& row : step.rows) {
    CountRow(row, step.stats);
    Sequence& sequence = *row.sequence;
    sequence.context_len += row.num_tokens;
    sequence.max_context_len = std::max(sequence.max_context_len, sequence.context_len);
    ++sequence.steps_in_flight;
    if (row.samples) {
      sequence.samples_in_slot = true;
      ++sequence.num_pending;
    }
    // Steps run in order, so whoever is scheduled later finds these blocks filled.
    if (row.samples && !row.generating) {
      cache_.Remember(prefix_key_, std::span(sequence.tokens).first(sequence.context_len),
                      sequence.table);
    }
    cache_.DropUnseen(sequence.table, sequence.context_len);
  }
  return OkStatus();
}

// Keeps what the request wants of the logits, which are gone with the next Forward.
Status EngineLoop::CopyLogits(size_t index, StepInFlight& step) {
  const Row& row = step.rows[index];
  Sequence& sequence = *row.sequence;
  const OutputConfig& output = sequence.request->request.output;
  const int num_prompt = sequence.request->num_prompt_tokens();
  const bool context = output.return_context_logits && sequence.num_context_logit_rows < num_prompt;
  const bool generation = output.return_generation_logits && row.samples;
  if (!context && !generation) return OkStatus();
  TRIREME_ASSIGN_OR_RETURN(const std::span<const float> logits,
                           session_.Logits(static_cast<int>(index)));
  const size_t num_rows = context ? row.num_tokens : 1;
  if (logits.size() != num_rows * vocab_size_) {
    return Internal("the session returned {} logits for {} rows of {}", logits.size(), num_rows,
                    vocab_size_);
  }
  if (context) {
    // After a pause the first rows may be known already.
    const int from = sequence.num_context_logit_rows;
    const int to = std::min(num_prompt, row.first + row.num_tokens);
    if (from < to) {
      sequence.context_logits.insert(
          sequence.context_logits.end(),
          logits.begin() + static_cast<int64_t>(from - row.first) * vocab_size_,
          logits.begin() + static_cast<int64_t>(to - row.first) * vocab_size_);
      sequence.num_context_logit_rows = to;
    }
  }
  if (generation) {
    const auto last = logits.last(vocab_size_);
    step.generation_logits.emplace(index, std::vector<float>(last.begin(), last.end()));
  }
  return OkStatus();
}

void EngineLoop::CountRow(const Row& row, IterationStats& stats) {
  ++stats.num_scheduled_requests;
  totals_.recomputed_tokens +=
      std::clamp(row.sequence->max_context_len - row.first, 0, row.num_tokens);
  if (row.generating) {
    ++stats.num_gen_requests;
    ++stats.num_gen_tokens;
    return;
  }
  ++stats.num_context_requests;
  stats.num_ctx_tokens += row.num_tokens;
  totals_.prompt_tokens += row.num_tokens;
}

}  // namespace trireme::executor

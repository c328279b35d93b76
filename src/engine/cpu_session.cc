// SPDX-License-Identifier: Apache-2.0
#include "engine/cpu_session.h"

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/memory_bandwidth.h"
#include "base/memory_info.h"
#include "base/status.h"
#include "engine/launch_bytes.h"
#include "engine/session_setup.h"
#include "tensor/kv_window.h"

namespace trireme::engine {

CpuSession::CpuSession(LoadedEngine engine, const SessionOptions& options)
    : engine_(std::move(engine)),
      pool_(options.num_threads),
      context_{&pool_, std::min(BestIsa(HostCpuFeatures()), options.max_isa)},
      reference_(options.reference_backend) {}

StatusOr<std::unique_ptr<Session>> CpuSession::Load(LoadedEngine engine,
                                                    const SessionOptions& options) {
  std::unique_ptr<CpuSession> session(new CpuSession(std::move(engine), options));
  TRIREME_RETURN_IF_ERROR(session->Initialise(options));
  return std::unique_ptr<Session>(std::move(session));
}

Status CpuSession::Initialise(const SessionOptions& options) {
  limits_ = ResolveLimits(engine_, options);
  const plan::Plan& plan = engine_.plan;
  kv_layout_ = {plan.kv_dtype, plan.num_layers, plan.num_kv_heads, plan.head_dim,
                engine_.tokens_per_block};
  const int block_size = kv_layout_.block_size;
  max_blocks_per_seq_ = (limits_.max_seq_len + block_size - 1) / block_size;
  kv_window_ = KvWindow(plan);

  // Slots' own tables and those of a step.
  const int64_t table_bytes = int64_t{limits_.max_batch_size} * max_blocks_per_seq_ * 2 * 4;
  if (table_bytes > AvailableMemoryBytes() / 2) {
    return ResourceExhausted(
        "block tables of max_batch_size {} and max_seq_len {} would take {} bytes; lower them",
        limits_.max_batch_size, limits_.max_seq_len, table_bytes);
  }
  TRIREME_ASSIGN_OR_RETURN(weights_, WeightStore::Make(engine_, pool_));
  ProgramOptions program_options;
  program_options.max_tokens = limits_.max_num_tokens;
  program_options.max_logit_rows = limits_.max_num_tokens;
  program_options.max_seqs = limits_.max_batch_size;
  program_options.max_seq_len = limits_.max_seq_len;
  program_options.tokens_per_block = block_size;
  program_options.reference_kernels = reference_;
  program_options.observe_linear = options.observe_linear;
  TRIREME_ASSIGN_OR_RETURN(program_, CpuProgram::Bind(plan, weights_, context_, program_options));
  TRIREME_RETURN_IF_ERROR(AllocateKvCache(options.kv_cache));
  sample_workspace_ =
      AlignedBuffer(kernels::SampleWorkspaceBytes(plan.vocab_size, pool_.num_threads()));

  slots_.resize(static_cast<size_t>(limits_.max_batch_size));
  slot_block_tables_.assign(slots_.size() * max_blocks_per_seq_, 0);
  token_ids_.reserve(limits_.max_num_tokens);
  positions_.reserve(limits_.max_num_tokens);
  logit_rows_.reserve(limits_.max_num_tokens);
  cu_query_lens_.reserve(slots_.size() + 1);
  context_lens_.reserve(slots_.size());
  block_tables_.reserve(slot_block_tables_.size());
  row_logits_.reserve(slots_.size());
  sample_rows_.reserve(slots_.size());

  info_.model = engine_.model;
  info_.max_batch_size = limits_.max_batch_size;
  info_.max_num_tokens = limits_.max_num_tokens;
  info_.max_seq_len = limits_.max_seq_len;
  info_.tokens_per_block = block_size;
  info_.weight_bytes = BytesReadPerStep(plan);
  info_.kv_cache_bytes = kv_pool_.size();
  info_.device = "cpu " + IsaName(context_.isa);
  LogInfo("engine_loaded device=\"{}\" threads={} weight_mb={:.1f} kv_blocks={} kv_mb={:.1f}",
          info_.device, pool_.num_threads(), info_.weight_bytes / 1e6, num_kv_blocks_,
          kv_pool_.size() / 1e6);
  return OkStatus();
}

Status CpuSession::AllocateKvCache(const KvCacheConfig& config) {
  SessionLimits held = limits_;
  if (kv_window_ > 0) {
    const int block_size = kv_layout_.block_size;
    const int64_t blocks = WindowBlocks(kv_window_, limits_.max_num_tokens, block_size);
    held.max_seq_len = static_cast<int>(std::min<int64_t>(held.max_seq_len, blocks * block_size));
  }
  TRIREME_ASSIGN_OR_RETURN(num_kv_blocks_,
                           NumKvBlocks(config, kv_layout_, held, AvailableMemoryBytes()));
  kv_pool_ = AlignedBuffer(kv_layout_.block_bytes() * num_kv_blocks_);
  kv_pool_.UseHugePages();
  return OkStatus();
}

void CpuSession::ResetSlot(int slot, const SlotRequest& request) {
  Slot& s = slots_[static_cast<size_t>(slot)];
  kernels::SamplingSetup setup;
  setup.params = request.sampling;
  setup.prompt = request.prompt;
  setup.generated = request.generated;
  setup.end_ids = request.end_ids;
  setup.max_tokens = request.max_tokens;
  setup.bad_words = request.bad_words;
  setup.stop_words = request.stop_words;
  setup.embedding_bias = request.embedding_bias;
  setup.log_probs = request.log_probs;
  s.sampling.Reset(setup, static_cast<int>(engine_.plan.vocab_size));
  s.logit_row = -1;
  s.last_token = 0;
  if (!request.generated.empty()) s.last_token = request.generated.back();
}

void CpuSession::ApplyBlockChanges(const StepInput& input) {
  for (const BlockTableDelta& delta : input.block_table_deltas) {
    slot_block_tables_[static_cast<size_t>(delta.slot) * max_blocks_per_seq_ + delta.index] =
        delta.block;
  }
  const int64_t block_bytes = kv_layout_.block_bytes();
  for (const BlockCopy& copy : input.block_copies) {
    std::memcpy(kv_pool_.data() + copy.to * block_bytes, kv_pool_.data() + copy.from * block_bytes,
                static_cast<size_t>(block_bytes));
  }
}

void CpuSession::PackRow(const StepRow& row) {
  Slot& slot = slots_[static_cast<size_t>(row.slot)];
  const int first = static_cast<int>(token_ids_.size());
  if (row.tokens.empty()) {
    token_ids_.push_back(slot.last_token);
  } else {
    token_ids_.insert(token_ids_.end(), row.tokens.begin(), row.tokens.end());
  }
  const int query_len = static_cast<int>(token_ids_.size()) - first;
  for (int i = 0; i < query_len; ++i) positions_.push_back(row.context_len + i);
  context_lens_.push_back(row.context_len);
  cu_query_lens_.push_back(first + query_len);
  const auto table =
      slot_block_tables_.begin() + static_cast<int64_t>(row.slot) * max_blocks_per_seq_;
  block_tables_.insert(block_tables_.end(), table, table + max_blocks_per_seq_);

  const int begin = static_cast<int>(logit_rows_.size());
  const int wanted = row.logits == LogitsWanted::kNone   ? 0
                     : row.logits == LogitsWanted::kLast ? 1
                                                         : query_len;
  for (int i = query_len - wanted; i < query_len; ++i) logit_rows_.push_back(first + i);
  row_logits_.push_back({begin, wanted});
  slot.logit_row = wanted > 0 ? begin + wanted - 1 : -1;
}

Status CpuSession::Forward(const StepInput& input) {
  TRIREME_RETURN_IF_ERROR(CheckStep(input, limits_, engine_.model.vocab_size));
  if (engine_thread_ != std::this_thread::get_id()) {
    engine_thread_ = std::this_thread::get_id();
    pool_.PinCaller();
  }
  ApplyBlockChanges(input);
  token_ids_.clear();
  positions_.clear();
  cu_query_lens_.assign(1, 0);
  context_lens_.clear();
  block_tables_.clear();
  logit_rows_.clear();
  row_logits_.clear();
  for (const StepRow& row : input.rows) PackRow(row);
  StepFrame frame;
  frame.step.num_tokens = static_cast<int>(token_ids_.size());
  frame.step.num_seqs = static_cast<int>(input.rows.size());
  frame.step.token_ids = token_ids_.data();
  frame.step.positions = positions_.data();
  frame.step.cu_query_lens = cu_query_lens_.data();
  frame.step.context_lens = context_lens_.data();
  frame.step.block_tables = block_tables_.data();
  frame.step.max_blocks_per_seq = max_blocks_per_seq_;
  frame.step.logit_rows = logit_rows_.data();
  frame.step.num_logit_rows = static_cast<int>(logit_rows_.size());
  frame.kv = {kv_layout_, kv_pool_.data(), num_kv_blocks_};
  if (launch_seconds_.empty()) {
    program_->Run(frame);
  } else {
    program_->RunTimed(frame, launch_seconds_);
  }
  return OkStatus();
}

StatusOr<std::vector<LaunchProfile>> CpuSession::ProfileForward(const StepInput& input) {
  const plan::Plan& plan = engine_.plan;
  launch_seconds_.assign(plan.launches.size(), 0.0);
  const Status status = Forward(input);
  const std::vector<double> seconds = std::exchange(launch_seconds_, {});
  TRIREME_RETURN_IF_ERROR(status);
  StepSize size{static_cast<int64_t>(token_ids_.size()), static_cast<int64_t>(logit_rows_.size()),
                static_cast<int64_t>(token_ids_.size())};
  for (int32_t context_len : context_lens_) size.attended_tokens += context_len;
  std::vector<LaunchProfile> profiles;
  for (size_t i = 0; i < plan.launches.size(); ++i) {
    const plan::Launch& launch = plan.launches[i];
    const plan::TacticChoice* tactic = TacticOf(plan, launch, size);
    profiles.push_back({.op = std::string(OpKindName(launch.kind)),
                        .name = launch.name,
                        .kernel = tactic == nullptr ? "" : tactic->kernel,
                        .seconds = seconds[i],
                        .bytes = LaunchBytes(plan, launch, size, kv_layout_)});
  }
  return profiles;
}

StatusOr<double> CpuSession::MeasureBandwidth() {
  return ReadBandwidthMeter(context_.pool->num_threads()).Measure();
}

Status CpuSession::Sample(std::span<const int> slots) {
  sample_rows_.clear();
  const int64_t vocab_size = engine_.plan.vocab_size;
  for (int slot : slots) {
    const Slot& s = slots_[static_cast<size_t>(slot)];
    if (s.logit_row < 0) return Internal("sample: slot {} has no logits", slot);
    sample_rows_.push_back({program_->logits() + s.logit_row * vocab_size, &s.sampling});
  }
  const kernels::SampleParams params{sample_rows_, vocab_size, sample_workspace_.data()};
  if (reference_) {
    kernels::SampleReference(params);
  } else {
    kernels::Sample(params, context_);
  }
  std::vector<SampledToken> tokens;
  tokens.reserve(slots.size());
  for (size_t i = 0; i < slots.size(); ++i) {
    Slot& s = slots_[static_cast<size_t>(slots[i])];
    const kernels::SampleRow& row = sample_rows_[i];
    s.last_token = row.token;
    tokens.push_back({.slot = slots[i],
                      .token = row.token,
                      .finish = s.sampling.Append(row.token, row.log_prob),
                      .log_prob = row.log_prob,
                      .bad_logits = row.bad_logits});
  }
  sampled_.push_back(std::move(tokens));
  return OkStatus();
}

StatusOr<std::vector<SampledToken>> CpuSession::Await() {
  if (sampled_.empty()) return FailedPrecondition("await without a sample");
  std::vector<SampledToken> tokens = std::move(sampled_.front());
  sampled_.pop_front();
  return tokens;
}

StatusOr<std::span<const float>> CpuSession::Logits(int row) {
  if (row < 0 || row >= static_cast<int>(row_logits_.size())) {
    return InvalidArgument("logits: the last step has no row {}", row);
  }
  const LogitRange range = row_logits_[static_cast<size_t>(row)];
  const int64_t vocab_size = engine_.plan.vocab_size;
  return std::span<const float>(program_->logits() + range.begin * vocab_size,
                                static_cast<size_t>(range.count * vocab_size));
}

}  // namespace trireme::engine

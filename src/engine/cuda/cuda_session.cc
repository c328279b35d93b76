// SPDX-License-Identifier: Apache-2.0
#include "engine/cuda/cuda_session.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstring>

#include "base/log.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "device/cuda/cuda_status.h"
#include "engine/cuda/load_cuda_session.h"
#include "engine/launch_bytes.h"
#include "engine/session_setup.h"
#include "plan/row_profiles.h"

namespace trireme::engine {
namespace {

// Steps of more decoding sequences are submitted launch by launch.
constexpr int kLargestBucket = 2048;

// Numbers of decoding sequences that steps are rounded up to, the last one `largest`.
std::vector<int> DecodeBuckets(int largest) {
  const auto step = [](int size) {
    if (size < 8) return size;
    if (size < 64) return 8;
    if (size < 256) return 16;
    if (size < 512) return 32;
    return size < 1024 ? 64 : 128;
  };
  std::vector<int> buckets;
  for (int size = 1; size < largest; size += step(size)) buckets.push_back(size);
  buckets.push_back(largest);
  return buckets;
}

}  // namespace

StatusOr<std::unique_ptr<Session>> LoadCudaSession(LoadedEngine engine,
                                                   const SessionOptions& options) {
  return CudaSession::Load(std::move(engine), options);
}

StatusOr<std::unique_ptr<Session>> CudaSession::Load(LoadedEngine engine,
                                                     const SessionOptions& options) {
  if (options.reference_backend) {
    return InvalidArgument("the reference backend runs engines of --device cpu");
  }
  std::unique_ptr<CudaSession> session(new CudaSession(std::move(engine)));
  TRIREME_RETURN_IF_ERROR(session->Initialise(options));
  return std::unique_ptr<Session>(std::move(session));
}

CudaSession::~CudaSession() {
  // Buffers must outlive the work that names them; an error was reported where it arose.
  if (stream_.get() != nullptr) [[maybe_unused]]
    const Status status = stream_.Synchronize();
}

Status CudaSession::Initialise(const SessionOptions& options) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  TRIREME_ASSIGN_OR_RETURN(device_, cuda::GetDeviceInfo());
  TRIREME_ASSIGN_OR_RETURN(stream_, cuda::Stream::Create());
  context_.stream = stream_.get();
  context_.num_sms = device_.num_sms;

  const plan::Plan& plan = engine_.plan;
  limits_ = ResolveLimits(engine_, options);
  kv_layout_ = {plan.kv_dtype, plan.num_layers, plan.num_kv_heads, plan.head_dim,
                engine_.tokens_per_block};
  kv_layout_.keys_in_token_order = true;
  max_blocks_per_seq_ = (limits_.max_seq_len + kv_layout_.block_size - 1) / kv_layout_.block_size;
  max_logit_rows_ = static_cast<int>(plan::MaxLogitRows(limits_.max_batch_size));
  decode_buckets_ =
      DecodeBuckets(std::min({kLargestBucket, limits_.max_batch_size, limits_.max_num_tokens}));
  {
    ThreadPool pool(options.num_threads);
    TRIREME_ASSIGN_OR_RETURN(weights_, CudaWeights::Load(engine_, pool, stream_));
  }
  const Clock::time_point loaded = Clock::now();
  TRIREME_ASSIGN_OR_RETURN(program_, CudaProgram::Bind(plan, weights_,
                                                       {.max_tokens = limits_.max_num_tokens,
                                                        .max_logit_rows = max_logit_rows_,
                                                        .max_seqs = limits_.max_batch_size,
                                                        .max_seq_len = limits_.max_seq_len,
                                                        .tokens_per_block = kv_layout_.block_size},
                                                       context_));
  TRIREME_ASSIGN_OR_RETURN(step_,
                           CudaStep::Create(limits_, max_blocks_per_seq_, kv_layout_.block_size));
  TRIREME_ASSIGN_OR_RETURN(sampler_,
                           CudaSampler::Create(limits_, static_cast<int>(plan.vocab_size)));
  TRIREME_ASSIGN_OR_RETURN(clock_, StepClock::Create());
  TRIREME_ASSIGN_OR_RETURN(
      all_rows_, cuda::DeviceBuffer::Allocate(
                     static_cast<int64_t>(sizeof(cuda::StepCounts) +
                                          sizeof(int32_t) * static_cast<size_t>(max_logit_rows_)),
                     "logit rows"));
  TRIREME_RETURN_IF_ERROR(AllocateKvCache(options.kv_cache));
  program_->set_kv_pool(kv_pool_.data());
  if (options.cuda_graphs) TRIREME_RETURN_IF_ERROR(CaptureGraphs());
  FillInfo();
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  LogInfo(
      "engine_loaded device=\"{}\" weight_mb={:.1f} kv_blocks={} kv_mb={:.1f} graphs={} "
      "weights_s={:.2f} setup_s={:.2f}",
      info_.device, static_cast<double>(weights_.total_bytes()) / 1e6, num_kv_blocks_,
      static_cast<double>(kv_pool_.size()) / 1e6, graphs_.size(), seconds(loaded - begin),
      seconds(Clock::now() - loaded));
  return OkStatus();
}

void CudaSession::FillInfo() {
  info_.model = engine_.model;
  info_.max_batch_size = limits_.max_batch_size;
  info_.max_num_tokens = limits_.max_num_tokens;
  info_.max_seq_len = limits_.max_seq_len;
  info_.tokens_per_block = kv_layout_.block_size;
  info_.weight_bytes = BytesReadPerStep(engine_.plan);
  info_.kv_cache_bytes = kv_pool_.size();
  info_.device = device_.name;
}

Status CudaSession::AllocateKvCache(const KvCacheConfig& config) {
  TRIREME_ASSIGN_OR_RETURN(const int64_t free_bytes, cuda::FreeDeviceBytes());
  TRIREME_ASSIGN_OR_RETURN(num_kv_blocks_, NumKvBlocks(config, kv_layout_, limits_, free_bytes));
  TRIREME_ASSIGN_OR_RETURN(
      kv_pool_,
      cuda::DeviceBuffer::Allocate(kv_layout_.block_bytes() * num_kv_blocks_, "the KV cache"));
  // Padding rows and unused places of a block hold numbers, never NaN patterns.
  return cuda::CudaStatus(
      cudaMemsetAsync(kv_pool_.data(), 0, static_cast<size_t>(kv_pool_.size()), stream_.get()),
      "clearing the KV cache");
}

// The bucket of decode steps of up to `size` sequences, none longer than `longest`.
cuda::StepView CudaSession::DecodeView(int size, int longest) const {
  cuda::StepView view = step_.View(size, size, size, 1);
  if (longest <= DecodeRegionLayers::kLongestSeq) {
    view.max_seq_len = std::min(view.max_seq_len, DecodeRegionLayers::kLongestSeq);
  }
  return view;
}

CudaSession::GraphKey CudaSession::KeyOf(const cuda::StepView& view) const {
  return {view.max_seqs, program_->TakesRegion(view, context_)};
}

// Kernels read the true counts, so that one graph serves every step of its bucket.
Status CudaSession::CaptureGraph(const cuda::StepView& view) {
  const GraphKey key = KeyOf(view);
  if (graphs_.contains(key)) return OkStatus();
  const auto record = [&]() -> Status {
    context_.dependent = false;  // follows a copy
    TRIREME_RETURN_IF_ERROR(step_.Prepare(view, sampler_.last_tokens(), context_));
    context_.dependent = true;
    TRIREME_RETURN_IF_ERROR(program_->Run(CudaProgram::Part::kTrunk, view, context_, nullptr));
    return program_->Run(CudaProgram::Part::kHead, view, context_, nullptr);
  };
  StatusOr<cuda::GraphExec> graph = cuda::GraphExec::Capture(stream_, record);
  context_.dependent = false;
  if (!graph.ok()) {
    return graph.status().WithContext(fmt::format("graph of {} sequences", view.max_seqs));
  }
  graphs_.emplace(key, std::move(*graph));
  return OkStatus();
}

Status CudaSession::CaptureGraphs() {
  for (const int size : decode_buckets_) {
    for (const int longest : {1, limits_.max_seq_len}) {
      TRIREME_RETURN_IF_ERROR(CaptureGraph(DecodeView(size, longest)));
    }
  }
  return OkStatus();
}

void CudaSession::ResetSlot(int slot, const SlotRequest& request) {
  const Status status = sampler_.ResetSlot(slot, request, stream_);
  if (!status.ok() && reset_error_.ok()) reset_error_ = status;
}

Status CudaSession::CopyBlocks(const StepInput& input) {
  const int64_t block_bytes = kv_layout_.block_bytes();
  for (const BlockCopy& copy : input.block_copies) {
    TRIREME_CUDA_RETURN_IF_ERROR(
        cudaMemcpyAsync(kv_pool_.data() + copy.to * block_bytes,
                        kv_pool_.data() + copy.from * block_bytes, static_cast<size_t>(block_bytes),
                        cudaMemcpyDeviceToDevice, stream_.get()),
        "copying KV blocks");
  }
  return OkStatus();
}

Status CudaSession::Send(const StepInput& input) {
  TRIREME_RETURN_IF_ERROR(reset_error_);
  TRIREME_RETURN_IF_ERROR(CheckStep(input, limits_, engine_.model.vocab_size));
  row_logits_.clear();
  wants_all_.clear();
  for (const StepRow& row : input.rows) wants_all_.push_back(row.logits == LogitsWanted::kAll);
  context_.dependent = false;
  TRIREME_RETURN_IF_ERROR(sampler_.LoadSlots(stream_, context_));
  TRIREME_RETURN_IF_ERROR(CopyBlocks(input));
  return step_.Send(input, stream_);
}

CudaSession::StepShape CudaSession::ShapeOfStep() const {
  const bool some_want_all =
      std::find(wants_all_.begin(), wants_all_.end(), true) != wants_all_.end();
  const bool decodes =
      step_.max_query_len() == 1 && step_.num_logit_rows() == step_.num_rows() && !some_want_all;
  const auto bucket =
      std::lower_bound(decode_buckets_.begin(), decode_buckets_.end(), step_.num_rows());
  if (decodes && bucket != decode_buckets_.end()) {
    return {DecodeView(*bucket, step_.longest_seq()), true};
  }
  return {step_.View(step_.num_tokens(), step_.num_rows(), step_.num_logit_rows(),
                     step_.max_query_len()),
          false};
}

Status CudaSession::Forward(const StepInput& input) {
  TRIREME_RETURN_IF_ERROR(Send(input));
  TRIREME_RETURN_IF_ERROR(clock_.Begin(context_));
  const StepShape shape = ShapeOfStep();
  const auto graph = shape.decodes ? graphs_.find(KeyOf(shape.view)) : graphs_.end();
  if (graph != graphs_.end()) {
    ++context_.num_launches;
    TRIREME_RETURN_IF_ERROR(graph->second.Launch(stream_));
  } else {
    // In the shapes of the graph, so that with and without graphs the same kernels run.
    TRIREME_RETURN_IF_ERROR(RunLaunches(input, shape.view, nullptr));
  }
  return clock_.End(context_);
}

StatusOr<std::vector<LaunchProfile>> CudaSession::ProfileForward(const StepInput& input) {
  TRIREME_RETURN_IF_ERROR(Send(input));
  LaunchTimer timer;
  TRIREME_RETURN_IF_ERROR(RunLaunches(input, ShapeOfStep().view, &timer));
  const plan::Plan& plan = engine_.plan;
  TRIREME_ASSIGN_OR_RETURN(const std::vector<double> seconds, timer.Seconds(plan.launches.size()));
  StepSize size{step_.num_tokens(), step_.num_logit_rows(), step_.num_tokens()};
  for (const StepRow& row : input.rows) size.attended_tokens += row.context_len;
  std::vector<LaunchProfile> profiles;
  int64_t bytes_before = 0;
  for (size_t i = 0; i < plan.launches.size(); ++i) {
    const plan::Launch& launch = plan.launches[i];
    const int64_t bytes = bytes_before + LaunchBytes(plan, launch, size, kv_layout_);
    // It runs with the attention behind it.
    bytes_before = launch.kind == OpKind::kRopeKvWrite ? bytes : 0;
    if (launch.kind == OpKind::kRopeKvWrite) continue;
    const plan::TacticChoice* tactic = TacticOf(plan, launch, size);
    profiles.push_back({.op = std::string(OpKindName(launch.kind)),
                        .name = launch.name,
                        .kernel = tactic == nullptr ? "" : tactic->kernel,
                        .seconds = seconds[i],
                        .bytes = bytes});
  }
  return profiles;
}

Status CudaSession::RunLaunches(const StepInput& input, const cuda::StepView& view,
                                LaunchTimer* timer) {
  context_.dependent = false;
  TRIREME_RETURN_IF_ERROR(step_.Prepare(view, sampler_.last_tokens(), context_));
  if (timer != nullptr) TRIREME_RETURN_IF_ERROR(timer->Begin(stream_.get()));
  context_.dependent = true;
  TRIREME_RETURN_IF_ERROR(program_->Run(CudaProgram::Part::kTrunk, view, context_, timer));
  TRIREME_RETURN_IF_ERROR(ComputeAllLogits(input));
  if (step_.num_logit_rows() > 0) {
    TRIREME_RETURN_IF_ERROR(program_->Run(CudaProgram::Part::kHead, view, context_, timer));
  }
  context_.dependent = false;
  return OkStatus();
}

// Before the pass whose logits are sampled: it leaves them where Sample reads.
Status CudaSession::ComputeAllLogits(const StepInput& input) {
  const int64_t vocab_size = engine_.plan.vocab_size;
  for (size_t i = 0; i < input.rows.size(); ++i) {
    if (!wants_all_[i]) continue;
    const int query_len = QueryLen(input.rows[i]);
    std::vector<float>& logits = row_logits_[static_cast<int>(i)];
    logits.resize(static_cast<size_t>(query_len * vocab_size));
    for (int first = 0; first < query_len; first += max_logit_rows_) {
      const int rows = std::min(max_logit_rows_, query_len - first);
      // [counts | rows]: the words of one pass.
      std::vector<int32_t> pass = {step_.num_tokens(), step_.num_rows(), rows,
                                   step_.max_query_len()};
      for (int r = 0; r < rows; ++r) {
        pass.push_back(step_.first_query(static_cast<int>(i)) + first + r);
      }
      static_assert(sizeof(cuda::StepCounts) == 4 * sizeof(int32_t));
      TRIREME_CUDA_RETURN_IF_ERROR(
          cudaMemcpyAsync(all_rows_.data(), pass.data(), pass.size() * sizeof(int32_t),
                          cudaMemcpyHostToDevice, stream_.get()),
          "copying logit rows");
      cuda::StepView view =
          step_.View(step_.num_tokens(), step_.num_rows(), rows, step_.max_query_len());
      view.counts = all_rows_.as<const cuda::StepCounts>();
      view.logit_rows = all_rows_.as<const int32_t>() + 4;
      TRIREME_RETURN_IF_ERROR(program_->Run(CudaProgram::Part::kHead, view, context_, nullptr));
      TRIREME_RETURN_IF_ERROR(ReadLogits(0, rows, logits, static_cast<size_t>(first * vocab_size)));
    }
  }
  return OkStatus();
}

// Waits for the GPU.
Status CudaSession::ReadLogits(int first_row, int num_rows, std::vector<float>& target,
                               size_t offset) {
  const int64_t vocab_size = engine_.plan.vocab_size;
  TRIREME_CUDA_RETURN_IF_ERROR(
      cudaMemcpyAsync(target.data() + offset, program_->logits() + first_row * vocab_size,
                      static_cast<size_t>(num_rows * vocab_size) * sizeof(float),
                      cudaMemcpyDeviceToHost, stream_.get()),
      "reading logits");
  return stream_.Synchronize();
}

Status CudaSession::Sample(std::span<const int> slots) {
  for (int slot : slots) {
    if (step_.logit_row_of_slot(slot) < 0) return Internal("sample: slot {} has no logits", slot);
  }
  TRIREME_ASSIGN_OR_RETURN(const CudaStep::SampleRows rows, step_.SampleRowsOf(slots, stream_));
  TRIREME_RETURN_IF_ERROR(sampler_.Sample(program_->logits(), rows.rows, rows.count,
                                          static_cast<int>(slots.size()), stream_, context_));
  clock_.Expect();
  return clock_.End(context_);
}

StatusOr<std::vector<SampledToken>> CudaSession::Await() {
  TRIREME_ASSIGN_OR_RETURN(std::vector<SampledToken> tokens, sampler_.Await());
  TRIREME_ASSIGN_OR_RETURN(last_timing_, clock_.Read());
  return tokens;
}

StatusOr<std::span<const float>> CudaSession::Logits(int row) {
  if (row < 0 || row >= static_cast<int>(wants_all_.size())) {
    return InvalidArgument("logits: the last step has no row {}", row);
  }
  const int logit_row = step_.logit_row(row);
  const auto [entry, added] = row_logits_.try_emplace(row);
  if (added && logit_row >= 0) {
    entry->second.resize(static_cast<size_t>(engine_.plan.vocab_size));
    TRIREME_RETURN_IF_ERROR(ReadLogits(logit_row, 1, entry->second, 0));
  }
  return std::span<const float>(entry->second);
}

}  // namespace trireme::engine

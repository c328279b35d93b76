// SPDX-License-Identifier: Apache-2.0
// Session on the CPU: steps run to their end inside Forward and Sample. Engine thread only.
#pragma once

#include <deque>
#include <memory>
#include <thread>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/thread_pool.h"
#include "engine/cpu_program.h"
#include "engine/engine_folder.h"
#include "engine/session.h"
#include "engine/weight_store.h"
#include "kernels/sampling.h"

namespace trireme::engine {

class CpuSession : public Session {
 public:
  static StatusOr<std::unique_ptr<Session>> Load(LoadedEngine engine,
                                                 const SessionOptions& options);

  const EngineInfo& info() const override { return info_; }
  const SessionLimits& limits() const override { return limits_; }
  const KvLayout& kv_layout() const override { return kv_layout_; }
  int num_kv_blocks() const override { return num_kv_blocks_; }
  int max_blocks_per_seq() const override { return max_blocks_per_seq_; }
  int kv_window() const override { return kv_window_; }

  void ResetSlot(int slot, const SlotRequest& request) override;
  Status Forward(const StepInput& input) override;
  StatusOr<std::vector<LaunchProfile>> ProfileForward(const StepInput& input) override;
  StatusOr<double> MeasureBandwidth() override;
  Status Sample(std::span<const int> slots) override;
  StatusOr<std::vector<SampledToken>> Await() override;
  StatusOr<std::span<const float>> Logits(int row) override;

 private:
  // What a slot keeps between steps.
  struct Slot {
    kernels::SamplingState sampling;
    TokenId last_token = 0;
    int logit_row = -1;  // row of the last Forward to sample from, or -1
  };
  // Logit rows [begin, begin + count) of the last Forward belong to one row of its input.
  struct LogitRange {
    int begin = 0;
    int count = 0;
  };

  CpuSession(LoadedEngine engine, const SessionOptions& options);
  Status Initialise(const SessionOptions& options);
  Status AllocateKvCache(const KvCacheConfig& config);
  void ApplyBlockChanges(const StepInput& input);
  void PackRow(const StepRow& row);

  LoadedEngine engine_;
  ThreadPool pool_;
  std::thread::id engine_thread_;  // the one that is pinned beside the pool's workers
  kernels::CpuContext context_;
  bool reference_;
  EngineInfo info_;
  SessionLimits limits_;
  KvLayout kv_layout_;
  int num_kv_blocks_ = 0;
  int max_blocks_per_seq_ = 0;
  int kv_window_ = 0;
  WeightStore weights_;
  std::unique_ptr<CpuProgram> program_;
  std::vector<double> launch_seconds_;  // of the last Forward while profiling, else empty
  AlignedBuffer kv_pool_;
  AlignedBuffer sample_workspace_;
  std::vector<Slot> slots_;
  std::vector<int32_t> slot_block_tables_;  // [max_batch_size, max_blocks_per_seq]

  // The packed step; capacities are reserved once.
  std::vector<int32_t> token_ids_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> cu_query_lens_;
  std::vector<int32_t> context_lens_;
  std::vector<int32_t> block_tables_;
  std::vector<int32_t> logit_rows_;
  std::vector<LogitRange> row_logits_;
  std::vector<kernels::SampleRow> sample_rows_;
  std::deque<std::vector<SampledToken>> sampled_;
};

}  // namespace trireme::engine

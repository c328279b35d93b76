// SPDX-License-Identifier: Apache-2.0
// CpuProgram: a plan bound to CPU kernels, weights and memory; runs one step without allocating.
// Engine thread only.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/aligned_buffer.h"
#include "engine/session.h"
#include "engine/weight_store.h"
#include "kernels/cpu_context.h"
#include "kernels/step_view.h"
#include "plan/plan.h"

namespace trireme::engine {

// One step as the launches see it.
struct StepFrame {
  kernels::StepView step;
  kernels::KvCacheView kv;
};

struct ProgramOptions {
  int64_t max_tokens = 0;
  int64_t max_logit_rows = 0;
  int max_seqs = 0;
  int max_seq_len = 0;
  int tokens_per_block = 0;
  LinearObserver observe_linear;   // empty: nobody looks
  bool reference_kernels = false;  // the plain C++ meaning of every op
};

class CpuProgram {
 public:
  // Borrows plan, weights and context, which must outlive the program.
  static StatusOr<std::unique_ptr<CpuProgram>> Bind(const plan::Plan& plan,
                                                    const WeightStore& weights,
                                                    kernels::CpuContext& context,
                                                    const ProgramOptions& options);

  void Run(const StepFrame& frame);
  // The same; sets the seconds of each launch of the plan.
  void RunTimed(const StepFrame& frame, std::span<double> seconds);

  // Row-major [num_logit_rows, vocab_size], valid until the next Run.
  const float* logits() const;
  // Bytes of address space the program holds; pages are taken when first used.
  int64_t arena_bytes() const { return arena_.size(); }

 private:
  friend class LaunchBinder;
  using LaunchFn = std::function<void(const StepFrame&)>;

  explicit CpuProgram(const plan::Plan& plan) : plan_(plan) {}

  const plan::Plan& plan_;
  plan::MemoryPlan memory_;
  AlignedBuffer arena_;
  AlignedBuffer workspace_;
  AlignedBuffer float8_input_;                       // the input of an FP8 layer as FP8 rounds it
  std::vector<std::shared_ptr<const void>> tables_;  // rotary tables the launches point into
  std::vector<LaunchFn> launches_;
};

}  // namespace trireme::engine

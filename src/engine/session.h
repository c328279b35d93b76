// SPDX-License-Identifier: Apache-2.0
// Session: one loaded engine on one device, executed step by step. Engine thread only.
//
// A step is two submissions. Forward runs the packed tokens of all scheduled sequences and leaves
// the wanted logits on the device; Sample turns logits of chosen rows into tokens, which stay in
// each slot's device state (a later Forward may name them as "the last sampled token") and are read
// back by Await. The executor owns the slots; the session owns what lies in them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/cpu_features.h"
#include "tensor/kv_layout.h"
#include "trireme/executor.h"
#include "trireme/request.h"
#include "trireme/status.h"

namespace trireme::engine {

// Which rows of a sequence's queries get logits.
enum class LogitsWanted { kNone, kLast, kAll };

struct StepRow {
  int slot = 0;
  // Tokens given by the host; empty: one token, the last one sampled for the slot.
  std::span<const TokenId> tokens;
  // Tokens of the slot already in the cache. Must equal what earlier steps wrote (or reused blocks
  // hold); a lower value than before rewinds the slot.
  int context_len = 0;
  LogitsWanted logits = LogitsWanted::kLast;
};

// Entry `index` of a slot's block table becomes `block`.
struct BlockTableDelta {
  int slot = 0;
  int index = 0;
  int32_t block = 0;
};

// A whole KV block copied before the step runs.
struct BlockCopy {
  int32_t from = 0;
  int32_t to = 0;
};

struct StepInput {
  std::vector<StepRow> rows;
  std::vector<BlockTableDelta> block_table_deltas;
  std::vector<BlockCopy> block_copies;
};

// What a slot must know to sample and stop. Borrowed vectors are copied.
struct SlotRequest {
  SamplingParams sampling;
  std::span<const TokenId> prompt;     // counts as seen for the penalties
  std::span<const TokenId> generated;  // already generated before a pause, in order
  std::vector<TokenId> end_ids;
  int max_tokens = 0;  // new tokens in total, those in `generated` included
  std::span<const std::vector<TokenId>> bad_words;
  std::span<const std::vector<TokenId>> stop_words;
  std::span<const float> embedding_bias;
  bool log_probs = false;
};

struct SampledToken {
  int slot = 0;
  TokenId token = 0;
  FinishReason finish = FinishReason::kNotFinished;  // decided on the device
  float log_prob = 0.0f;                             // when asked for
  bool bad_logits = false;  // no finite number is the largest logit: the token means nothing
};

// One launch of a step that was timed by itself.
struct LaunchProfile {
  std::string op;
  std::string name;
  std::string kernel;  // of a linear layer
  double seconds = 0;
  int64_t bytes = 0;  // moved at least
};

// How the device spent a step that has been awaited.
struct StepTiming {
  double idle_us = 0;  // no launch ran since the step before; 0 for the first step
  double busy_us = 0;  // from the first launch to the end of sampling
  int launches = 0;    // submitted by the host: kernels and graphs, copies not counted
};

struct SessionLimits {
  int max_batch_size = 0;  // slots
  int max_num_tokens = 0;  // packed tokens of a step
  int max_seq_len = 0;
};

// Sees the input of every linear layer before it runs: its name and rows of float32. For
// calibration.
using LinearObserver = std::function<void(std::string_view name, const float* x, int64_t x_stride,
                                          int64_t num_rows, int64_t size)>;

struct SessionOptions {
  SessionLimits limits;  // zeros: the engine's own
  KvCacheConfig kv_cache;
  int num_threads = 0;
  bool reference_backend = false;
  LinearObserver observe_linear;  // CPU engines only
  bool cuda_graphs = true;        // decode steps are replayed from captured graphs
  // CPU: no kernel beyond it is taken, linear layers excepted: the plan names theirs. For tests.
  Isa max_isa = Isa::kAvx512;
};

class Session {
 public:
  static StatusOr<std::unique_ptr<Session>> Load(const std::string& engine_path,
                                                 const SessionOptions& options);
  virtual ~Session() = default;

  virtual const EngineInfo& info() const = 0;
  virtual const SessionLimits& limits() const = 0;
  virtual const KvLayout& kv_layout() const = 0;
  virtual int num_kv_blocks() const = 0;
  virtual int max_blocks_per_seq() const = 0;
  // Tokens of a slot that lie this many or more before its next one are never read again: their
  // blocks may be given back. 0: everything stays in use.
  virtual int kv_window() const { return 0; }

  // Steps that may be submitted before the oldest is awaited: 2 where the device runs behind the
  // host.
  virtual int max_steps_in_flight() const { return 1; }

  // Begins a request in a slot, forgetting what was there.
  virtual void ResetSlot(int slot, const SlotRequest& request) = 0;

  // Runs the model. Every span in `input` must stay valid until Forward returns. An error is fatal
  // for the session.
  virtual Status Forward(const StepInput& input) = 0;

  // Forward with every launch timed by itself, in the plan's order, for reports: on a device that
  // overlaps launches the sum exceeds a step's time.
  virtual StatusOr<std::vector<LaunchProfile>> ProfileForward(const StepInput& input) {
    (void)input;
    return Status(StatusCode::kUnimplemented, "launches are not timed on this device yet");
  }

  // Bytes per second that the memory of the weights gives to a reader, measured now.
  virtual StatusOr<double> MeasureBandwidth() {
    return Status(StatusCode::kUnimplemented, "this session measures no bandwidth");
  }

  // Samples one token for each of `slots`, each of which had logits kLast or kAll in the last
  // Forward; from its last row.
  virtual Status Sample(std::span<const int> slots) = 0;

  // Tokens of the oldest Sample not yet awaited, in the order of its slots.
  virtual StatusOr<std::vector<SampledToken>> Await() = 0;

  // Of the step that Await returned last; none where the device does not run behind the host.
  virtual std::optional<StepTiming> LastTiming() const { return std::nullopt; }

  // Logits of the last Forward for the `row`-th entry of its StepInput::rows: float32
  // [1 or query_len, vocab_size]. Valid until the next Forward.
  virtual StatusOr<std::span<const float>> Logits(int row) = 0;
};

}  // namespace trireme::engine

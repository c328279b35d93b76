// SPDX-License-Identifier: Apache-2.0
#include "bench_profile.h"

#include <algorithm>
#include <map>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "base/status.h"
#include "engine/session.h"

namespace trireme::cli {
namespace {

using Json = nlohmann::ordered_json;
using engine::LaunchProfile;
using engine::StepInput;

// Block 0 is the session's.
constexpr int32_t kFirstBlock = 1;

class Profiler {
 public:
  Profiler(engine::Session& session, const ProfileOptions& options)
      : session_(session), options_(options) {
    prompt_.resize(static_cast<size_t>(options.prompt_tokens));
    for (size_t i = 0; i < prompt_.size(); ++i) {
      prompt_[i] = static_cast<TokenId>(i * 7919 % session.info().model.vocab_size);
    }
  }

  Status CheckFit() const {
    const engine::SessionLimits& limits = session_.limits();
    if (options_.num_seqs > limits.max_batch_size) {
      return InvalidArgument("--concurrency {} exceeds the engine's max_batch_size {}",
                             options_.num_seqs, limits.max_batch_size);
    }
    if (options_.prompt_tokens > limits.max_num_tokens ||
        options_.prompt_tokens >= limits.max_seq_len) {
      return InvalidArgument(
          "--input_len {} does not fit one step: max_num_tokens is {}, max_seq_len {}",
          options_.prompt_tokens, limits.max_num_tokens, limits.max_seq_len);
    }
    const int64_t blocks = int64_t{options_.num_seqs} * BlocksPerSeq();
    if (blocks > session_.num_kv_blocks() - kFirstBlock) {
      return ResourceExhausted("the KV cache has {} blocks, {} are needed; lower --concurrency",
                               session_.num_kv_blocks() - kFirstBlock, blocks);
    }
    return OkStatus();
  }

  StatusOr<Json> Run() {
    TRIREME_RETURN_IF_ERROR(CheckFit());
    TRIREME_ASSIGN_OR_RETURN(bandwidth_, session_.MeasureBandwidth());
    StepInput prefill;
    for (int slot = 0; slot < options_.num_seqs; ++slot) {
      session_.ResetSlot(slot, {.prompt = prompt_, .max_tokens = 1});
      for (int i = 0; i < BlocksPerSeq(); ++i) {
        prefill.block_table_deltas.push_back({slot, i, kFirstBlock + slot * BlocksPerSeq() + i});
      }
    }
    Json json = {{"read_bandwidth_gb_per_s", bandwidth_ * 1e-9}};
    prefill.rows = {Prompt(0)};
    TRIREME_ASSIGN_OR_RETURN(json["prefill"], Measure(prefill));
    if (options_.num_seqs > 1) {
      const int fitting = session_.limits().max_num_tokens / options_.prompt_tokens;
      StepInput packed;
      for (int slot = 0; slot < std::min(options_.num_seqs, fitting); ++slot) {
        packed.rows.push_back(Prompt(slot));
      }
      TRIREME_ASSIGN_OR_RETURN(json["packed_prefill"], Measure(packed));
    }
    StepInput decode;
    for (int slot = 0; slot < options_.num_seqs; ++slot) {
      StepInput fill;
      fill.rows = {Prompt(slot)};
      TRIREME_RETURN_IF_ERROR(session_.Forward(fill));
      decode.rows.push_back({.slot = slot,
                             .tokens = std::span(prompt_).first(1),
                             .context_len = options_.prompt_tokens});
    }
    if (options_.num_seqs > 1) {
      StepInput mixed;
      const int half = options_.num_seqs / 2;
      mixed.rows.assign(decode.rows.begin(), decode.rows.begin() + half);
      const int fitting = (session_.limits().max_num_tokens - half) / options_.prompt_tokens;
      for (int i = 0; i < std::min(options_.num_seqs - half, fitting); ++i) {
        mixed.rows.push_back(Prompt(half + i));
      }
      TRIREME_ASSIGN_OR_RETURN(json["mixed"], Measure(mixed));
    }
    TRIREME_ASSIGN_OR_RETURN(json["decode"], Measure(decode));
    json["ops"] = json["decode"]["by_op"];  // what one who looks for one table wants
    return json;
  }

 private:
  engine::StepRow Prompt(int slot) const {
    return {.slot = slot, .tokens = prompt_, .context_len = 0};
  }
  int BlocksPerSeq() const { return options_.prompt_tokens / session_.kv_layout().block_size + 1; }

  // Medians over the runs of each launch.
  StatusOr<Json> Measure(const StepInput& input) {
    TRIREME_RETURN_IF_ERROR(session_.Forward(input));  // touches what is touched once
    std::vector<std::vector<double>> times;
    std::vector<LaunchProfile> launches;
    for (int run = 0; run < options_.num_runs; ++run) {
      TRIREME_ASSIGN_OR_RETURN(launches, session_.ProfileForward(input));
      times.resize(launches.size());
      for (size_t i = 0; i < launches.size(); ++i) times[i].push_back(launches[i].seconds);
    }
    for (size_t i = 0; i < launches.size(); ++i) {
      const auto middle = times[i].begin() + static_cast<std::ptrdiff_t>(times[i].size() / 2);
      std::nth_element(times[i].begin(), middle, times[i].end());
      launches[i].seconds = *middle;
    }
    return Report(input, launches);
  }

  Json Report(const StepInput& input, const std::vector<LaunchProfile>& launches) const {
    size_t tokens = 0;
    for (const engine::StepRow& row : input.rows) tokens += row.tokens.size();
    LaunchProfile all;
    std::map<std::string, LaunchProfile> by_op;
    Json list = Json::array();
    for (const LaunchProfile& launch : launches) {
      for (LaunchProfile* sum : {&all, &by_op[launch.op]}) {
        sum->seconds += launch.seconds;
        sum->bytes += launch.bytes;
      }
      Json json = {{"op", launch.op}, {"name", launch.name}};
      if (!launch.kernel.empty()) json["kernel"] = launch.kernel;
      json.update(Numbers(launch));
      list.push_back(std::move(json));
    }
    Json ops = Json::object();
    for (const auto& [op, sum] : by_op) {
      ops[op] = Numbers(sum);
      ops[op]["share_of_time"] = all.seconds > 0 ? sum.seconds / all.seconds : 0.0;
    }
    Json json = {{"num_seqs", input.rows.size()}, {"num_tokens", tokens}};
    json.update(Numbers(all));
    json["by_op"] = std::move(ops);
    json["launches"] = std::move(list);
    return json;
  }

  Json Numbers(const LaunchProfile& launch) const {
    const double rate =
        launch.seconds > 0 ? static_cast<double>(launch.bytes) / launch.seconds : 0.0;
    return {{"time_us", launch.seconds * 1e6},
            {"bytes", launch.bytes},
            {"gb_per_s", rate * 1e-9},
            {"share_of_bandwidth", bandwidth_ > 0 ? rate / bandwidth_ : 0.0}};
  }

  engine::Session& session_;
  const ProfileOptions& options_;
  double bandwidth_ = 0;
  std::vector<TokenId> prompt_;
};

}  // namespace

StatusOr<nlohmann::ordered_json> ProfileSteps(const std::string& engine,
                                              const ExecutorConfig& config,
                                              const ProfileOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(
      const std::unique_ptr<engine::Session> session,
      engine::Session::Load(engine, {.limits = {.max_batch_size = config.max_batch_size,
                                                .max_num_tokens = config.max_num_tokens,
                                                .max_seq_len = config.max_seq_len},
                                     .kv_cache = config.kv_cache,
                                     .num_threads = config.num_threads}));
  // On a thread of its own: a session keeps the thread that runs it on one processor.
  StatusOr<Json> profile = Internal("the profile did not run");
  std::thread([&] { profile = Profiler(*session, options).Run(); }).join();
  return profile;
}

}  // namespace trireme::cli

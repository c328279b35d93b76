// SPDX-License-Identifier: Apache-2.0
// trireme bench: throughput and latency of an engine. Replaces gptManagerBenchmark and trtllm-bench.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "base/cpu_features.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "base/memory_bandwidth.h"
#include "base/status.h"
#include "base/version.h"
#include "bench_profile.h"
#include "cli.h"
#include "commands.h"
#include "device_flags.h"
#include "executor/validation.h"
#include "resolve_model.h"
#include "trireme/executor.h"

namespace trireme::cli {
namespace {

constexpr std::string_view kName = "bench";
using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

struct Flags {
  std::string mode;
  std::string engine_dir = "engine_outputs";
  int input_len = 128;
  int output_len = 128;
  int num_requests = 32;
  int concurrency = 0;       // 0: all requests at once
  double request_rate = -1;  // requests per second; below 0: none waits for its time
  bool exponential = false;
  std::string profile;
  int warm_up = 2;
  int num_runs = 5;
  uint64_t seed = 420;
  std::string output_json;
  ResolveOptions resolve;
  ExecutorConfig executor;
  DeviceFlags device;
  std::string log_level = "warning";
};

void AddFlags(CommandLine& line, Flags& f) {
  line.AddPositional("mode", f.mode, "throughput or latency");
  line.Add("--engine_dir", f.engine_dir, "engine, or what `trireme serve` takes as a model");
  line.Add("--input_len", f.input_len, "tokens of each prompt (random ids)", kPositive);
  line.Add("--output_len", f.output_len, "new tokens of each request; the end token is ignored",
           kPositive);
  line.Add("--num_requests", f.num_requests, "throughput: requests in all", kPositive);
  line.Add("--concurrency", f.concurrency, "throughput: requests at once; 0: all", kNotNegative);
  line.Add(
      "--request_rate", f.request_rate,
      "throughput: requests arrive at that many per second, whether earlier ones have ended or "
      "not; -1: at once",
      {-1, 1e9});
  line.AddSwitch("--enable_exp_delays", f.exponential,
                 "with --request_rate: exponential times between arrivals (a Poisson process), not "
                 "equal ones");
  line.Add("--profile", f.profile,
           "write time and bytes of each launch of a prefill and of a decode step, as JSON");
  line.Add("--warm_up,--warmup", f.warm_up, "requests (throughput) or runs (latency) before timing",
           kNotNegative);
  line.Add("--num_runs", f.num_runs, "latency: timed runs, one request each", kPositive);
  line.Add("--random_seed", f.seed, "of the prompts");
  line.Add("--output_json", f.output_json, "write the result there; it is printed in any case");
  line.Add("--device", f.resolve.device,
           "device of an engine built here: cpu, cuda, or auto (cuda where a GPU is found)");
  line.Add("--dtype", f.resolve.dtype, "of an engine built here");
  line.Add("--max_batch_size", f.executor.max_batch_size, "0: as built", kBatchSizes);
  line.Add("--max_num_tokens", f.executor.max_num_tokens, "0: as built", kTokenCounts);
  line.Add("--num_threads", f.executor.num_threads, "0: one per processor", kThreads);
  line.Add("--kv_cache_free_gpu_mem_fraction,--kv_cache_free_gpu_memory_fraction",
           f.executor.kv_cache.free_memory_fraction, "share of free memory for the KV cache");
  AddDeviceFlags(line, f.device);
  line.Add("--log_level", f.log_level, "verbosity: debug, info, warning, error");
  line.AddNoEffect("--streaming", "first tokens are always timed");
  line.AddNoEffect("--eos_id", "the end token is always ignored");
  line.AddRefused("--dataset", "prompts are random ids of a fixed length");
  line.AddRefused("--beam_width", "beam search does not exist yet", {"1"});
}

// Times of one request, seconds since the run began.
struct Timing {
  double start = 0;
  double first = 0;
  double end = 0;
  int tokens = 0;
};

double Percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double at = share * static_cast<double>(values.size() - 1);
  const size_t low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (values[high] - values[low]) * (at - static_cast<double>(low));
}

Json Percentiles(const std::vector<double>& seconds) {
  double sum = 0;
  for (double value : seconds) sum += value;
  return {{"mean", seconds.empty() ? 0 : 1e3 * sum / static_cast<double>(seconds.size())},
          {"p50", 1e3 * Percentile(seconds, 0.5)},
          {"p90", 1e3 * Percentile(seconds, 0.9)},
          {"p99", 1e3 * Percentile(seconds, 0.99)},
          {"max", 1e3 * Percentile(seconds, 1.0)}};
}

class Bench {
 public:
  Bench(const Flags& flags, Executor& executor)
      : flags_(flags), executor_(executor), random_(flags.seed) {}

  Request MakeRequest() {
    Request request;
    std::uniform_int_distribution<TokenId> token(0, executor_.Info().model.vocab_size - 1);
    for (int i = 0; i < flags_.input_len; ++i) request.prompt.push_back(token(random_));
    request.max_tokens = flags_.output_len;
    request.streaming = true;
    request.sampling.top_k = 1;
    return request;
  }

  // Runs a request for each arrival (seconds from the begin), with at most `concurrency` at once;
  // returns their times. A request that waits for its turn waits from its arrival on.
  StatusOr<std::vector<Timing>> Run(const std::vector<double>& arrivals, int concurrency) {
    const size_t count = arrivals.size();
    std::vector<Timing> timings(count);
    std::map<RequestId, size_t> running;
    const Clock::time_point begin = Clock::now();
    const auto since_begin = [&](Clock::time_point time) {
      return std::chrono::duration<double>(time - begin).count();
    };
    const auto now = [&] { return since_begin(Clock::now()); };
    size_t next = 0;
    size_t finished = 0;
    while (finished < timings.size()) {
      while (next < count && static_cast<int>(running.size()) < concurrency &&
             arrivals[next] <= now()) {
        timings[next].start = arrivals[next] > 0 ? arrivals[next] : now();
        TRIREME_ASSIGN_OR_RETURN(const RequestId id, executor_.Enqueue(MakeRequest()));
        running[id] = next++;
      }
      auto timeout = std::chrono::milliseconds::max();
      if (next < count && static_cast<int>(running.size()) < concurrency) {
        timeout = std::chrono::milliseconds(
            1 + static_cast<int64_t>(1e3 * std::max(0.0, arrivals[next] - now())));
      }
      for (const Response& response : executor_.AwaitResponses(std::nullopt, timeout)) {
        TRIREME_RETURN_IF_ERROR(response.error);
        const auto entry = running.find(response.request_id);
        if (entry == running.end()) continue;
        Timing& timing = timings[entry->second];
        timing.tokens += static_cast<int>(response.tokens.size());
        if (!response.is_final) continue;
        // The engine's own times: this thread may be late to look.
        timing.first = since_begin(response.times.first);
        timing.end = since_begin(response.times.last);
        running.erase(entry);
        ++finished;
      }
    }
    return timings;
  }

  StatusOr<Json> Throughput() {
    const int concurrency = flags_.concurrency > 0 ? flags_.concurrency : flags_.num_requests;
    TRIREME_RETURN_IF_ERROR(WarmUp(std::min(flags_.warm_up, concurrency)));
    TRIREME_ASSIGN_OR_RETURN(const std::vector<Timing> timings, Run(Arrivals(), concurrency));
    double begin = 1e300;
    double end = 0;
    for (const Timing& t : timings) {
      begin = std::min(begin, t.start);
      end = std::max(end, t.end);
    }
    Json result = Summary(timings, end - begin);
    result["concurrency"] = concurrency;
    AddDeviceTimes(result);
    if (flags_.request_rate > 0) {
      result["request_rate"] = flags_.request_rate;
      result["arrivals"] = flags_.exponential ? "exponential" : "equal";
    }
    return result;
  }

  StatusOr<Json> Latency() {
    TRIREME_RETURN_IF_ERROR(WarmUp(1));
    // One token reads every weight once: bytes over time; on the CPU beside what memory gave right
    // before and after the run.
    std::optional<ReadBandwidthMeter> meter;
    if (executor_.Info().device.starts_with("cpu")) meter.emplace(flags_.executor.num_threads);
    const double bytes = static_cast<double>(executor_.Info().weight_bytes);
    std::vector<Timing> timings;
    std::vector<double> steps;
    std::vector<double> bandwidths;
    std::vector<double> shares;
    const double hop_ns = meter ? ProcessorHopNs() : 0;
    double before = meter ? meter->Measure() : 0;
    for (int run = 0; run < flags_.num_runs; ++run) {
      TRIREME_ASSIGN_OR_RETURN(const std::vector<Timing> one, Run(AtOnce(1), 1));
      const Timing& t = one.front();
      timings.push_back(t);
      if (t.tokens > 1) steps.push_back((t.end - t.first) / (t.tokens - 1));
      if (!meter) continue;
      const double after = meter->Measure();
      bandwidths.push_back((before + after) / 2);
      before = after;
      if (t.tokens > 1) shares.push_back(bytes / steps.back() / bandwidths.back());
    }
    double seconds = 0;
    for (const Timing& t : timings) seconds += t.end - t.start;
    Json result = Summary(timings, seconds);
    const double step_s = Percentile(steps, 0.5);
    result["decode_tokens_per_s"] = step_s > 0 ? 1.0 / step_s : 0.0;
    result["prefill_tokens_per_s"] = flags_.input_len / Percentile(FirstTokenTimes(timings), 0.5);
    result["weight_bytes"] = executor_.Info().weight_bytes;
    result["weights_gb_per_s"] = step_s > 0 ? bytes / step_s * 1e-9 : 0.0;
    if (!meter) return result;
    result["read_bandwidth_gb_per_s"] = Percentile(bandwidths, 0.5) * 1e-9;
    result["share_of_bandwidth"] = Percentile(shares, 0.5);
    result["share_of_bandwidth_best"] = Percentile(shares, 1.0);
    result["processor_hop_ns"] = hop_ns;
    return result;
  }

 private:
  static std::vector<double> AtOnce(int count) {
    return std::vector<double>(static_cast<size_t>(count), 0.0);
  }

  Status WarmUp(int concurrency) {
    return flags_.warm_up > 0 ? Run(AtOnce(flags_.warm_up), concurrency).status() : OkStatus();
  }

  std::vector<double> Arrivals() {
    std::vector<double> arrivals = AtOnce(flags_.num_requests);
    if (flags_.request_rate <= 0) return arrivals;
    std::exponential_distribution<double> delay(flags_.request_rate);
    for (size_t i = 1; i < arrivals.size(); ++i) {
      arrivals[i] =
          arrivals[i - 1] + (flags_.exponential ? delay(random_) : 1.0 / flags_.request_rate);
    }
    return arrivals;
  }

  static std::vector<double> FirstTokenTimes(const std::vector<Timing>& timings) {
    std::vector<double> times;
    for (const Timing& t : timings) times.push_back(t.first - t.start);
    return times;
  }

  // From the statistics of the latest iterations, on a GPU: steps that only decode behind others
  // that do, and the rest.
  void AddDeviceTimes(Json& result) {
    struct Steps {
      std::vector<double> idle;
      std::vector<double> busy;
      int launches = 0;
    };
    Steps decode;
    Steps other;
    bool after_decode = false;
    for (const IterationStats& stats : executor_.LatestIterationStats()) {
      if (stats.device_launches == 0) continue;
      const bool decodes = stats.num_ctx_tokens == 0;
      Steps& steps = decodes && after_decode ? decode : other;
      steps.idle.push_back(1e-6 * stats.device_idle_us);
      steps.busy.push_back(1e-6 * stats.device_busy_us);
      steps.launches = std::max(steps.launches, stats.device_launches);
      after_decode = decodes;
    }
    for (const auto& [name, steps] :
         {std::pair("decode_steps", &decode), {"other_steps", &other}}) {
      if (steps->busy.empty()) continue;
      result[name] = {{"count", steps->busy.size()},
                      {"device_idle_ms", Percentiles(steps->idle)},
                      {"device_busy_ms", Percentiles(steps->busy)},
                      {"most_launches", steps->launches}};
    }
  }

  // `seconds`: how long the requests took together.
  Json Summary(const std::vector<Timing>& timings, double seconds) const {
    int64_t tokens = 0;
    std::vector<double> itl;
    std::vector<double> latency;
    for (const Timing& t : timings) {
      tokens += t.tokens;
      latency.push_back(t.end - t.start);
      if (t.tokens > 1) itl.push_back((t.end - t.first) / (t.tokens - 1));
    }
    const int64_t prompt_tokens = int64_t{flags_.input_len} * static_cast<int64_t>(timings.size());
    return {{"num_requests", timings.size()},
            {"input_len", flags_.input_len},
            {"output_len", flags_.output_len},
            {"seconds", seconds},
            {"requests_per_s", static_cast<double>(timings.size()) / seconds},
            {"output_tokens_per_s", static_cast<double>(tokens) / seconds},
            {"total_tokens_per_s", static_cast<double>(tokens + prompt_tokens) / seconds},
            {"time_to_first_token_ms", Percentiles(FirstTokenTimes(timings))},
            {"inter_token_latency_ms", Percentiles(itl)},
            {"request_latency_ms", Percentiles(latency)}};
  }

  const Flags& flags_;
  Executor& executor_;
  std::mt19937_64 random_;
};

Status FinishFlags(Flags& f, const CommandLine& line) {
  if (f.mode != "throughput" && f.mode != "latency") {
    return InvalidArgument(
        "say what to measure: trireme bench throughput, or trireme bench latency");
  }
  if (f.request_rate == 0 || (f.request_rate < 0 && f.exponential)) {
    return InvalidArgument("--request_rate {} is no rate; give requests per second above 0",
                           f.request_rate);
  }
  if (f.mode == "latency" && (f.request_rate > 0 || line.Given("--num_requests"))) {
    return InvalidArgument(
        "--request_rate and --num_requests go with throughput; latency runs one at a time, as "
        "often "
        "as --num_runs says");
  }
  if (f.mode == "throughput" && line.Given("--num_runs")) {
    return InvalidArgument("--num_runs goes with latency; throughput runs --num_requests once");
  }
  TRIREME_RETURN_IF_ERROR(CheckOutputPath("--profile", f.profile));
  TRIREME_RETURN_IF_ERROR(ApplyDeviceFlags(f.device, f.executor));
  TRIREME_RETURN_IF_ERROR(CheckOptions(f.resolve));
  TRIREME_RETURN_IF_ERROR(executor::ValidateConfig(f.executor));
  return CheckOutputPath("--output_json", f.output_json);
}

// Apart from the measured run: its session has the machine for itself.
Status WriteProfile(const Flags& flags, const std::string& engine) {
  TRIREME_ASSIGN_OR_RETURN(Json steps, ProfileSteps(engine, flags.executor,
                                                    {.prompt_tokens = flags.input_len,
                                                     .num_seqs = std::max(1, flags.concurrency)}));
  Json json = {{"engine", flags.engine_dir}};
  json.update(steps);
  return WriteFile(flags.profile, json.dump(2) + "\n");
}

Status RunBenchmark(const Flags& flags) {
  TRIREME_ASSIGN_OR_RETURN(const std::string engine,
                           ResolveEngine(flags.engine_dir, flags.resolve, PlacesFromEnvironment()));
  if (!flags.profile.empty()) TRIREME_RETURN_IF_ERROR(WriteProfile(flags, engine));
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<Executor> executor,
                           Executor::Create(engine, flags.executor));
  Bench bench(flags, *executor);
  TRIREME_ASSIGN_OR_RETURN(Json measured,
                           flags.mode == "latency" ? bench.Latency() : bench.Throughput());
  Json result = {{"benchmark", flags.mode},
                 {"engine", flags.engine_dir},
                 {"model", executor->Info().model.architecture},
                 {"dtype", executor->Info().model.dtype},
                 {"quant_algo", executor->Info().model.quantization.quant_algo},
                 {"device", executor->Info().device},
                 {"cpu", CpuFeaturesText(HostCpuFeatures())},
                 {"version", std::string(Version())},
                 {"commit", std::string(BuildCommit())}};
  result.update(measured);
  const std::string text = result.dump(2) + "\n";
  fmt::print("{}", text);
  return flags.output_json.empty() ? OkStatus() : WriteFile(flags.output_json, text);
}

}  // namespace

int RunBench(std::span<const std::string> arguments) {
  Flags flags;
  CommandLine line(kName, "Measure an engine: throughput of many requests, or latency of one.",
                   {"trireme bench throughput --engine_dir engine --input_len 128 --output_len 128 "
                    "--num_requests 256",
                    "trireme bench latency --engine_dir engine --input_len 512 --output_len 128"});
  AddFlags(line, flags);
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  for (const Status& status :
       {SetLogLevel(flags.log_level).WithContext("--log_level"), FinishFlags(flags, line)}) {
    if (!status.ok()) return FailUsage(kName, status);
  }
  const Status status = RunBenchmark(flags);
  return status.ok() ? kExitOk : Fail(kName, status);
}

}  // namespace trireme::cli

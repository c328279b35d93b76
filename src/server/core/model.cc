// SPDX-License-Identifier: Apache-2.0
#include "server/core/model.h"

#include <algorithm>

#include "base/status.h"
#include "server/batching/queue_scheduler.h"
#include "server/batching/sequence_scheduler.h"

namespace trireme::server {
namespace {

bool NeedsQueue(const BackendModel& backend, const ModelConfig& config) {
  switch (backend.style()) {
    case BackendModel::Style::kBlocking: return true;
    case BackendModel::Style::kImmediate:
      return config.dynamic_batching.has_value() || config.sequence_batching.has_value();
    case BackendModel::Style::kContinuous: return config.sequence_batching.has_value();
  }
  return true;
}

// "[request id: 7] "
std::string Prefix(const InferRequest& request) {
  return fmt::format("[request id: {}] ", request.id.empty() ? "<id_unknown>" : request.id);
}

bool ShapeFits(std::span<const int64_t> shape, std::span<const int64_t> dims) {
  return std::equal(shape.begin(), shape.end(), dims.begin(), dims.end(),
                    [](int64_t have, int64_t want) { return want == -1 || have == want; });
}

// The values of `shape` for the -1 of `from`, in order, put in the place of the -1 of `to`.
Dims Reshape(std::span<const int64_t> shape, const Dims& from, const Dims& to) {
  std::vector<int64_t> variable;
  for (size_t i = 0; i < from.size() && i < shape.size(); ++i) {
    if (from[i] == -1) variable.push_back(shape[i]);
  }
  Dims result;
  size_t next = 0;
  for (const int64_t dim : to) {
    const bool take = dim == -1 && next < variable.size();
    result.push_back(take ? variable[next++] : dim);
  }
  return result;
}

}  // namespace

Labels ModelLabels(const ModelConfig& config, int64_t version) {
  Labels labels = {{"model", config.name}, {"version", std::to_string(version)}};
  for (const auto& [name, value] : config.metric_tags) labels["_" + name] = value;
  return labels;
}

Model::Model(ModelConfig config, int64_t version, std::unique_ptr<BackendModel> backend,
             MetricsRegistry& registry, ResponseCache* cache)
    : config_(std::move(config)),
      version_(version),
      statistics_(registry, ModelLabels(config_, version)),
      backend_(std::move(backend)),
      cache_(config_.response_cache ? cache : nullptr) {
  for (const TensorConfig& input : config_.inputs) num_required_inputs_ += input.optional ? 0 : 1;
  if (!NeedsQueue(*backend_, config_)) return;
  AddBatchMetrics(registry);
  StartScheduler();
}

void Model::AddBatchMetrics(MetricsRegistry& registry) {
  const Labels labels = ModelLabels(config_, version_);
  registry.AddGauge("nv_inference_pending_request_count",
                    "Instantaneous number of pending requests awaiting execution per-model", labels,
                    [pending = pending_] { return static_cast<double>(pending->load()); });
  for (int reason = 0; reason < 6; ++reason) {
    Labels with_reason = labels;
    with_reason["reason"] = BatchCloseName(static_cast<BatchClose>(reason));
    batch_closed_[reason] = &registry.AddCounter(
        "trireme_batches_closed", "Batches by what ended their forming", with_reason);
  }
}

void Model::StartScheduler() {
  const bool ordered = (config_.dynamic_batching && config_.dynamic_batching->preserve_ordering) ||
                       (config_.sequence_batching && config_.sequence_batching->preserve_ordering);
  if (ordered) ordered_ = std::make_shared<OrderedRelease>();
  const auto run = [this](std::span<const std::shared_ptr<InferCall>> batch, int instance,
                          BatchClose reason) {
    batch_closed_[static_cast<int>(reason)]->Add(1);
    Run(batch, instance);
  };
  if (config_.sequence_batching) {
    scheduler_ = SequenceScheduler::Start(config_, run);
  } else {
    scheduler_ = QueueScheduler::Start(config_, run);
  }
}

Model::~Model() { StopScheduling(); }

void Model::StopScheduling() {
  if (scheduler_ != nullptr) scheduler_->Stop();
}

Status Model::CheckInput(Tensor& input, InferRequest& request) const {
  const TensorConfig* declared = config_.FindInput(input.name);
  if (declared == nullptr) {
    return InvalidArgument("{}unexpected inference input '{}' for model '{}'", Prefix(request),
                           input.name, config_.name);
  }
  if (declared->type != input.type) {
    return InvalidArgument("{}inference input '{}' data-type is '{}', but model '{}' expects '{}'",
                           Prefix(request), input.name, DataTypeName(input.type), config_.name,
                           DataTypeName(declared->type));
  }
  const Dims dims = config_.FullDims(*declared);
  if (!ShapeFits(input.shape, dims)) {
    return InvalidArgument("{}unexpected shape for input '{}' for model '{}'. Expected {}, got {}",
                           Prefix(request), input.name, config_.name, ShapeText(dims),
                           ShapeText(input.shape));
  }
  if (const Status size = CheckByteSize(input); !size.ok()) {
    return size.WithContext(Prefix(request) + "model '" + config_.name + "'");
  }
  if (config_.max_batch_size > 0) {
    if (request.batch_size == 0) request.batch_size = input.shape[0];
    if (input.shape[0] != request.batch_size) {
      return InvalidArgument("{}input '{}' batch size does not match other inputs for '{}'",
                             Prefix(request), input.name, config_.name);
    }
  }
  if (declared->reshape) {
    const std::span<const int64_t> shape(input.shape);
    const size_t skip = config_.max_batch_size > 0 ? 1 : 0;
    Dims seen = Reshape(shape.subspan(skip), declared->dims, *declared->reshape);
    if (skip == 1) seen.insert(seen.begin(), input.shape[0]);
    input.shape = std::move(seen);
  }
  return OkStatus();
}

Status Model::Validate(InferRequest& request) const {
  if (request.generation != nullptr) {
    if (backend_->generator() != nullptr) return OkStatus();
    return InvalidArgument("{}model '{}' generates no text", Prefix(request), config_.name);
  }
  const int have = static_cast<int>(request.inputs.size());
  const int all = static_cast<int>(config_.inputs.size());
  std::string missing;
  for (const TensorConfig& input : config_.inputs) {
    if (!input.optional && request.FindInput(input.name) == nullptr) {
      missing += (missing.empty() ? "; missing: '" : ", '") + input.name + "'";
    }
  }
  if (have > all || !missing.empty()) {
    for (const Tensor& input : request.inputs) {
      if (config_.FindInput(input.name) == nullptr) {
        return InvalidArgument("{}unexpected inference input '{}' for model '{}'", Prefix(request),
                               input.name, config_.name);
      }
    }
    if (num_required_inputs_ == all) {
      return InvalidArgument("{}expected {} inputs but got {} inputs for model '{}'{}",
                             Prefix(request), all, have, config_.name, missing);
    }
    return InvalidArgument(
        "{}expected number of inputs between {} and {} but got {} inputs for model '{}'{}",
        Prefix(request), num_required_inputs_, all, have, config_.name, missing);
  }
  request.batch_size = config_.max_batch_size > 0 ? 0 : 1;
  for (Tensor& input : request.inputs) TRIREME_RETURN_IF_ERROR(CheckInput(input, request));
  if (config_.max_batch_size > 0 && request.batch_size > config_.max_batch_size) {
    return InvalidArgument("{}inference request batch-size must be <= {} for '{}'", Prefix(request),
                           config_.max_batch_size, config_.name);
  }
  if (request.batch_size == 0) request.batch_size = 1;
  for (const std::string& output : request.outputs) {
    if (config_.FindOutput(output) == nullptr) {
      return InvalidArgument("{}unexpected inference output '{}' for model '{}'", Prefix(request),
                             output, config_.name);
    }
  }
  return config_.sequence_batching ? AddSequenceControls(config_, request) : OkStatus();
}

bool Model::AnswerFromCache(const std::shared_ptr<InferCall>& call) {
  const int64_t begin_ns = NowNs();
  const std::string key = ResponseCache::Key(config_.name, version_, call->request());
  std::optional<InferResponse> found = cache_->Find(key);
  const int64_t lookup_ns = NowNs() - begin_ns;
  if (found) {
    statistics_.OnCacheHit(*call, lookup_ns);
    call->Respond(std::move(*found));
    return true;
  }
  call->WrapResponses([&](InferCall::ResponseFn deliver) -> InferCall::ResponseFn {
    return [this, key, lookup_ns, deliver = std::move(deliver)](InferCall& from,
                                                                InferResponse&& response) {
      const int64_t insert_ns = NowNs();
      const bool whole = response.error.ok() && response.is_final && from.num_responses() == 1;
      if (whole && !response.is_empty) cache_->Insert(key, response);
      if (response.is_final) statistics_.OnCacheMiss(lookup_ns + NowNs() - insert_ns);
      deliver(from, std::move(response));
    };
  });
  return false;
}

void Model::RunAlone(const std::shared_ptr<InferCall>& call, int instance) {
  Execution execution({&call, 1}, instance);
  backend_->Execute(execution);
}

void Model::Infer(const std::shared_ptr<InferCall>& call) {
  call->times.queued = NowNs();
  const bool cached = cache_ != nullptr && call->request().generation == nullptr;
  if (cached && AnswerFromCache(call)) return;
  in_flight_.fetch_add(1);
  call->set_observer(this);
  if (scheduler_ == nullptr) return Run({&call, 1}, 0);
  if (ordered_ != nullptr) ordered_->Add(*call);
  pending_->fetch_add(1);
  scheduler_->Enqueue(call);
}

void Model::Run(std::span<const std::shared_ptr<InferCall>> batch, int instance) {
  InferCall::Times times;
  times.compute_start = NowNs();
  int64_t batch_size = 0;
  int64_t real = 0;
  for (const auto& call : batch) {
    call->times.compute_start = times.compute_start;
    batch_size += call->request().batch_size;
    real += call->request().batch_size > 0 ? 1 : 0;  // the others only fill their places
  }
  if (scheduler_ != nullptr) pending_->fetch_sub(real);
  Execution execution(batch, instance);
  backend_->Execute(execution);
  times.input_ready = batch.front()->times.input_ready;
  times.output_begin = batch.front()->times.output_begin;
  statistics_.OnExecution(batch_size, times, NowNs());
}

void Model::OnResponse(InferCall& call, InferResponse& response) {
  const InferRequest& request = call.request();
  if (scheduler_ != nullptr) scheduler_->OnResponse(call, response);
  std::erase_if(response.outputs,
                [&](const Tensor& output) { return !request.Wants(output.name); });
  for (Tensor& output : response.outputs) {
    const TensorConfig* declared = config_.FindOutput(output.name);
    if (declared == nullptr || !declared->reshape) continue;
    const size_t skip = config_.max_batch_size > 0 ? 1 : 0;
    const std::span<const int64_t> shape(output.shape);
    if (shape.size() < skip) continue;
    Dims seen = Reshape(shape.subspan(skip), *declared->reshape, declared->dims);
    if (skip == 1) seen.insert(seen.begin(), output.shape[0]);
    output.shape = std::move(seen);
  }
  statistics_.OnResponse(call, response, config_.decoupled);
  call.times.last_response = NowNs();
  if (!response.is_final) return;
  const bool never_ran = call.times.compute_start == 0;
  if (never_ran && scheduler_ != nullptr) pending_->fetch_sub(1);
  statistics_.OnDone(call, response.error, never_ran);
}

void Model::OnDone(InferCall& call) {
  if (scheduler_ != nullptr) scheduler_->OnDone(call);
  in_flight_.fetch_sub(1);
}

}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
#include "server/backends/ensemble_run.h"

#include <algorithm>

#include "base/status.h"
#include "server/core/model.h"

namespace trireme::server {

EnsembleRun::EnsembleRun(const ModelConfig& config, const EnsembleGraph& graph, ModelCaller& caller,
                         std::shared_ptr<InferCall> call)
    : config_(config),
      graph_(graph),
      caller_(caller),
      call_(std::move(call)),
      wanted_(call_->request().outputs) {
  if (wanted_.empty()) {
    for (const TensorConfig& output : config_.outputs) wanted_.push_back(output.name);
  }
  needed_ = graph_.NeededFor(wanted_);
  running_of_step_.resize(graph_.steps().size());
  Iteration& first = iterations_[0];
  for (const TensorConfig& input : config_.inputs) {
    const Tensor* tensor = call_->request().FindInput(input.name);
    first.tensors[input.name] =
        tensor != nullptr ? std::optional<Tensor>(*tensor) : std::optional<Tensor>();
  }
}

void EnsembleRun::Start() {
  call_->OnCancel([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Cancel();
  });
  Advance();
}

void EnsembleRun::Cancel() {
  std::vector<std::shared_ptr<InferCall>> calls;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, weak] : calls_) {
      if (auto call = weak.lock()) calls.push_back(std::move(call));
    }
    Fail(Cancelled(""));
  }
  for (const auto& call : calls) call->Cancel();
  Advance();
}

void EnsembleRun::Fail(const Status& status) {
  if (error_.ok()) error_ = status;
}

bool EnsembleRun::RunsIn(const Iteration& iteration, size_t step) const {
  if (needed_.count(step) == 0) return false;
  return iteration.parent < 0 || graph_.Downstream(iteration.begun_by).count(step) > 0;
}

const std::optional<Tensor>* EnsembleRun::Lookup(const Iteration& iteration,
                                                 const std::string& tensor) const {
  const auto own = iteration.tensors.find(tensor);
  if (own != iteration.tensors.end()) return &own->second;
  if (iteration.parent < 0) return nullptr;
  const int producer = graph_.ProducerOf(tensor);
  if (producer >= 0) {
    // What depends on the step that began this iteration is this iteration's own.
    const auto step = static_cast<size_t>(producer);
    if (step == iteration.begun_by || RunsIn(iteration, step)) return nullptr;
  }
  return Lookup(iterations_.at(iteration.parent), tensor);
}

InferRequest EnsembleRun::StepRequest(const EnsembleStep& step) const {
  const InferRequest& from = call_->request();
  InferRequest request;
  request.id = from.id;
  request.model_name = step.model_name;
  request.model_version = step.model_version;
  request.parameters = from.parameters;
  request.sequence_id = from.sequence_id;
  request.sequence_start = from.sequence_start;
  request.sequence_end = from.sequence_end;
  request.priority = from.priority;
  request.timeout_us = from.timeout_us;
  request.single_response = from.single_response;
  for (const auto& [output, tensor] : step.output_map) request.outputs.push_back(output);
  return request;
}

std::optional<EnsembleRun::Firing> EnsembleRun::TryFire(int number, Iteration& iteration,
                                                        size_t index) {
  const EnsembleStep& step = graph_.steps()[index];
  std::vector<std::pair<std::string, const Tensor*>> inputs;
  for (const auto& [input, tensor] : step.input_map) {
    const std::optional<Tensor>* found = Lookup(iteration, tensor);
    if (found == nullptr) return std::nullopt;
    if (found->has_value()) inputs.emplace_back(input, &**found);
  }
  const auto model = caller_.FindModel(step.model_name, step.model_version);
  if (!model.ok()) {
    Fail(model.status());
    return std::nullopt;
  }
  const ModelConfig& inner = (*model)->config();
  const bool adds_batch = config_.max_batch_size == 0 && inner.max_batch_size > 0;
  Firing firing{std::make_shared<StepRun>(StepRun{.iteration = number, .step = index}),
                StepRequest(step)};
  if (adds_batch) {
    for (const TensorConfig& output : inner.outputs) {
      firing.run->batched_ranks[output.name] = output.dims.size() + 1;
    }
  }
  for (const auto& [name, tensor] : inputs) {
    firing.request.inputs.push_back(*tensor);
    firing.request.inputs.back().name = name;
    Dims& shape = firing.request.inputs.back().shape;
    if (adds_batch) shape.insert(shape.begin(), 1);
  }
  return firing;
}

std::vector<EnsembleRun::Firing> EnsembleRun::TakeFirings() {
  std::vector<Firing> firings;
  if (!error_.ok() || ended_) return firings;
  const int limit = static_cast<int>(config_.max_inflight_requests);
  for (auto& [number, iteration] : iterations_) {
    for (size_t step = 0; step < graph_.steps().size(); ++step) {
      if (!RunsIn(iteration, step) || iteration.fired.count(step) > 0) continue;
      if (limit > 0 && running_of_step_[step] >= limit) continue;
      std::optional<Firing> firing = TryFire(number, iteration, step);
      if (!firing) continue;
      iteration.fired.insert(step);
      ++iteration.running;
      ++running_of_step_[step];
      ++running_;
      firings.push_back(std::move(*firing));
    }
  }
  return firings;
}

EnsembleRun::Iteration& EnsembleRun::IterationFor(StepRun& run) {
  if (run.num_responses++ == 0) return iterations_.at(run.iteration);
  Iteration& begun = iterations_[next_iteration_++];
  begun.parent = run.iteration;
  begun.begun_by = run.step;
  return begun;
}

void EnsembleRun::OnStepResponse(StepRun& run, InferResponse&& response) {
  {
    MutexLock lock(mutex_);
    const EnsembleStep& step = graph_.steps()[run.step];
    if (!response.error.ok()) {
      Fail(response.error.WithContext("in ensemble '" + config_.name + "', step '" +
                                      step.model_name + "'"));
    } else if (!response.is_empty) {
      Iteration& iteration = IterationFor(run);
      for (const auto& [output, tensor] : step.output_map) iteration.tensors[tensor].reset();
      for (Tensor& output : response.outputs) {
        const auto mapped = step.output_map.find(output.name);
        if (mapped == step.output_map.end()) continue;
        if (run.AddedBatch(output)) output.shape.erase(output.shape.begin());
        output.name = mapped->second;
        iteration.tensors[mapped->second] = std::move(output);
      }
      for (const char* key : {"sequence_id", "sequence_start", "sequence_end"}) {
        const auto found = response.parameters.find(key);
        if (found != response.parameters.end()) sequence_parameters_[key] = found->second;
      }
    }
    if (response.is_final) {
      --iterations_.at(run.iteration).running;
      --running_of_step_[run.step];
      --running_;
    }
  }
  Advance();
}

// Moves the outputs of finished iterations to the queue, in order.
void EnsembleRun::CollectOutputs() {
  if (ended_) return;
  for (auto& [number, iteration] : iterations_) {
    if (!error_.ok()) break;
    if (iteration.emitted) continue;
    InferResponse response;
    bool complete = true;
    for (const std::string& name : wanted_) {
      const std::optional<Tensor>* tensor = Lookup(iteration, name);
      if (tensor == nullptr) {
        complete = false;
        break;
      }
      if (tensor->has_value()) response.outputs.push_back(**tensor);
    }
    if (!complete) break;  // those behind wait for it
    iteration.emitted = true;
    ++emitted_;
    response.is_final = false;
    response.parameters = sequence_parameters_;
    ready_.push_back(std::move(response));
  }
  if (running_ > 0) return;
  // Nothing runs and, as the caller has just tried, nothing can be started.
  ended_ = true;
  if (error_.ok() && emitted_ == 0 && !config_.decoupled) {
    error_ = InvalidArgument(
        "in ensemble '{}', unexpected deadlock, at least one output is not set while no more "
        "ensemble steps can be made",
        config_.name);
  }
  if (!error_.ok()) {
    ready_.emplace_back().error = error_;
  } else if (!config_.decoupled && !ready_.empty()) {
    ready_.back().is_final = true;
  } else {
    ready_.emplace_back().is_empty = true;
  }
}

void EnsembleRun::StartStep(Firing firing) {
  const auto on_response = [self = shared_from_this(), run = firing.run](InferCall&,
                                                                         InferResponse&& response) {
    self->OnStepResponse(*run, std::move(response));
  };
  StatusOr<std::shared_ptr<InferCall>> call = caller_.Infer(std::move(firing.request), on_response);
  if (!call.ok()) {
    InferResponse failed;
    failed.error = call.status();
    return OnStepResponse(*firing.run, std::move(failed));
  }
  if ((*call)->done()) return;
  bool cancelled = false;
  {
    MutexLock lock(mutex_);
    calls_[next_call_++] = *call;
    std::erase_if(calls_, [](const auto& entry) { return entry.second.expired(); });
    cancelled = !error_.ok();
  }
  if (cancelled) (*call)->Cancel();
}

void EnsembleRun::Advance() {
  {
    MutexLock lock(mutex_);
    changed_ = true;
    if (advancing_) return;  // whoever advances sees what has changed
    advancing_ = true;
  }
  while (true) {
    std::vector<Firing> firings;
    {
      MutexLock lock(mutex_);
      changed_ = false;
      firings = TakeFirings();
      if (firings.empty()) CollectOutputs();
    }
    for (Firing& firing : firings) StartStep(std::move(firing));
    if (!firings.empty()) continue;
    Deliver();
    MutexLock lock(mutex_);
    if (changed_) continue;
    advancing_ = false;
    return;
  }
}

void EnsembleRun::Deliver() {
  while (true) {
    InferResponse response;
    {
      MutexLock lock(mutex_);
      if (ready_.empty()) return;
      response = std::move(ready_.front());
      ready_.pop_front();
      // What an iteration held is not needed once it is out and nothing of it runs.
      std::set<int> parents;
      for (const auto& [number, iteration] : iterations_) parents.insert(iteration.parent);
      std::erase_if(iterations_, [&](const auto& entry) {
        return entry.first > 0 && entry.second.emitted && entry.second.running == 0 &&
               parents.count(entry.first) == 0;
      });
    }
    call_->Respond(std::move(response));
  }
}

}  // namespace trireme::server

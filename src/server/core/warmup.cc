// SPDX-License-Identifier: Apache-2.0
#include "server/core/warmup.h"

#include <chrono>
#include <filesystem>
#include <random>

#include "base/log.h"
#include "base/mapped_file.h"
#include "base/status.h"

namespace trireme::server {
namespace {

constexpr std::chrono::seconds kPatience{600};

// The bytes of one input for one element of the batch.
StatusOr<std::string> InputBytes(const WarmupSample::Input& input, const std::string& model_dir) {
  if (!input.file.empty()) {
    const auto path = std::filesystem::path(model_dir) / "warmup" / input.file;
    TRIREME_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    return std::string(file.text());
  }
  TRIREME_ASSIGN_OR_RETURN(const int64_t count, ElementCount(input.dims));
  const int64_t element = input.type == DataType::kBytes ? 4 : ElementBytes(input.type);
  constexpr int64_t kMaxBytes = int64_t{1} << 36;
  if (element > 0 && count > kMaxBytes / element) {
    return InvalidArgument("input '{}' has dims {}, which are too many", input.name,
                           ShapeText(input.dims));
  }
  std::string bytes(static_cast<size_t>(count * element), '\0');
  // Random strings are empty ones: four random bytes would be a length.
  if (!input.random || input.type == DataType::kBytes) return bytes;
  std::minstd_rand random(1);
  for (char& byte : bytes)
    byte = static_cast<char>(random() & (input.type == DataType::kBool ? 1 : 0x3f));
  return bytes;
}

StatusOr<InferRequest> MakeRequest(const WarmupSample& sample, const ModelConfig& config,
                                   const std::string& model_dir) {
  InferRequest request;
  request.id = sample.name;
  request.model_name = config.name;
  if (config.sequence_batching) {
    request.sequence_id = uint64_t{1};
    request.sequence_start = true;
    request.sequence_end = true;
  }
  for (const WarmupSample::Input& input : sample.inputs) {
    TRIREME_ASSIGN_OR_RETURN(const std::string one, InputBytes(input, model_dir));
    std::string bytes;
    Dims shape = input.dims;
    const uint32_t copies = config.max_batch_size > 0 ? sample.batch_size : 1;
    if (config.max_batch_size > 0) shape.insert(shape.begin(), copies);
    for (uint32_t i = 0; i < copies; ++i) bytes += one;
    request.inputs.push_back(
        MakeTensor(input.name, input.type, std::move(shape), std::move(bytes)));
  }
  return request;
}

// How a call ended. Shared: the call may outlive who waits.
struct Ending {
  Mutex mutex;
  CondVar changed;
  bool over GUARDED_BY(mutex) = false;
  Status status GUARDED_BY(mutex);
};

Status RunOne(Model& model, InferRequest request, int instance) {
  TRIREME_RETURN_IF_ERROR(model.Validate(request));
  const auto ending = std::make_shared<Ending>();
  const auto call = std::make_shared<InferCall>(std::move(request),
                                                [ending](InferCall&, InferResponse&& response) {
                                                  MutexLock lock(ending->mutex);
                                                  if (ending->status.ok())
                                                    ending->status = response.error;
                                                  ending->over |= response.is_final;
                                                  ending->changed.NotifyAll();
                                                });
  model.RunAlone(call, instance);
  const auto end = std::chrono::steady_clock::now() + kPatience;
  MutexLock lock(ending->mutex);
  while (!ending->over) {
    const auto left = end - std::chrono::steady_clock::now();
    if (left.count() <= 0) return DeadlineExceeded("no answer within {} s", kPatience.count());
    ending->changed.WaitFor(ending->mutex, left);
  }
  return ending->status;
}

}  // namespace

Status WarmUp(Model& model, const std::string& model_dir) {
  const ModelConfig& config = model.config();
  const bool one = model.backend().style() == BackendModel::Style::kContinuous;
  const int num_instances = one ? 1 : config.num_instances();
  for (const WarmupSample& sample : config.warmup) {
    if (sample.batch_size == 0) {
      LogWarning("warmup_skipped model={} sample={} reason=\"batch_size is 0\"", config.name,
                 sample.name);
      continue;
    }
    for (int instance = 0; instance < num_instances; ++instance) {
      for (uint32_t i = 0; i < sample.count; ++i) {
        StatusOr<InferRequest> request = MakeRequest(sample, config, model_dir);
        const Status status =
            request.ok() ? RunOne(model, std::move(*request), instance) : request.status();
        if (status.ok()) continue;
        return status.WithContext(
            fmt::format("model_warmup '{}' of model '{}'", sample.name, config.name));
      }
    }
    LogInfo("warmed_up model={} sample={} instances={} count={}", config.name, sample.name,
            num_instances, sample.count);
  }
  return OkStatus();
}

}  // namespace trireme::server

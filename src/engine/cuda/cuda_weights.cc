// SPDX-License-Identifier: Apache-2.0
#include "engine/cuda/cuda_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <span>

#include "base/status.h"
#include "device/cuda/cuda_status.h"
#include "kernels/cuda/plan_types.h"
#include "kernels/cuda/random_normal.h"
#include "tensor/tensor_view.h"

namespace trireme::engine {
namespace {

constexpr int64_t kAlignment = 256;
constexpr int64_t kStagingBytes = 32 << 20;
constexpr int64_t kCopyPiece = 1 << 20;  // of one thread at a time

// Host bytes to the GPU, at the speed of the link: while one staging buffer is copied by the GPU,
// threads fill the other.
class Uploader {
 public:
  static StatusOr<Uploader> Make(ThreadPool& pool, const cuda::Stream& stream) {
    Uploader uploader(pool, stream);
    for (Staging& staging : uploader.staging_) {
      TRIREME_ASSIGN_OR_RETURN(
          staging.bytes, cuda::PinnedBuffer::Allocate(kStagingBytes, "staging memory for weights"));
      TRIREME_ASSIGN_OR_RETURN(staging.done, cuda::Event::Create());
    }
    return uploader;
  }

  Status Upload(std::span<const std::byte> source, std::byte* target) {
    for (int64_t begin = 0; begin < static_cast<int64_t>(source.size()); begin += kStagingBytes) {
      const int64_t size = std::min(kStagingBytes, static_cast<int64_t>(source.size()) - begin);
      Staging& staging = staging_[turn_++ % staging_.size()];
      if (staging.used) TRIREME_RETURN_IF_ERROR(staging.done.Synchronize());
      staging.used = true;
      pool_->ParallelFor((size + kCopyPiece - 1) / kCopyPiece, [&](int64_t piece, int) {
        const int64_t from = piece * kCopyPiece;
        std::memcpy(staging.bytes.data() + from, source.data() + begin + from,
                    static_cast<size_t>(std::min(kCopyPiece, size - from)));
      });
      TRIREME_CUDA_RETURN_IF_ERROR(
          cudaMemcpyAsync(target + begin, staging.bytes.data(), static_cast<size_t>(size),
                          cudaMemcpyHostToDevice, stream_->get()),
          "copying weights");
      TRIREME_RETURN_IF_ERROR(staging.done.Record(*stream_));
    }
    return OkStatus();
  }

 private:
  struct Staging {
    cuda::PinnedBuffer bytes;
    cuda::Event done;
    bool used = false;
  };

  Uploader(ThreadPool& pool, const cuda::Stream& stream) : pool_(&pool), stream_(&stream) {}

  ThreadPool* pool_;
  const cuda::Stream* stream_;
  std::array<Staging, 2> staging_;
  size_t turn_ = 0;
};

// A norm scales around one, so that activations keep their size through the layers.
bool IsNormScale(const plan::Plan& plan, int index) {
  for (const plan::Launch& launch : plan.launches) {
    const bool norm = launch.kind == OpKind::kRmsNorm || launch.kind == OpKind::kLayerNorm ||
                      launch.kind == OpKind::kHeadRmsNorm;
    if (norm && launch.weights[0] == index) return true;
    const auto* linear = std::get_if<LinearAttrs>(&launch.attrs);
    if (linear != nullptr && linear->has_norm &&
        launch.weights[linear->has_bias ? 2 : 1] == index) {
      return true;
    }
  }
  return false;
}

Status Draw(const plan::Plan& plan, int index, Uploader& uploader, const cuda::Stream& stream,
            std::byte* target) {
  const plan::Weight& weight = plan.weights[static_cast<size_t>(index)];
  const int64_t count = weight.shape.num_elements();
  const bool float8 = weight.dtype == DType::kFloat8E4M3;
  const auto std =
      static_cast<float>(weight.synthetic_std) / (float8 ? kSyntheticWeightScale : 1.0f);
  const auto seed = static_cast<uint64_t>(index) + 1;
  if (IsNormScale(plan, index)) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(1.0f, std);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = normal(random);
    HostTensor converted(weight.dtype, weight.shape);
    ConvertFloats(DType::kFloat32, reinterpret_cast<const std::byte*>(values.data()), weight.dtype,
                  converted.bytes().data(), count);
    return uploader.Upload(converted.bytes(), target);
  }
  TRIREME_ASSIGN_OR_RETURN(const cuda::Element element, cuda::ElementOf(weight.dtype));
  cuda::LaunchContext context;
  context.stream = stream.get();
  return cuda::CudaStatus(
      cuda::RandomNormal({.dtype = element, .y = target, .count = count, .std = std, .seed = seed},
                         context),
      "drawing " + weight.name);
}

}  // namespace

StatusOr<CudaWeights> CudaWeights::Load(const LoadedEngine& engine, ThreadPool& pool,
                                        const cuda::Stream& stream) {
  CudaWeights weights;
  int64_t total = 0;
  for (const plan::Weight& weight : engine.plan.weights) {
    weights.offsets_.push_back(total);
    total += (weight.num_bytes + kAlignment - 1) / kAlignment * kAlignment;
  }
  TRIREME_ASSIGN_OR_RETURN(weights.data_,
                           cuda::DeviceBuffer::Allocate(total, "the engine's weights"));
  TRIREME_ASSIGN_OR_RETURN(Uploader uploader, Uploader::Make(pool, stream));
  for (size_t i = 0; i < engine.plan.weights.size(); ++i) {
    const plan::Weight& weight = engine.plan.weights[i];
    std::byte* target = weights.weight(static_cast<int>(i));
    if (weight.synthetic_std > 0) {
      TRIREME_RETURN_IF_ERROR(Draw(engine.plan, static_cast<int>(i), uploader, stream, target));
      continue;
    }
    TRIREME_ASSIGN_OR_RETURN(const std::span<const std::byte> bytes,
                             engine.file->Bytes(weight.name));
    TRIREME_RETURN_IF_ERROR(uploader.Upload(bytes, target));
  }
  TRIREME_RETURN_IF_ERROR(stream.Synchronize());
  return weights;
}

StatusOr<float> CudaWeights::LargestScale(const plan::Plan& plan, int index) const {
  const plan::Weight& weight = plan.weights[static_cast<size_t>(index)];
  if (weight.dtype != DType::kFloat32 || weight.num_bytes > 64) {
    return InvalidArgument("weight '{}' is no scale of an FP8 tensor", weight.name);
  }
  std::vector<float> scales(static_cast<size_t>(weight.shape.num_elements()));
  TRIREME_CUDA_RETURN_IF_ERROR(cudaMemcpy(scales.data(), this->weight(index),
                                          scales.size() * sizeof(float), cudaMemcpyDeviceToHost),
                               "reading a scale");
  const float largest = scales.empty() ? 0.0f : *std::max_element(scales.begin(), scales.end());
  if (!(largest > 0.0f && std::isfinite(largest))) {
    return InvalidArgument("the scale '{}' is {}, which is not positive", weight.name, largest);
  }
  return largest;
}

}  // namespace trireme::engine

// SPDX-License-Identifier: Apache-2.0
#include "engine/cuda/cuda_sampler.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"
#include "device/cuda/cuda_status.h"
#include "kernels/cuda/sampling_setup.h"

namespace trireme::engine {
namespace {

// Ids of end tokens, stop and bad words that a slot has room for at first.
constexpr int kFirstMaxWords = 256;
constexpr int kMostWords = 1 << 22;

constexpr int64_t kWord = sizeof(int32_t);

}  // namespace

StatusOr<CudaSampler> CudaSampler::Create(const SessionLimits& limits, int vocab_size) {
  CudaSampler sampler;
  sampler.limits_ = limits;
  const int64_t slots = limits.max_batch_size;
  const auto allocate = [](cuda::DeviceBuffer& buffer, int64_t num_bytes) -> Status {
    TRIREME_ASSIGN_OR_RETURN(buffer, cuda::DeviceBuffer::Allocate(num_bytes, "sampling state"));
    return cuda::CudaStatus(cudaMemset(buffer.data(), 0, static_cast<size_t>(num_bytes)),
                            "clearing the sampling state");
  };
  TRIREME_RETURN_IF_ERROR(
      allocate(sampler.states_, slots * static_cast<int64_t>(sizeof(cuda::SlotSampling))));
  TRIREME_RETURN_IF_ERROR(allocate(sampler.last_tokens_, slots * kWord));
  TRIREME_RETURN_IF_ERROR(allocate(sampler.tokens_, slots * limits.max_seq_len * kWord));
  TRIREME_RETURN_IF_ERROR(allocate(sampler.words_, slots * kFirstMaxWords * kWord));
  TRIREME_RETURN_IF_ERROR(
      allocate(sampler.workspace_, cuda::SampleWorkspaceBytes(vocab_size, limits.max_batch_size)));
  // For penalties. Now, not when the first request wants one: the KV cache takes what is left.
  TRIREME_RETURN_IF_ERROR(allocate(sampler.counts_, slots * vocab_size * kWord));
  sampler.slots_.counts = sampler.counts_.as<int32_t>();
  sampler.slots_.states = sampler.states_.as<cuda::SlotSampling>();
  sampler.slots_.last_tokens = sampler.last_tokens_.as<int32_t>();
  sampler.slots_.tokens = sampler.tokens_.as<int32_t>();
  sampler.slots_.words = sampler.words_.as<int32_t>();
  sampler.slots_.max_seq_len = limits.max_seq_len;
  sampler.slots_.max_words = kFirstMaxWords;
  sampler.slots_.vocab_size = vocab_size;
  sampler.biases_.resize(static_cast<size_t>(slots));
  TRIREME_ASSIGN_OR_RETURN(sampler.staging_, cuda::StagingRing::Create(64 << 10));
  for (Results& results : sampler.results_) {
    TRIREME_ASSIGN_OR_RETURN(
        results.tokens,
        cuda::PinnedBuffer::Allocate(slots * static_cast<int64_t>(sizeof(cuda::SampleResult)),
                                     "sampled tokens"));
    TRIREME_ASSIGN_OR_RETURN(results.written, cuda::Event::Create());
  }
  return sampler;
}

// Twice the room for words in every slot. Rare: waits for the GPU.
Status CudaSampler::GrowWords(const cuda::Stream& stream) {
  if (slots_.max_words >= kMostWords) {
    return ResourceExhausted("stop and bad words of more than {} ids", kMostWords);
  }
  TRIREME_RETURN_IF_ERROR(stream.Synchronize());
  const size_t row = static_cast<size_t>(slots_.max_words) * kWord;
  TRIREME_ASSIGN_OR_RETURN(
      cuda::DeviceBuffer grown,
      cuda::DeviceBuffer::Allocate(2 * static_cast<int64_t>(row) * limits_.max_batch_size,
                                   "stop and bad words"));
  TRIREME_CUDA_RETURN_IF_ERROR(
      cudaMemcpy2D(grown.data(), 2 * row, words_.data(), row, row,
                   static_cast<size_t>(limits_.max_batch_size), cudaMemcpyDeviceToDevice),
      "moving stop and bad words");
  words_ = std::move(grown);
  slots_.words = words_.as<int32_t>();
  slots_.max_words *= 2;
  return OkStatus();
}

StatusOr<const float*> CudaSampler::SendBias(int slot, std::span<const float> bias,
                                             const cuda::Stream& stream) {
  if (bias.empty()) return nullptr;
  cuda::DeviceBuffer& buffer = biases_[static_cast<size_t>(slot)];
  const auto size = static_cast<int64_t>(bias.size_bytes());
  if (buffer.data() == nullptr) {
    TRIREME_ASSIGN_OR_RETURN(buffer, cuda::DeviceBuffer::Allocate(size, "an embedding bias"));
  }
  TRIREME_ASSIGN_OR_RETURN(std::byte * staging, staging_.Next(size));
  std::memcpy(staging, bias.data(), bias.size_bytes());
  TRIREME_RETURN_IF_ERROR(staging_.Copy(0, size, buffer.data(), stream));
  return buffer.as<const float>();
}

Status CudaSampler::ResetSlot(int slot, const SlotRequest& request, const cuda::Stream& stream) {
  // A slot that was taken and given back before any step ran.
  std::erase_if(staged_, [&](const cuda::StagedSlot& staged) { return staged.slot == slot; });
  kernels::SamplingSetup setup;
  setup.params = request.sampling;
  setup.prompt = request.prompt;
  setup.generated = request.generated;
  setup.end_ids = request.end_ids;
  setup.max_tokens = request.max_tokens;
  setup.bad_words = request.bad_words;
  setup.stop_words = request.stop_words;
  setup.embedding_bias = request.embedding_bias;
  setup.log_probs = request.log_probs;
  TRIREME_ASSIGN_OR_RETURN(const float* bias, SendBias(slot, request.embedding_bias, stream));
  if (request.prompt.size() + request.generated.size() > static_cast<size_t>(limits_.max_seq_len)) {
    return Internal("slot {}: a sequence of {} tokens, at most {} fit", slot,
                    request.prompt.size() + request.generated.size(), limits_.max_seq_len);
  }
  while (!cuda::StageSlot(setup, slot, bias, slots_.max_seq_len, slots_.max_words, staged_,
                          staged_words_)) {
    TRIREME_RETURN_IF_ERROR(GrowWords(stream));
  }
  return OkStatus();
}

Status CudaSampler::LoadSlots(const cuda::Stream& stream, cuda::LaunchContext& context) {
  if (staged_.empty()) return OkStatus();
  const auto slot_bytes = static_cast<int64_t>(staged_.size() * sizeof(cuda::StagedSlot));
  const auto word_bytes = static_cast<int64_t>(staged_words_.size() * sizeof(int32_t));
  const int64_t size = slot_bytes + word_bytes;
  if (staged_on_device_.size() < size) {
    TRIREME_RETURN_IF_ERROR(stream.Synchronize());
    TRIREME_ASSIGN_OR_RETURN(staged_on_device_,
                             cuda::DeviceBuffer::Allocate(size * 3 / 2, "new requests"));
  }
  TRIREME_ASSIGN_OR_RETURN(std::byte * staging, staging_.Next(size));
  std::memcpy(staging, staged_.data(), static_cast<size_t>(slot_bytes));
  if (word_bytes > 0) {
    std::memcpy(staging + slot_bytes, staged_words_.data(), static_cast<size_t>(word_bytes));
  }
  TRIREME_RETURN_IF_ERROR(staging_.Copy(0, size, staged_on_device_.data(), stream));
  cuda::LoadSlotsParams params;
  params.slots = slots_;
  params.staged = staged_on_device_.as<const cuda::StagedSlot>();
  params.staged_words = reinterpret_cast<const int32_t*>(staged_on_device_.data() + slot_bytes);
  params.num_staged = static_cast<int>(staged_.size());
  staged_.clear();
  staged_words_.clear();
  return cuda::CudaStatus(cuda::LoadSlots(params, context), "LoadSlots");
}

Status CudaSampler::Sample(const float* logits, const cuda::SampleRow* rows, const int32_t* count,
                           int num_rows, const cuda::Stream& stream, cuda::LaunchContext& context) {
  if (num_sampled_ - num_awaited_ >= results_.size()) {
    return Internal("{} samples are waiting to be read", results_.size());
  }
  Results& results = results_[num_sampled_++ % results_.size()];
  results.count = num_rows;
  cuda::SampleParams params;
  params.slots = slots_;
  params.logits = logits;
  params.logits_stride = slots_.vocab_size;
  params.rows = rows;
  params.num_rows = count;
  params.results = results.tokens.as<cuda::SampleResult>();
  params.workspace = workspace_.data();
  params.max_rows = num_rows;
  TRIREME_RETURN_IF_ERROR(cuda::CudaStatus(cuda::Sample(params, context), "Sample"));
  return results.written.Record(stream);
}

StatusOr<std::vector<SampledToken>> CudaSampler::Await() {
  if (num_awaited_ == num_sampled_) return FailedPrecondition("await without a sample");
  const Results& results = results_[num_awaited_++ % results_.size()];
  TRIREME_RETURN_IF_ERROR(results.written.Synchronize());
  std::vector<SampledToken> tokens;
  tokens.reserve(static_cast<size_t>(results.count));
  for (int i = 0; i < results.count; ++i) {
    const cuda::SampleResult& result = results.tokens.as<const cuda::SampleResult>()[i];
    tokens.push_back({.slot = result.slot,
                      .token = result.token,
                      .finish = static_cast<FinishReason>(result.finish),
                      .log_prob = result.log_prob,
                      .bad_logits = (result.flags & cuda::kNonFiniteLogits) != 0});
  }
  return tokens;
}

}  // namespace trireme::engine

// SPDX-License-Identifier: Apache-2.0
#include "executor/validation.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/kv_window.h"

namespace trireme::executor {
namespace {

constexpr int kMaxReturnSequences = 256;
// Logits of one request are kept until its response is read.
constexpr int64_t kMaxLogitsBytes = int64_t{4} << 30;

// NaN fails every comparison, so ranges are written as what must hold.
Status CheckRange(std::string_view name, double value, double low, double high) {
  if (value >= low && value <= high) return OkStatus();
  return InvalidArgument("{} is {}, but must lie in [{}, {}]", name, value, low, high);
}

Status CheckFinite(std::string_view name, double value) {
  if (std::isfinite(value)) return OkStatus();
  return InvalidArgument("{} is {}, but must be a finite number", name, value);
}

Status CheckPositive(std::string_view name, double value, std::string_view remedy) {
  if (value > 0 && std::isfinite(value)) return OkStatus();
  return InvalidArgument("{} is {}, but must be a finite number above 0{}", name, value, remedy);
}

Status CheckToken(std::string_view name, int64_t token, int vocab_size) {
  if (token >= 0 && token < vocab_size) return OkStatus();
  return InvalidArgument("{} is token {}, but the vocabulary has ids 0 to {}", name, token,
                         vocab_size - 1);
}

Status CheckTokens(std::string_view name, std::span<const TokenId> tokens, int vocab_size) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i] >= 0 && tokens[i] < vocab_size) continue;
    return InvalidArgument("{}[{}] is token {}, but the vocabulary has ids 0 to {}", name, i,
                           tokens[i], vocab_size - 1);
  }
  return OkStatus();
}

Status CheckWords(std::string_view name, const std::vector<std::vector<TokenId>>& words,
                  int vocab_size) {
  for (size_t i = 0; i < words.size(); ++i) {
    if (words[i].empty()) return InvalidArgument("{}[{}] is empty; leave it out", name, i);
    TRIREME_RETURN_IF_ERROR(CheckTokens(name, words[i], vocab_size));
  }
  return OkStatus();
}

Status CheckLengths(const Request& request, const RequestLimits& limits) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt == 0) return InvalidArgument("prompt is empty; give at least one token");
  if (request.max_tokens < 1) {
    return InvalidArgument("max_tokens is {}, but must be at least 1", request.max_tokens);
  }
  if (prompt > limits.max_seq_len - 1) {
    return InvalidArgument(
        "prompt has {} tokens, but max_seq_len {} allows at most {}; shorten the prompt or raise "
        "max_seq_len",
        prompt, limits.max_seq_len, limits.max_seq_len - 1);
  }
  if (prompt + request.max_tokens > limits.max_seq_len) {
    return InvalidArgument(
        "prompt of {} tokens plus max_tokens {} is {}, more than max_seq_len {}; ask for at most "
        "{} tokens or raise max_seq_len",
        prompt, request.max_tokens, prompt + request.max_tokens, limits.max_seq_len,
        limits.max_seq_len - prompt);
  }
  if (!limits.chunked_context && prompt > limits.max_num_tokens) {
    return InvalidArgument(
        "prompt has {} tokens, more than max_num_tokens {}; turn on enable_chunked_context or "
        "raise max_num_tokens",
        prompt, limits.max_num_tokens);
  }
  // The last token is never fed back, so it needs no place in the cache.
  const int64_t cached = prompt + request.max_tokens - 1;
  int64_t blocks = (cached + limits.block_size - 1) / limits.block_size;
  if (limits.kv_window > 0) {
    const int64_t step = std::min<int64_t>(prompt, limits.max_num_tokens);
    blocks = std::min(blocks, WindowBlocks(limits.kv_window, step, limits.block_size));
  }
  if (blocks > limits.num_blocks) {
    return InvalidArgument(
        "prompt of {} tokens plus max_tokens {} needs {} KV blocks of {} tokens, but the cache has "
        "{}; ask for fewer tokens or give the KV cache more memory",
        prompt, request.max_tokens, blocks, limits.block_size, limits.num_blocks);
  }
  return OkStatus();
}

Status CheckSampling(const SamplingParams& sampling, int max_tokens, int vocab_size) {
  if (sampling.beam_width > 1) {
    return Unimplemented("beam_width is {}, but beam search is not supported yet; use beam_width 1",
                         sampling.beam_width);
  }
  TRIREME_RETURN_IF_ERROR(CheckRange("beam_width", sampling.beam_width, 1, 1));
  TRIREME_RETURN_IF_ERROR(
      CheckRange("num_return_sequences", sampling.num_return_sequences, 1, kMaxReturnSequences));
  TRIREME_RETURN_IF_ERROR(
      CheckPositive("temperature", sampling.temperature, "; for greedy decoding use top_k 1"));
  TRIREME_RETURN_IF_ERROR(CheckRange("top_k", sampling.top_k, 0, vocab_size));
  TRIREME_RETURN_IF_ERROR(CheckRange("top_p", sampling.top_p, 0, 1));
  TRIREME_RETURN_IF_ERROR(CheckRange("min_p", sampling.min_p, 0, 1));
  TRIREME_RETURN_IF_ERROR(
      CheckPositive("repetition_penalty", sampling.repetition_penalty, "; 1 is no penalty"));
  TRIREME_RETURN_IF_ERROR(CheckFinite("presence_penalty", sampling.presence_penalty));
  TRIREME_RETURN_IF_ERROR(CheckFinite("frequency_penalty", sampling.frequency_penalty));
  TRIREME_RETURN_IF_ERROR(CheckRange("min_tokens", sampling.min_tokens, 0, max_tokens));
  TRIREME_RETURN_IF_ERROR(
      CheckRange("no_repeat_ngram_size", sampling.no_repeat_ngram_size, 0, INT32_MAX));
  TRIREME_RETURN_IF_ERROR(CheckPositive("top_p_decay", sampling.top_p_decay, ""));
  TRIREME_RETURN_IF_ERROR(CheckRange("top_p_decay", sampling.top_p_decay, 0, 1));
  TRIREME_RETURN_IF_ERROR(CheckPositive("top_p_min", sampling.top_p_min, ""));
  TRIREME_RETURN_IF_ERROR(CheckRange("top_p_min", sampling.top_p_min, 0, 1));
  if (sampling.top_p_reset_id == -1) return OkStatus();
  return CheckToken("top_p_reset_id", sampling.top_p_reset_id, vocab_size);
}

Status CheckBias(std::span<const float> bias, int vocab_size) {
  if (!bias.empty() && bias.size() != static_cast<size_t>(vocab_size)) {
    return InvalidArgument("embedding_bias has {} values, but the vocabulary has {} tokens",
                           bias.size(), vocab_size);
  }
  for (size_t i = 0; i < bias.size(); ++i) {
    // -inf bans a token.
    if (bias[i] < INFINITY) continue;
    return InvalidArgument("embedding_bias[{}] is {}, but must be a number below infinity", i,
                           bias[i]);
  }
  return OkStatus();
}

Status CheckLogitsSize(std::string_view name, int64_t rows, int vocab_size) {
  const int64_t bytes = rows * vocab_size * static_cast<int64_t>(sizeof(float));
  if (bytes <= kMaxLogitsBytes) return OkStatus();
  return InvalidArgument("{} of {} tokens take {} bytes, more than the limit of {}; ask for fewer",
                         name, rows, bytes, kMaxLogitsBytes);
}

Status CheckOutput(const Request& request, int vocab_size) {
  const int sequences = request.sampling.num_return_sequences;
  if (request.output.return_context_logits) {
    TRIREME_RETURN_IF_ERROR(CheckLogitsSize(
        "context_logits", static_cast<int64_t>(request.prompt.size()) * sequences, vocab_size));
  }
  if (request.output.return_generation_logits) {
    TRIREME_RETURN_IF_ERROR(
        CheckLogitsSize("generation_logits", int64_t{request.max_tokens} * sequences, vocab_size));
  }
  return OkStatus();
}

// Far above what any machine serves, far below what would overflow a size.
constexpr int kMaxBatchSize = 1 << 16;
constexpr int kMaxTokens = 1 << 24;

Status CheckLimit(std::string_view name, int value, int max = INT32_MAX) {
  if (value < 0) {
    return InvalidArgument("{} is {}, but must not be negative; 0 takes the default", name, value);
  }
  if (value <= max) return OkStatus();
  return InvalidArgument("{} is {}, but may be {} at most", name, value, max);
}

}  // namespace

Status ValidateConfig(const ExecutorConfig& config) {
  const double fraction = config.kv_cache.free_memory_fraction;
  if (!(fraction > 0 && fraction < 1)) {
    return InvalidArgument(
        "kv_cache_free_gpu_mem_fraction is {}, but must lie between 0 and 1, both excluded: it is "
        "the share of the memory left after loading the weights that the KV cache takes, and "
        "activations, logits and the system need the rest; 0.9 is the default",
        fraction);
  }
  TRIREME_RETURN_IF_ERROR(CheckLimit("max_tokens_in_paged_kv_cache", config.kv_cache.max_tokens));
  if (config.kv_cache.max_attention_window != 0) {
    return Unimplemented(
        "max_attention_window_size is {}; windows other than the model's own do not exist yet, use "
        "0",
        config.kv_cache.max_attention_window);
  }
  TRIREME_RETURN_IF_ERROR(CheckLimit("max_batch_size", config.max_batch_size, kMaxBatchSize));
  TRIREME_RETURN_IF_ERROR(CheckLimit("max_num_tokens", config.max_num_tokens, kMaxTokens));
  TRIREME_RETURN_IF_ERROR(CheckLimit("max_seq_len", config.max_seq_len, kMaxTokens));
  TRIREME_RETURN_IF_ERROR(CheckLimit("max_queue_size", config.max_queue_size));
  TRIREME_RETURN_IF_ERROR(CheckLimit("num_threads", config.num_threads));
  return CheckLimit("iter_stats_max_iterations", config.iter_stats_max_iterations);
}

Status ValidateRequest(const Request& request, const RequestLimits& limits) {
  const int vocab_size = limits.vocab_size;
  TRIREME_RETURN_IF_ERROR(CheckLengths(request, limits));
  TRIREME_RETURN_IF_ERROR(CheckTokens("prompt", request.prompt, vocab_size));
  TRIREME_RETURN_IF_ERROR(CheckSampling(request.sampling, request.max_tokens, vocab_size));
  if (request.end_id) {
    TRIREME_RETURN_IF_ERROR(CheckToken("end_id", *request.end_id, vocab_size));
  }
  TRIREME_RETURN_IF_ERROR(CheckTokens("extra_end_ids", request.extra_end_ids, vocab_size));
  if (request.pad_id) {
    TRIREME_RETURN_IF_ERROR(CheckToken("pad_id", *request.pad_id, vocab_size));
  }
  TRIREME_RETURN_IF_ERROR(CheckWords("bad_words", request.bad_words, vocab_size));
  TRIREME_RETURN_IF_ERROR(CheckWords("stop_words", request.stop_words, vocab_size));
  TRIREME_RETURN_IF_ERROR(CheckBias(request.embedding_bias, vocab_size));
  TRIREME_RETURN_IF_ERROR(CheckOutput(request, vocab_size));
  TRIREME_RETURN_IF_ERROR(CheckRange("priority", request.priority, 0, 1));
  if (request.timeout_ms < 0) {
    return InvalidArgument("timeout_ms is {}, but must not be negative; 0 is no timeout",
                           request.timeout_ms);
  }
  return OkStatus();
}

}  // namespace trireme::executor

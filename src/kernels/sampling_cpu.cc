// SPDX-License-Identifier: Apache-2.0
// Sampling without sorting the vocabulary: a row is reduced to the maxima of blocks of 64 logits,
// and only blocks that can hold a candidate are looked into.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "kernels/cpu_variants.h"
#include "kernels/philox.h"
#include "kernels/sampling.h"
#include "kernels/sampling_passes.h"

namespace trireme::kernels {
namespace {

VariantsByIsa g_sampling TRIREME_VARIANTS_BY_ISA("sampling");
KernelVariant g_plain_greedy("sampling.plain_greedy", Isa::kGeneric);
KernelVariant g_candidates("sampling.candidates", Isa::kGeneric);
KernelVariant g_whole_vocabulary("sampling.whole_vocabulary", Isa::kGeneric);

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
// Candidates first gathered for a top_p without top_k; grown until they hold the mass wanted.
constexpr int64_t kFirstNucleus = 256;

int64_t AlignUp(int64_t count) { return (count + 15) / 16 * 16; }
int64_t NumBlocks(int64_t vocab_size) { return (vocab_size + kSampleBlock - 1) / kSampleBlock; }

struct Candidate {
  TokenId token = 0;
  float value = 0.0f;
};

bool Larger(const Candidate& a, const Candidate& b) {
  return a.value != b.value ? a.value > b.value : a.token < b.token;
}

// What one thread needs for a row; lies in the workspace.
struct RowScratch {
  float* values;          // [vocab_size] logits after step 4
  float* maxima;          // [blocks]
  float* block_sums;      // [blocks]; GatherLargest overwrites them
  Candidate* candidates;  // [vocab_size]
};

int64_t RowScratchBytes(int64_t vocab_size) {
  const int64_t floats = AlignUp(vocab_size) + 2 * AlignUp(NumBlocks(vocab_size));
  return floats * 4 + AlignUp(vocab_size) * static_cast<int64_t>(sizeof(Candidate));
}

RowScratch ScratchOf(std::byte* workspace, int64_t vocab_size, int worker) {
  auto* floats = reinterpret_cast<float*>(workspace + worker * RowScratchBytes(vocab_size));
  const int64_t blocks = AlignUp(NumBlocks(vocab_size));
  RowScratch scratch;
  scratch.values = floats;
  scratch.maxima = floats + AlignUp(vocab_size);
  scratch.block_sums = scratch.maxima + blocks;
  scratch.candidates = reinterpret_cast<Candidate*>(scratch.block_sums + blocks);
  return scratch;
}

class RowSampler {
 public:
  RowSampler(SampleRow& row, int64_t vocab_size, const SamplingKernels& kernels,
             const RowScratch& scratch)
      : row_(row), state_(*row.state), size_(vocab_size), kernels_(kernels), scratch_(scratch) {}

  void Run() {
    values_ = row_.logits;
    if (!IsPlain()) Process();
    kernels_.block_max(values_, size_, scratch_.maxima);
    FindLargest();
    row_.token = largest_.token;
    row_.log_prob = kMinusInfinity;
    row_.bad_logits = false;
    if (!std::isfinite(largest_.value)) {
      row_.bad_logits = LackFiniteMaximum({row_.logits, static_cast<size_t>(size_)});
      return;
    }
    if (state_.is_greedy()) {
      if (IsPlain()) g_plain_greedy.Count();
    } else {
      row_.token = Choose();
    }
    if (state_.log_probs()) {
      row_.log_prob = values_[row_.token] - largest_.value - static_cast<float>(std::log(Mass()));
    }
  }

 private:
  // Steps 1 to 4 change nothing that matters: the row is read where it lies. The exponentials of
  // the other paths need the NaN of a row gone.
  bool IsPlain() const {
    return state_.is_greedy() && !state_.log_probs() && state_.bias().empty() &&
           !state_.has_penalties() && !state_.has_bans() && state_.params().temperature == 1.0f;
  }

  void Process() {
    const SamplingParams& p = state_.params();
    const float divisor = p.temperature == 1.0f ? 0.0f : p.temperature + 1e-6f;
    const float* bias = state_.bias().empty() ? nullptr : state_.bias().data();
    kernels_.process(row_.logits, bias, divisor, scratch_.values, size_);
    for (const SamplingState::SeenToken& seen : state_.seen()) {
      float& value = scratch_.values[seen.token];
      value = value < 0 ? value * p.repetition_penalty : value / p.repetition_penalty;
      value -= p.presence_penalty;
      value -= static_cast<float>(seen.count) * p.frequency_penalty;
      if (std::isnan(value)) value = kMinusInfinity;
    }
    if (state_.has_bans()) {
      std::vector<TokenId> banned;
      state_.CollectBanned(banned);
      for (TokenId token : banned) scratch_.values[token] = kMinusInfinity;
    }
    values_ = scratch_.values;
  }

  // Of equal values the first.
  void FindLargest() {
    const float* end = scratch_.maxima + NumBlocks(size_);
    const float* block = std::max_element<const float*>(scratch_.maxima, end);
    largest_ = {0, *block};
    const int64_t begin = (block - scratch_.maxima) * kSampleBlock;
    for (int64_t i = begin; i < std::min(begin + kSampleBlock, size_); ++i) {
      if (values_[i] != *block) continue;
      largest_.token = static_cast<TokenId>(i);
      return;
    }
  }

  // Sum of exp(x - max) over the row; leaves the sums of its blocks.
  double Mass() {
    if (mass_ > 0.0) return mass_;
    kernels_.block_exp_sums(values_, size_, largest_.value, scratch_.block_sums);
    for (int64_t b = 0; b < NumBlocks(size_); ++b) mass_ += scratch_.block_sums[b];
    return mass_;
  }

  double Weight(float value) const { return std::exp(static_cast<double>(value - largest_.value)); }

  TokenId Choose() {
    const double u = PhiloxUniform(state_.params().seed, state_.position());
    const bool has_top_k = state_.params().top_k > 0 && state_.params().top_k < size_;
    const bool has_top_p = state_.top_p() > 0.0f && state_.top_p() < 1.0f;
    if (!has_top_k && !has_top_p) {
      g_whole_vocabulary.Count();
      return ChooseFromAll(u);
    }
    g_candidates.Count();
    return Draw(has_top_k ? KeepTopK(has_top_p) : KeepNucleus(), u);
  }

  // The `count` largest, in order, at the front of the candidates; fewer when values are -inf.
  int64_t GatherLargest(int64_t count) {
    // At least `count` elements reach the count-th largest of the block maxima.
    const int64_t blocks = NumBlocks(size_);
    float threshold = kMinusInfinity;
    if (count < blocks) {
      float* copy = scratch_.block_sums;
      mass_ = 0.0;  // its blocks are overwritten
      std::copy(scratch_.maxima, scratch_.maxima + blocks, copy);
      std::nth_element(copy, copy + count - 1, copy + blocks, std::greater<float>());
      threshold = copy[count - 1];
    }
    Candidate* end = scratch_.candidates;
    for (int64_t b = 0; b < blocks; ++b) {
      if (scratch_.maxima[b] < threshold) continue;
      for (int64_t i = b * kSampleBlock; i < std::min((b + 1) * kSampleBlock, size_); ++i) {
        if (values_[i] >= threshold) *end++ = {static_cast<TokenId>(i), values_[i]};
      }
    }
    const int64_t found = std::min<int64_t>(count, end - scratch_.candidates);
    Candidate* middle = scratch_.candidates + found;
    if (middle != end) std::nth_element(scratch_.candidates, middle, end, Larger);
    std::sort(scratch_.candidates, middle, Larger);
    return found;
  }

  // Candidates in order of value that share `total` up to top_p.
  int64_t CutAtTopP(int64_t count, double total) const {
    double sum = 0.0;
    int64_t kept = 0;
    while (kept < count && sum < state_.top_p() * total) {
      sum += Weight(scratch_.candidates[kept++].value);
    }
    return std::max<int64_t>(kept, 1);
  }

  int64_t KeepTopK(bool has_top_p) {
    const int64_t count = GatherLargest(state_.params().top_k);
    if (!has_top_p) return count;
    double total = 0.0;
    for (int64_t i = 0; i < count; ++i) total += Weight(scratch_.candidates[i].value);
    return CutAtTopP(count, total);
  }

  int64_t KeepNucleus() {
    const double total = Mass();
    for (int64_t wanted = kFirstNucleus;; wanted *= 8) {
      const int64_t count = GatherLargest(std::min(wanted, size_));
      const int64_t kept = CutAtTopP(count, total);
      if (kept < count || wanted >= size_) return kept;
    }
  }

  // Of the first `count` candidates those that min_p leaves, drawn from in the order of their ids.
  TokenId Draw(int64_t count, double u) {
    Candidate* begin = scratch_.candidates;
    const double floor = std::min(state_.params().min_p, 1.0f);
    Candidate* end = std::remove_if(begin, begin + count,
                                    [&](const Candidate& c) { return Weight(c.value) < floor; });
    std::sort(begin, end, [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
    double total = 0.0;
    for (const Candidate* c = begin; c != end; ++c) total += Weight(c->value);
    double sum = 0.0;
    for (const Candidate* c = begin; c != end; ++c) {
      sum += Weight(c->value);
      if (sum > u * total) return c->token;
    }
    return (end - 1)->token;
  }

  // No top_k, no top_p: finds the block by the blocks' sums, then the token in it.
  TokenId ChooseFromAll(double u) {
    if (state_.params().min_p > 0.0f) return Draw(KeepByMinP(), u);
    const double target = u * Mass();
    double sum = 0.0;
    int64_t last = largest_.token;
    for (int64_t b = 0; b < NumBlocks(size_); ++b) {
      if (sum + scratch_.block_sums[b] <= target) {
        sum += scratch_.block_sums[b];
        continue;
      }
      for (int64_t i = b * kSampleBlock; i < std::min((b + 1) * kSampleBlock, size_); ++i) {
        const double weight = Weight(values_[i]);
        sum += weight;
        if (weight > 0.0) last = i;
        if (sum > target) return static_cast<TokenId>(i);
      }
    }
    return static_cast<TokenId>(last);  // rounding carried the target past the end
  }

  int64_t KeepByMinP() {
    const float threshold =
        largest_.value + std::log(std::min(state_.params().min_p, 1.0f)) - 1e-3f;
    Candidate* end = scratch_.candidates;
    for (int64_t b = 0; b < NumBlocks(size_); ++b) {
      if (scratch_.maxima[b] < threshold) continue;
      for (int64_t i = b * kSampleBlock; i < std::min((b + 1) * kSampleBlock, size_); ++i) {
        if (values_[i] >= threshold) *end++ = {static_cast<TokenId>(i), values_[i]};
      }
    }
    return end - scratch_.candidates;
  }

  SampleRow& row_;
  const SamplingState& state_;
  const int64_t size_;
  const SamplingKernels& kernels_;
  const RowScratch scratch_;
  const float* values_ = nullptr;
  Candidate largest_;
  double mass_ = 0.0;
};

}  // namespace

int64_t SampleWorkspaceBytes(int64_t vocab_size, int num_threads) {
  return RowScratchBytes(vocab_size) * num_threads;
}

void Sample(const SampleParams& params, CpuContext& context) {
  TRIREME_CHECK_GT(params.vocab_size, 0);
  g_sampling.Count(context.isa);
  if (context.isa == Isa::kGeneric) return SampleReference(params);
  const SamplingKernels& kernels =
      context.isa == Isa::kAvx512 ? kAvx512SamplingKernels : kAvx2SamplingKernels;
  const auto one = [&](int64_t r, int worker) {
    RowSampler(params.rows[static_cast<size_t>(r)], params.vocab_size, kernels,
               ScratchOf(params.workspace, params.vocab_size, worker))
        .Run();
  };
  const int64_t rows = static_cast<int64_t>(params.rows.size());
  if (context.pool) return context.pool->ParallelFor(rows, one);
  for (int64_t r = 0; r < rows; ++r) one(r, 0);
}

}  // namespace trireme::kernels

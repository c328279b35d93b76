// SPDX-License-Identifier: Apache-2.0
// The second kernel of sampling: one thread block chooses the token of a row from what the scan left,
// and one thread appends it to the slot.
//
//   greedy               the largest chunk maximum
//   no top-k, no top-p   the chunk, then the token in it, at which the cumulative mass passes u
//   otherwise            candidates: logits at or above a bound that surely holds all that can be
//                        kept, taken from the maxima of blocks; sorted in shared memory, cut by
//                        top-k, top-p and min-p, put back into the order of ids, drawn from.
//                        Too many candidates: the same cuts by bisection over the whole row.
#pragma once

#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/sampling_row.cuh"

namespace trireme::cuda {

constexpr int kChooseThreads = 512;
constexpr int kMaxCandidates = 2048;
constexpr int kFirstNucleus = 512;  // candidates looked at for a top-p without top-k
constexpr int kBlocksPerThread = kMaxBlocks / kChooseThreads;

struct Choice {
  int32_t token = 0;
  float log_prob = 0.0f;
  int32_t flags = 0;
};

struct ChooseScratch {
  uint64_t candidates[kMaxCandidates];  // order key << 32 | ~token
  int32_t blocks[kMaxBlocks];           // that may hold candidates
  double chunk_mass[kMaxChunks];        // relative to the row's maximum
  double sums[kChooseThreads / 32];
  double broadcast;
  int32_t num_candidates;
  int32_t num_blocks;
  int32_t token;
  int32_t chunk;
};

// Logits that are kept: those above `key`, and of the equal ones ids below `id_end`.
struct Cut {
  uint32_t key = 0;
  int32_t id_end = 0x7fffffff;

  __device__ bool Keeps(uint32_t other, int id) const {
    return other > key || (other == key && id < id_end);
  }
};

class RowChooser {
 public:
  __device__ RowChooser(const SampleParams& p, const SampleWorkspace& w, int row,
                        const SampleRow& target, ChooseScratch& scratch)
      : w_(w), state_(p.slots.states[target.slot]), scratch_(scratch), size_(p.slots.vocab_size) {
    const bool processed = IsProcessed(state_);
    values_ = processed ? RowValues{w.values + row * w.values_stride, 0.0f}
                        : RowValues{p.logits + target.logit_row * p.logits_stride, Divisor(state_)};
    chunks_ = w.chunks + int64_t{row} * w.num_chunks;
    maxima_ = w.maxima + row * w.maxima_stride;
  }

  // The same in every thread of the block.
  __device__ Choice Choose() {
    Choice choice;
    MergeChunks(choice);
    if (fabsf(max_) == CUDART_INF_F) {
      if (state_.log_probs) choice.log_prob = -CUDART_INF_F;
      return choice;
    }
    if (!IsGreedy(state_)) {
      const double u = PhiloxUniform(state_.seed, static_cast<uint64_t>(state_.num_tokens));
      choice.token = Draw(u);
    }
    if (state_.log_probs) {
      choice.log_prob = values_(choice.token) - max_ - static_cast<float>(log(mass_));
    }
    return choice;
  }

 private:
  __device__ int Thread() const { return static_cast<int>(threadIdx.x); }
  __device__ double Weight(float value) const { return exp(static_cast<double>(value - max_)); }

  // Finds the largest logit, its first id and the row's mass.
  __device__ void MergeChunks(Choice& choice) {
    uint64_t best = 0;
    for (int c = 0; c < w_.num_chunks; ++c) {
      const ChunkResult chunk = chunks_[c];
      const uint64_t key =
          uint64_t{OrderKey(chunk.max)} << 32 | ~static_cast<uint32_t>(chunk.token);
      best = key > best ? key : best;
      choice.flags |= chunk.flags;
    }
    max_ = FromOrderKey(static_cast<uint32_t>(best >> 32));
    choice.token = static_cast<int32_t>(~static_cast<uint32_t>(best));
    if (Thread() < w_.num_chunks) {
      const ChunkResult chunk = chunks_[Thread()];
      scratch_.chunk_mass[Thread()] = chunk.mass == 0.0f ? 0.0 : chunk.mass * Weight(chunk.max);
    }
    __syncthreads();
    mass_ = 0.0;
    for (int c = 0; c < w_.num_chunks; ++c) mass_ += scratch_.chunk_mass[c];
  }

  __device__ int Draw(double u) {
    const bool has_top_k = state_.top_k > 0 && state_.top_k < size_;
    const bool has_top_p = state_.top_p > 0.0f && state_.top_p < 1.0f;
    const bool has_min_p = state_.min_p > 0.0f;
    if (!has_top_k && !has_top_p && !has_min_p) {
      return DrawInOrder(Cut{}, -1.0, u * mass_, /*chunk_masses_known=*/true);
    }
    const int wanted = has_top_k ? state_.top_k : kFirstNucleus;
    const bool by_min_p = !has_top_k && !has_top_p;
    const float bound =
        by_min_p ? max_ + logf(fminf(state_.min_p, 1.0f)) - 1e-3f : BoundOfLargest(wanted);
    if (GatherCandidates(bound)) {
      const int token = DrawFromCandidates(has_top_k, has_top_p, u);
      if (token >= 0) return token;
    }
    return DrawFromRow(has_top_k, has_top_p, u);
  }

  // --- Candidates ---

  // At least `wanted` logits reach the wanted-th largest of the block maxima.
  __device__ float BoundOfLargest(int wanted) {
    if (wanted >= w_.num_blocks) return -CUDART_INF_F;
    uint32_t keys[kBlocksPerThread];
#pragma unroll
    for (int i = 0; i < kBlocksPerThread; ++i) {
      const int block = i * kChooseThreads + Thread();
      keys[i] = block < w_.num_blocks ? OrderKey(maxima_[block]) : 0;
    }
    uint32_t bound = 0;  // the largest key that `wanted` maxima reach
    for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
      int count = 0;
#pragma unroll
      for (int i = 0; i < kBlocksPerThread; ++i) {
        if (i * kChooseThreads >= w_.num_blocks) break;
        count += __syncthreads_count(keys[i] >= (bound | bit));
      }
      if (count >= wanted) bound |= bit;
    }
    return FromOrderKey(bound);
  }

  // Every logit >= bound and above -inf, in no order. False when they are too many.
  __device__ bool GatherCandidates(float bound) {
    __syncthreads();
    if (Thread() == 0) scratch_.num_candidates = scratch_.num_blocks = 0;
    __syncthreads();
    for (int b = Thread(); b < w_.num_blocks; b += kChooseThreads) {
      if (maxima_[b] >= bound) scratch_.blocks[atomicAdd(&scratch_.num_blocks, 1)] = b;
    }
    __syncthreads();
    constexpr int kAtOnce = 4;  // blocks a warp reads before it waits
    const int lane = Thread() % 32;
    const int num_blocks = scratch_.num_blocks;
    for (int first = Thread() / 32 * kAtOnce; first < num_blocks;
         first += kChooseThreads / 32 * kAtOnce) {
      float x[kAtOnce][kSampleBlock / 32];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
        for (int j = 0; j < kSampleBlock / 32; ++j) {
          const int i = first + k < num_blocks ? Place(first + k, j, lane) : size_;
          x[k][j] = i < size_ ? values_(i) : -CUDART_INF_F;
        }
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
#pragma unroll
        for (int j = 0; j < kSampleBlock / 32; ++j) {
          if (x[k][j] >= bound && x[k][j] > -CUDART_INF_F) {
            AddCandidate(x[k][j], Place(first + k, j, lane));
          }
        }
      }
    }
    __syncthreads();
    return scratch_.num_candidates <= kMaxCandidates;
  }

  __device__ int Place(int listed_block, int j, int lane) const {
    return scratch_.blocks[listed_block] * kSampleBlock + j * 32 + lane;
  }

  __device__ void AddCandidate(float value, int id) {
    const int at = atomicAdd(&scratch_.num_candidates, 1);
    if (at >= kMaxCandidates) return;
    scratch_.candidates[at] = uint64_t{OrderKey(value)} << 32 | ~static_cast<uint32_t>(id);
  }

  // Bitonic, largest first. Entries from `count` to the next power of two are overwritten.
  __device__ void SortCandidates(int count) {
    int size = 32;
    while (size < count) size *= 2;
    for (int i = count + Thread(); i < size; i += kChooseThreads) scratch_.candidates[i] = 0;
    for (int run = 2; run <= size; run *= 2) {
      for (int distance = run / 2; distance > 0; distance /= 2) {
        __syncthreads();
        for (int i = Thread(); i < size / 2; i += kChooseThreads) {
          const int low = 2 * i - (i & (distance - 1));
          const int high = low + distance;
          const uint64_t a = scratch_.candidates[low];
          const uint64_t b = scratch_.candidates[high];
          if (((low & run) == 0) == (a < b)) {
            scratch_.candidates[low] = b;
            scratch_.candidates[high] = a;
          }
        }
      }
    }
    __syncthreads();
  }

  __device__ double CandidateWeight(int i) const {
    return Weight(FromOrderKey(static_cast<uint32_t>(scratch_.candidates[i] >> 32)));
  }

  // Sum over the block's threads; `before` gets the sum of the threads below.
  __device__ double BlockScan(double value, double* before) {
    const int lane = Thread() % 32;
    const int warp = Thread() / 32;
    double inclusive = value;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
      const double other = __shfl_up_sync(0xffffffffu, inclusive, offset);
      if (lane >= offset) inclusive += other;
    }
    __syncthreads();  // scratch_.sums may still be read
    if (lane == 31) scratch_.sums[warp] = inclusive;
    __syncthreads();
    double base = 0.0;
    double total = 0.0;
    for (int w = 0; w < kChooseThreads / 32; ++w) {
      if (w == warp) base = total;
      total += scratch_.sums[w];
    }
    *before = base + inclusive - value;
    return total;
  }

  // How many of the first `count` candidates, in order, it takes for the sum to reach `target`;
  // count + 1 when it does not. Thread t looks after a run of neighbours.
  __device__ int CountToReach(int count, double target) {
    const int run = (count + kChooseThreads - 1) / kChooseThreads;
    const int begin = min(Thread() * run, count);
    const int end = min(begin + run, count);
    double own = 0.0;
    for (int i = begin; i < end; ++i) own += CandidateWeight(i);
    double sum = 0.0;
    BlockScan(own, &sum);
    if (Thread() == 0) scratch_.num_blocks = count + 1;
    __syncthreads();
    for (int i = begin; i < end; ++i) {
      sum += CandidateWeight(i);
      if (sum >= target) {
        atomicMin(&scratch_.num_blocks, i + 1);
        break;
      }
    }
    __syncthreads();
    return scratch_.num_blocks;
  }

  __device__ double SumOfFirst(int count) {
    double own = 0.0;
    for (int i = Thread(); i < count; i += kChooseThreads) own += CandidateWeight(i);
    double before = 0.0;
    return BlockScan(own, &before);
  }

  // -1: the candidates do not hold the mass that top_p wants.
  __device__ int DrawFromCandidates(bool has_top_k, bool has_top_p, double u) {
    int count = scratch_.num_candidates;
    SortCandidates(count);
    if (has_top_k) count = min(count, state_.top_k);
    if (has_top_p) {
      const double total = has_top_k ? SumOfFirst(count) : mass_;
      const int kept = CountToReach(count, state_.top_p * total);
      if (kept > count && !has_top_k && count < size_) return -1;
      count = max(min(kept, count), 1);
    }
    const double floor = fminf(state_.min_p, 1.0f);
    int above = 0;
    for (int first = 0; first < count; first += kChooseThreads) {
      const int i = first + Thread();
      above += __syncthreads_count(i < count && CandidateWeight(i) >= floor);
    }
    // Into the order of ids: sorted by their complement, largest first.
    for (int i = Thread(); i < above; i += kChooseThreads) {
      const uint64_t c = scratch_.candidates[i];
      scratch_.candidates[i] = c << 32 | c >> 32;
    }
    __syncthreads();
    SortCandidates(above);
    for (int i = Thread(); i < above; i += kChooseThreads) {
      const uint64_t c = scratch_.candidates[i];
      scratch_.candidates[i] = c << 32 | c >> 32;
    }
    __syncthreads();
    const double target = u * SumOfFirst(above);
    // The walk stops where the sum passes the target, not where it reaches it.
    const int at = min(CountToReach(above, nextafter(target, CUDART_INF)), above);
    return static_cast<int32_t>(~static_cast<uint32_t>(scratch_.candidates[at - 1]));
  }

  // --- The whole row ---

  __device__ int DrawFromRow(bool has_top_k, bool has_top_p, double u) {
    Cut cut;
    if (has_top_k) cut = CutWhere<false>(cut, state_.top_k);
    if (has_top_p) {
      const double total = has_top_k ? Measure<true>(cut, 0) : mass_;
      cut = CutWhere<true>(cut, state_.top_p * total);
    }
    const double floor = fminf(state_.min_p, 1.0f);
    return DrawInOrder(cut, floor, u, /*chunk_masses_known=*/false);
  }

  // As the scan weighs: its masses are what top_p is a share of.
  __device__ double RowWeight(float value) const { return __expf(value - max_); }

  // How many kept logits have at least the order key `key`, or their mass.
  template <bool kMass>
  __device__ double Measure(const Cut& cut, uint32_t key) {
    constexpr int kAtOnce = 8;  // logits a thread reads before it waits
    double own = 0.0;
    for (int first = Thread(); first < size_; first += kChooseThreads * kAtOnce) {
      float x[kAtOnce];
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const int i = first + k * kChooseThreads;
        x[k] = i < size_ ? values_(i) : -CUDART_INF_F;
      }
#pragma unroll
      for (int k = 0; k < kAtOnce; ++k) {
        const int i = first + k * kChooseThreads;
        const uint32_t other = OrderKey(x[k]);
        if (i < size_ && other >= key && cut.Keeps(other, i)) own += kMass ? RowWeight(x[k]) : 1.0;
      }
    }
    double before = 0.0;
    return BlockScan(own, &before);
  }

  // Keeps of the kept logits the fewest, largest first, whose measure reaches `target`.
  template <bool kMass>
  __device__ Cut CutWhere(const Cut& cut, double target) {
    uint32_t key = 0;  // the largest key at which the target is reached
    for (uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
      if (Measure<kMass>(cut, key | bit) >= target) key |= bit;
    }
    const double above = Measure<kMass>(cut, key + 1);
    const double each = kMass ? RowWeight(FromOrderKey(key)) : 1.0;
    const double equal_wanted = fmax(ceil((target - above) / each), 1.0);
    const double equal = Measure<false>(cut, key) - Measure<false>(cut, key + 1);
    if (equal_wanted >= equal) return {key, cut.key == key ? cut.id_end : 0x7fffffff};
    return {key, IdAfter(cut, key, static_cast<int>(equal_wanted))};
  }

  // One past the id of the count-th kept logit, in the order of ids, that has this key.
  __device__ int IdAfter(const Cut& cut, uint32_t key, int count) {
    const int run = (size_ + kChooseThreads - 1) / kChooseThreads;
    const int begin = min(Thread() * run, size_);
    const int end = min(begin + run, size_);
    int own = 0;
    for (int i = begin; i < end; ++i) {
      own += OrderKey(values_(i)) == key && cut.Keeps(key, i) ? 1 : 0;
    }
    double before = 0.0;
    BlockScan(own, &before);
    if (Thread() == 0) scratch_.token = 0x7fffffff;
    __syncthreads();
    int seen = static_cast<int>(before);
    if (seen < count && seen + own >= count) {
      for (int i = begin; i < end; ++i) {
        if (OrderKey(values_(i)) != key || !cut.Keeps(key, i)) continue;
        if (++seen == count) scratch_.token = i + 1;
      }
    }
    __syncthreads();
    return scratch_.token;
  }

  // Weight in the walk over ids; below `floor` there is none.
  __device__ double KeptWeight(const Cut& cut, double floor, int i) const {
    const float x = values_(i);
    if (!cut.Keeps(OrderKey(x), i)) return 0.0;
    const double weight = Weight(x);
    return weight < floor ? 0.0 : weight;
  }

  // Walks the kept logits in the order of their ids to `point`: a mass when the scan's chunk masses
  // are those of the kept logits, else a share of the kept mass.
  __device__ int DrawInOrder(const Cut& cut, double floor, double point, bool chunk_masses_known) {
    if (!chunk_masses_known) {
      double total = 0.0;
      for (int c = 0; c < w_.num_chunks; ++c) {
        double own = 0.0;
        const int end = min((c + 1) * kChunk, size_);
        for (int i = c * kChunk + Thread(); i < end; i += kChooseThreads) {
          own += KeptWeight(cut, floor, i);
        }
        double before = 0.0;
        const double mass = BlockScan(own, &before);
        if (Thread() == 0) scratch_.chunk_mass[c] = mass;
        total += mass;
      }
      point *= total;
      __syncthreads();
    }
    // The first chunk that passes the point; should rounding carry it past the end, the last that
    // has any mass.
    double base = 0.0;
    double sum = 0.0;
    int chunk = 0;
    for (int c = 0; c < w_.num_chunks; ++c) {
      const double mass = scratch_.chunk_mass[c];
      if (mass > 0.0) chunk = c, base = sum;
      sum += mass;
      if (sum > point) break;
    }
    return DrawInChunk(cut, floor, chunk, point - base);
  }

  __device__ int DrawInChunk(const Cut& cut, double floor, int chunk, double point) {
    constexpr int kRun = kChunk / kChooseThreads;
    const int begin = min(chunk * kChunk + Thread() * kRun, size_);
    const int end = min(begin + kRun, size_);
    double own = 0.0;
    int last = -1;
    for (int i = begin; i < end; ++i) {
      const double weight = KeptWeight(cut, floor, i);
      own += weight;
      if (weight > 0.0) last = i;
    }
    double sum = 0.0;
    BlockScan(own, &sum);
    if (Thread() == 0) {
      scratch_.token = 0x7fffffff;
      scratch_.chunk = -1;
    }
    __syncthreads();
    for (int i = begin; i < end; ++i) {
      sum += KeptWeight(cut, floor, i);
      if (sum > point) {
        if (KeptWeight(cut, floor, i) > 0.0) atomicMin(&scratch_.token, i);
        break;
      }
    }
    if (last >= 0) atomicMax(&scratch_.chunk, last);
    __syncthreads();
    return scratch_.token != 0x7fffffff ? scratch_.token : max(scratch_.chunk, 0);
  }

  const SampleWorkspace& w_;
  const SlotSampling state_;
  ChooseScratch& scratch_;
  const int size_;
  RowValues values_;
  const ChunkResult* chunks_;
  const float* maxima_;
  float max_ = 0.0f;
  double mass_ = 0.0;
};

// The slot takes the token; says whether the sequence ends with it. One thread.
__device__ inline SampleResult AppendToken(const SamplingSlots& slots, int slot,
                                           const Choice& choice) {
  SlotSampling& s = slots.states[slot];
  int32_t* tokens = slots.tokens + int64_t{slot} * slots.max_seq_len;
  const int32_t* words = slots.words + int64_t{slot} * slots.max_words;
  const int token = choice.token;
  const int length = s.num_tokens + 1;
  if (length <= slots.max_seq_len) tokens[length - 1] = token;
  if (s.penalties) ++slots.counts[int64_t{slot} * slots.vocab_size + token];
  slots.last_tokens[slot] = token;
  s.num_tokens = length;
  s.cum_log_prob += choice.log_prob;
  s.top_p = token == s.top_p_reset_id
                ? s.initial_top_p
                : fmaxf(s.top_p * s.top_p_decay, fminf(s.initial_top_p, s.top_p_min));

  const int num_generated = length - s.num_prompt;
  int finish = num_generated >= max(s.max_tokens, 0) ? 3 : 0;
  int at = s.num_end_ids;
  for (int w = 0; w < s.num_stop_words; ++w) {
    const int word_length = words[at];
    const int32_t* word = words + at + 1;
    at += 1 + word_length;
    if (word_length > num_generated || word[word_length - 1] != token) continue;
    bool matches = true;
    for (int i = 0; matches && i < word_length - 1; ++i) {
      matches = word[i] == tokens[length - word_length + i];
    }
    if (matches) finish = 2;
  }
  for (int i = 0; i < s.num_end_ids; ++i) {
    if (words[i] == token) finish = 1;
  }
  return {slot, token, finish, choice.log_prob, s.cum_log_prob, choice.flags};
}

}  // namespace trireme::cuda

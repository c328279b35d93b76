// SPDX-License-Identifier: Apache-2.0
#include "engine/cuda/cuda_step.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"
#include "device/cuda/cuda_status.h"
#include "engine/session_setup.h"

namespace trireme::engine {
namespace {

constexpr int64_t kWord = sizeof(int32_t);
constexpr int kRowWords = sizeof(cuda::PackedRow) / kWord;
constexpr int kDeltaWords = sizeof(cuda::PackedDelta) / kWord;
constexpr int kHeaderWords = sizeof(cuda::PackedStepHeader) / kWord;
constexpr int kSampleRowWords = sizeof(cuda::SampleRow) / kWord;

int64_t SampleWords(int64_t num_rows) { return 1 + num_rows * kSampleRowWords; }

template <typename T>
void Put(const T& value, int32_t* words) {
  std::memcpy(words, &value, sizeof(T));
}

// Gives out pieces of one buffer, 256-byte aligned.
class Carver {
 public:
  int64_t Take(int64_t num_words) {
    const int64_t begin = size_;
    size_ += (num_words * kWord + 255) / 256 * 256;
    return begin;
  }
  int64_t size() const { return size_; }

 private:
  int64_t size_ = 0;
};

}  // namespace

StatusOr<CudaStep> CudaStep::Create(const SessionLimits& limits, int max_blocks_per_seq,
                                    int block_size) {
  CudaStep step;
  step.limits_ = limits;
  step.block_size_ = block_size;
  step.max_blocks_per_seq_ = max_blocks_per_seq;
  step.slot_logit_rows_.assign(static_cast<size_t>(limits.max_batch_size), -1);
  const int64_t seqs = limits.max_batch_size;
  const int64_t tokens = limits.max_num_tokens;
  const int64_t table = seqs * max_blocks_per_seq;
  const int64_t packed_bytes =
      kWord * (cuda::PackedStepWords(seqs, tokens, table) + SampleWords(seqs));
  // Most steps are far smaller; the ring grows for one that sends whole tables.
  TRIREME_ASSIGN_OR_RETURN(step.staging_, cuda::StagingRing::Create(std::min<int64_t>(
                                              packed_bytes, kWord * (seqs * 16 + tokens + 1024))));
  TRIREME_ASSIGN_OR_RETURN(step.sample_staging_,
                           cuda::StagingRing::Create(kWord * SampleWords(seqs)));
  TRIREME_ASSIGN_OR_RETURN(step.packed_, cuda::DeviceBuffer::Allocate(packed_bytes, "the step"));
  TRIREME_ASSIGN_OR_RETURN(step.sample_rows_,
                           cuda::DeviceBuffer::Allocate(kWord * SampleWords(seqs), "the step"));
  TRIREME_ASSIGN_OR_RETURN(step.slot_block_tables_,
                           cuda::DeviceBuffer::Allocate(kWord * table, "block tables"));
  Carver carver;
  const int64_t counts = carver.Take(sizeof(cuda::StepCounts) / kWord);
  const int64_t token_ids = carver.Take(tokens);
  const int64_t positions = carver.Take(tokens);
  const int64_t token_seqs = carver.Take(tokens);
  const int64_t cu_query_lens = carver.Take(seqs + 1);
  const int64_t context_lens = carver.Take(seqs);
  const int64_t logit_rows = carver.Take(seqs);
  const int64_t block_tables = carver.Take(table);
  TRIREME_ASSIGN_OR_RETURN(step.arrays_, cuda::DeviceBuffer::Allocate(carver.size(), "the step"));
  for (const cuda::DeviceBuffer* buffer : {&step.slot_block_tables_, &step.arrays_}) {
    TRIREME_CUDA_RETURN_IF_ERROR(cudaMemset(buffer->data(), 0, static_cast<size_t>(buffer->size())),
                                 "clearing the step");
  }
  const auto at = [&](int64_t offset) {
    return reinterpret_cast<int32_t*>(step.arrays_.data() + offset);
  };
  step.view_.counts = reinterpret_cast<cuda::StepCounts*>(at(counts));
  step.view_.token_ids = at(token_ids);
  step.view_.positions = at(positions);
  step.view_.token_seqs = at(token_seqs);
  step.view_.cu_query_lens = at(cu_query_lens);
  step.view_.context_lens = at(context_lens);
  step.view_.logit_rows = at(logit_rows);
  step.view_.block_tables = at(block_tables);
  step.view_.block_table_stride = max_blocks_per_seq;
  step.view_.max_seq_len = limits.max_seq_len;
  return step;
}

int64_t CudaStep::SampleWordsBegin() const {
  return cuda::PackedStepWords(header_.num_rows, header_.num_given, header_.num_deltas);
}

void CudaStep::PackRows(const StepInput& input, int32_t* words) {
  int32_t* row_words = words + kHeaderWords;
  int32_t* given = row_words + static_cast<int64_t>(input.rows.size()) * kRowWords;
  cuda::PackedRow packed;
  packed.first_query = 0;
  int num_given = 0;
  for (const StepRow& row : input.rows) {
    const int query_len = QueryLen(row);
    packed.slot = row.slot;
    packed.context_len = row.context_len;
    packed.first_logit_row = header_.num_logit_rows;
    packed.num_logit_rows = row.logits == LogitsWanted::kNone ? 0 : 1;
    packed.first_given = row.tokens.empty() ? -1 : num_given;
    Put(packed, row_words);
    row_words += kRowWords;
    std::copy(row.tokens.begin(), row.tokens.end(), given + num_given);
    num_given += static_cast<int>(row.tokens.size());
    first_queries_.push_back(packed.first_query);
    logit_rows_.push_back(packed.num_logit_rows > 0 ? packed.first_logit_row : -1);
    slot_logit_rows_[static_cast<size_t>(row.slot)] = logit_rows_.back();
    if (packed.num_logit_rows > 0) sent_slots_.push_back(row.slot);
    packed.first_query += query_len;
    header_.num_logit_rows += packed.num_logit_rows;
    header_.max_query_len = std::max(header_.max_query_len, query_len);
    longest_seq_ = std::max(longest_seq_, row.context_len + query_len);
  }
  header_.num_tokens = packed.first_query;
}

// Returns the words written.
int CudaStep::PackSampleRows(std::span<const int> slots, int32_t* words) const {
  *words++ = static_cast<int32_t>(slots.size());
  for (int slot : slots) {
    Put(cuda::SampleRow{slot, logit_row_of_slot(slot)}, words);
    words += kSampleRowWords;
  }
  return static_cast<int>(SampleWords(static_cast<int64_t>(slots.size())));
}

Status CudaStep::Send(const StepInput& input, const cuda::Stream& stream) {
  header_ = {};
  longest_seq_ = 0;
  logit_rows_.clear();
  first_queries_.clear();
  sent_slots_.clear();
  std::fill(slot_logit_rows_.begin(), slot_logit_rows_.end(), -1);
  header_.num_rows = static_cast<int32_t>(input.rows.size());
  header_.num_deltas = static_cast<int32_t>(input.block_table_deltas.size());
  for (const StepRow& row : input.rows) {
    header_.num_given += static_cast<int32_t>(row.tokens.size());
  }
  const int64_t most = SampleWordsBegin() + SampleWords(header_.num_rows);
  TRIREME_ASSIGN_OR_RETURN(std::byte * staging, staging_.Next(most * kWord));
  if (most * kWord > packed_.size()) {
    return Internal("step: {} block-table entries sent twice", header_.num_deltas);
  }
  auto* words = reinterpret_cast<int32_t*>(staging);
  PackRows(input, words);
  Put(header_, words);
  int32_t* deltas = words + kHeaderWords + header_.num_rows * kRowWords + header_.num_given;
  for (const BlockTableDelta& delta : input.block_table_deltas) {
    Put(cuda::PackedDelta{delta.slot, delta.index, delta.block}, deltas);
    deltas += kDeltaWords;
  }
  const int64_t used = SampleWordsBegin() + PackSampleRows(sent_slots_, words + SampleWordsBegin());
  return staging_.Copy(0, used * kWord, packed_.data(), stream);
}

cuda::StepView CudaStep::View(int max_tokens, int max_seqs, int max_logit_rows,
                              int max_query) const {
  cuda::StepView view = view_;
  view.max_tokens = max_tokens;
  view.max_seqs = max_seqs;
  view.max_logit_rows = max_logit_rows;
  view.max_query = max_query;
  return view;
}

Status CudaStep::Prepare(const cuda::StepView& view, const int32_t* last_tokens,
                         cuda::LaunchContext& context) const {
  cuda::PrepareStepParams params;
  params.packed = packed_.as<const int32_t>();
  params.last_tokens = last_tokens;
  params.slot_block_tables = slot_block_tables_.as<int32_t>();
  params.block_size = block_size_;
  params.counts = const_cast<cuda::StepCounts*>(view.counts);
  params.token_ids = const_cast<int32_t*>(view.token_ids);
  params.positions = const_cast<int32_t*>(view.positions);
  params.token_seqs = const_cast<int32_t*>(view.token_seqs);
  params.cu_query_lens = const_cast<int32_t*>(view.cu_query_lens);
  params.context_lens = const_cast<int32_t*>(view.context_lens);
  params.block_tables = const_cast<int32_t*>(view.block_tables);
  params.logit_rows = const_cast<int32_t*>(view.logit_rows);
  params.block_table_stride = view.block_table_stride;
  params.max_tokens = view.max_tokens;
  params.max_seqs = view.max_seqs;
  params.max_logit_rows = view.max_logit_rows;
  return cuda::CudaStatus(cuda::PrepareStep(params, context), "PrepareStep");
}

StatusOr<CudaStep::SampleRows> CudaStep::SampleRowsOf(std::span<const int> slots,
                                                      const cuda::Stream& stream) {
  const int32_t* words = packed_.as<const int32_t>() + SampleWordsBegin();
  if (!std::equal(slots.begin(), slots.end(), sent_slots_.begin(), sent_slots_.end())) {
    TRIREME_ASSIGN_OR_RETURN(
        std::byte * staging,
        sample_staging_.Next(kWord * SampleWords(static_cast<int64_t>(slots.size()))));
    const int used = PackSampleRows(slots, reinterpret_cast<int32_t*>(staging));
    TRIREME_RETURN_IF_ERROR(sample_staging_.Copy(0, used * kWord, sample_rows_.data(), stream));
    words = sample_rows_.as<const int32_t>();
  }
  return SampleRows{reinterpret_cast<const cuda::SampleRow*>(words + 1), words};
}

}  // namespace trireme::engine

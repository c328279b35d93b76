// SPDX-License-Identifier: Apache-2.0
// Sampling and step preparation at the vocabulary of Llama 3.
#include <algorithm>
#include <random>

#include "kernels/cuda/bench.h"
#include "kernels/cuda/prepare_step.h"
#include "kernels/cuda/sampling.h"
#include "kernels/cuda/sampling_setup.h"

namespace trireme::cuda {
namespace {

constexpr int kVocab = 128256;
constexpr int kMaxSeqLen = 4096;
constexpr int64_t kRotated = int64_t{192} << 20;

template <typename T>
BenchArray& Upload(BenchArray& array, const std::vector<T>& values) {
  cudaMemcpy(array.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice);
  return array;
}

struct Case {
  const char* name;
  SamplingParams params;
  float std;  // of the logits
};

void TimeSample(Bench& bench, const Case& c, int batch) {
  const std::string name = std::string("sample/") + c.name + "/b" + std::to_string(batch);
  if (!bench.Wants(name)) return;
  using Fill = BenchArray::Fill;
  const int64_t row_bytes = int64_t{kVocab} * 4;
  const int64_t batch_bytes = row_bytes * batch;
  const int sets = static_cast<int>(std::max<int64_t>(1, kRotated / batch_bytes));
  BenchArray logits(batch_bytes * sets, Fill::kNone, 0.0f);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, c.std);
  std::vector<float> row(kVocab * 2);
  for (float& value : row) value = normal(random);
  for (int64_t r = 0; r < int64_t{batch} * sets; ++r) {  // rows differ by where they begin
    cudaMemcpy(logits.data() + r * row_bytes, row.data() + (r * 977) % kVocab,
               static_cast<size_t>(row_bytes), cudaMemcpyHostToDevice);
  }
  const std::vector<TokenId> prompt = {1, 2, 3};
  std::vector<StagedSlot> staged;
  std::vector<int32_t> words;
  std::vector<SampleRow> rows;
  for (int slot = 0; slot < batch; ++slot) {
    SamplingParams params = c.params;
    params.seed = static_cast<uint64_t>(slot);
    StageSlot({.params = params, .prompt = prompt, .max_tokens = 1 << 30}, slot, nullptr,
              kMaxSeqLen, 16, staged, words);
    rows.push_back({slot, slot});
  }
  BenchArray states(int64_t{batch} * static_cast<int64_t>(sizeof(SlotSampling)), Fill::kNone, 0);
  BenchArray last(int64_t{batch} * 4, Fill::kNone, 0),
      words_area(int64_t{batch} * 64, Fill::kNone, 0);
  BenchArray tokens(int64_t{batch} * kMaxSeqLen * 4, Fill::kNone, 0);
  BenchArray staged_device(static_cast<int64_t>(staged.size() * sizeof(StagedSlot)), Fill::kNone,
                           0);
  BenchArray staged_words(static_cast<int64_t>(words.size()) * 4, Fill::kNone, 0);
  BenchArray rows_device(int64_t{batch} * 8, Fill::kNone, 0), count(4, Fill::kNone, 0);
  BenchArray results(int64_t{batch} * static_cast<int64_t>(sizeof(SampleResult)), Fill::kNone, 0);
  BenchArray workspace(SampleWorkspaceBytes(kVocab, batch), Fill::kNone, 0);
  const SamplingSlots slots{reinterpret_cast<SlotSampling*>(states.data()),
                            reinterpret_cast<int32_t*>(last.data()),
                            reinterpret_cast<int32_t*>(tokens.data()),
                            reinterpret_cast<int32_t*>(words_area.data()),
                            nullptr,
                            kMaxSeqLen,
                            16,
                            kVocab};
  LaunchContext load;
  LoadSlots({slots, reinterpret_cast<const StagedSlot*>(Upload(staged_device, staged).data()),
             reinterpret_cast<const int32_t*>(Upload(staged_words, words).data()), batch},
            load);
  Upload(rows_device, rows);
  Upload(count, std::vector<int32_t>{batch});
  cudaDeviceSynchronize();
  const double us = bench.Time(20, 11, [&](int i, LaunchContext& context) {
    return Sample(
               {.slots = slots,
                .logits = reinterpret_cast<const float*>(logits.data() + batch_bytes * (i % sets)),
                .logits_stride = kVocab,
                .rows = reinterpret_cast<const SampleRow*>(rows_device.data()),
                .num_rows = reinterpret_cast<const int32_t*>(count.data()),
                .results = reinterpret_cast<SampleResult*>(results.data()),
                .workspace = workspace.data(),
                .max_rows = batch},
               context) == cudaSuccess;
  });
  bench.Report({.name = name, .us = us, .bytes = static_cast<double>(batch_bytes)});
}

TRIREME_GPU_BENCH(sampling) {
  const Case cases[] = {
      {"greedy", {}, 2.0f},
      {"temperature", {.top_p = 1.0f, .temperature = 0.8f}, 2.0f},
      {"top_k50_p0.9", {.top_k = 50, .top_p = 0.9f}, 2.0f},
      {"top_p0.9", {.top_p = 0.9f}, 5.0f},
      {"flat_top_p0.9", {.top_p = 0.9f}, 0.5f},
  };
  for (const Case& c : cases) {
    for (const int batch : {1, 64, 512}) TimeSample(bench, c, batch);
  }
}

TRIREME_GPU_BENCH(prepare_step) {
  for (const int seqs : {1, 256}) {
    const std::string name = "prepare_step/b" + std::to_string(seqs);
    if (!bench.Wants(name)) continue;
    constexpr int kStride = 64;
    std::vector<int32_t> packed(static_cast<size_t>(PackedStepWords(seqs, 0, 0)));
    *reinterpret_cast<PackedStepHeader*>(packed.data()) = {seqs, seqs, seqs, 1, 0, 0};
    auto* rows = reinterpret_cast<PackedRow*>(packed.data() + sizeof(PackedStepHeader) / 4);
    for (int s = 0; s < seqs; ++s) rows[s] = {s, 1000, s, s, 1, -1};
    using Fill = BenchArray::Fill;
    BenchArray packed_device(static_cast<int64_t>(packed.size()) * 4, Fill::kNone, 0);
    Upload(packed_device, packed);
    BenchArray ints(int64_t{seqs} * 4 * (8 + 2 * kStride) + 4096, Fill::kNone, 0);
    cudaMemset(ints.data(), 0, static_cast<size_t>(seqs) * 4 * (8 + 2 * kStride) + 4096);
    auto* at = reinterpret_cast<int32_t*>(ints.data());
    PrepareStepParams params{.packed = reinterpret_cast<const int32_t*>(packed_device.data()),
                             .block_table_stride = kStride,
                             .max_tokens = seqs,
                             .max_seqs = seqs,
                             .max_logit_rows = seqs};
    params.counts = reinterpret_cast<StepCounts*>(at);
    params.last_tokens = at + 16;
    params.token_ids = at + 16 + seqs;
    params.positions = params.token_ids + seqs;
    params.token_seqs = params.positions + seqs;
    params.context_lens = params.token_seqs + seqs;
    params.logit_rows = params.context_lens + seqs;
    params.cu_query_lens = params.logit_rows + seqs;
    params.slot_block_tables = params.cu_query_lens + seqs + 1;
    params.block_tables = params.slot_block_tables + int64_t{seqs} * kStride;
    const double us = bench.Time(50, 11, [&](int, LaunchContext& context) {
      return PrepareStep(params, context) == cudaSuccess;
    });
    bench.Report({.name = name, .us = us});
  }
}

}  // namespace
}  // namespace trireme::cuda

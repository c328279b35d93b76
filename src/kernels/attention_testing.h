// SPDX-License-Identifier: Apache-2.0
// Sequences over a poisoned paged cache, for tests of attention and of the cache write. Tests only.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "kernels/kernels_testing.h"
#include "kernels/paged_attention.h"
#include "kernels/rope_kv_write.h"

namespace trireme::kernels {

struct AttentionShape {
  DType dtype = DType::kFloat32;
  int num_heads = 4;
  int num_kv_heads = 2;
  int head_dim = 64;
  int block_size = 32;
  int num_layers = 2;
};

// One step: which sequences run, and how many new tokens each.
struct StepPart {
  int seq = 0;
  int query_len = 0;
};

// The q, k, v of token i of sequence s come from (s, i) alone, so that any chunking of a sequence
// meets the same data. Unwritten cache is NaN.
class AttentionBench {
 public:
  AttentionBench(const AttentionShape& shape, int num_seqs, int max_len) : shape_(shape) {
    layout_ = {shape.dtype, shape.num_layers, shape.num_kv_heads, shape.head_dim, shape.block_size};
    max_blocks_ = (max_len + shape.block_size - 1) / shape.block_size;
    const int num_blocks = num_seqs * max_blocks_ + 1;
    pool_.assign(static_cast<size_t>(layout_.block_bytes() * num_blocks), std::byte{0xff});
    std::vector<int32_t> blocks(static_cast<size_t>(num_blocks));
    std::iota(blocks.begin(), blocks.end(), 0);
    TestRandom random(17);
    for (int i = num_blocks - 1; i > 0; --i) {
      std::swap(blocks[static_cast<size_t>(i)], blocks[static_cast<size_t>(random.Below(i + 1))]);
    }
    tables_.assign(blocks.begin(), blocks.begin() + num_seqs * max_blocks_);
    lengths_.assign(static_cast<size_t>(num_seqs), 0);
  }

  const AttentionShape& shape() const { return shape_; }
  int width() const { return (shape_.num_heads + 2 * shape_.num_kv_heads) * shape_.head_dim; }
  int q_width() const { return shape_.num_heads * shape_.head_dim; }

  // Prepares a step: its view stays valid until the next one.
  StepView Begin(const std::vector<StepPart>& parts) {
    cu_ = {0};
    contexts_.clear();
    positions_.clear();
    step_tables_.clear();
    qkv_.clear();
    for (const StepPart& part : parts) {
      int& length = lengths_[static_cast<size_t>(part.seq)];
      contexts_.push_back(length);
      for (int i = 0; i < part.query_len; ++i) {
        positions_.push_back(length + i);
        TestRandom random(static_cast<uint64_t>(part.seq) * 100003 +
                          static_cast<uint64_t>(length + i));
        for (int j = 0; j < width(); ++j) qkv_.push_back(random.Normal());
      }
      length += part.query_len;
      cu_.push_back(cu_.back() + part.query_len);
      const auto table = tables_.begin() + part.seq * max_blocks_;
      step_tables_.insert(step_tables_.end(), table, table + max_blocks_);
    }
    StepView step;
    step.num_tokens = cu_.back();
    step.num_seqs = static_cast<int>(parts.size());
    step.positions = positions_.data();
    step.cu_query_lens = cu_.data();
    step.context_lens = contexts_.data();
    step.block_tables = step_tables_.data();
    step.max_blocks_per_seq = max_blocks_;
    return step;
  }

  const float* qkv() const { return qkv_.data(); }
  KvCacheView kv() {
    return {layout_, pool_.data(), static_cast<int64_t>(pool_.size()) / layout_.block_bytes()};
  }
  std::vector<std::byte>& pool() { return pool_; }
  // Makes the table entries of `seq` for whole blocks before `place` name no block.
  void DropBlocksBefore(int seq, int place) {
    for (int b = 0; b < place / shape_.block_size; ++b) {
      tables_[static_cast<size_t>(seq * max_blocks_ + b)] = -1;
    }
  }

  // Writes the cache and returns attention's rows, for every token of the step.
  std::vector<float> Run(const std::vector<StepPart>& parts, PagedAttentionParams p,
                         CpuContext& context, bool reference = false) {
    const StepView step = Begin(parts);
    GuardedFloats q(int64_t{step.num_tokens} * q_width());
    const RopeKvWriteParams write{.qkv = qkv(),
                                  .qkv_stride = width(),
                                  .num_heads = shape_.num_heads,
                                  .q = q.data(),
                                  .q_stride = q_width(),
                                  .step = step,
                                  .kv = kv(),
                                  .layer = 1};
    RopeKvWrite(write, context);
    GuardedFloats out(q.size());
    const int threads = context.pool ? context.pool->num_threads() : 1;
    GuardedFloats workspace(
        PagedAttentionWorkspaceBytes(layout_, shape_.num_heads, step.num_seqs, threads) / 4);
    p.q = q.data();
    p.q_stride = q_width();
    p.num_heads = shape_.num_heads;
    p.out = out.data();
    p.out_stride = q_width();
    p.step = step;
    p.kv = kv();
    p.layer = 1;
    p.workspace = reinterpret_cast<std::byte*>(workspace.data());
    if (reference) {
      PagedAttentionReference(p);
    } else {
      PagedAttention(p, context);
    }
    EXPECT_TRUE(q.GuardsIntact() && out.GuardsIntact() && workspace.GuardsIntact());
    return out.values();
  }

 private:
  AttentionShape shape_;
  KvLayout layout_;
  int max_blocks_ = 0;
  std::vector<std::byte> pool_;
  std::vector<int32_t> tables_;
  std::vector<int> lengths_;
  std::vector<int32_t> cu_, contexts_, positions_, step_tables_;
  std::vector<float> qkv_;
};

}  // namespace trireme::kernels

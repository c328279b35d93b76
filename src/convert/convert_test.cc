// SPDX-License-Identifier: Apache-2.0
#include "convert/convert.h"

#include <gmock/gmock.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "convert/shard.h"
#include "formats/checkpoint.h"
#include "formats/safetensors.h"
#include "formats/test_files.h"
#include "quantize/weight_only.h"

namespace trireme::convert {
namespace {

using ::testing::HasSubstr;

// Sizes of the model under test; none equals another, so that mixed-up axes show.
constexpr int kHidden = 24;
constexpr int kHeads = 6;
constexpr int kHeadSize = 4;
constexpr int kInter = 36;
constexpr int kVocab = 15;
constexpr int kLayers = 4;

struct Matrix {
  int64_t rows = 0;
  int64_t columns = 0;  // 0: a vector
  std::vector<float> values;

  int64_t width() const { return std::max<int64_t>(1, columns); }
  std::vector<float> Row(int64_t row) const {
    return {values.begin() + row * width(), values.begin() + (row + 1) * width()};
  }
};
using Matrices = std::map<std::string, Matrix>;

// Every element of every tensor is another number, exact in float32.
Matrices PublishedWeights(int num_kv_heads, bool tied, bool bias) {
  Matrices all;
  float next = 1;
  auto add = [&](const std::string& name, int64_t rows, int64_t columns) {
    Matrix& matrix = all[name];
    matrix.rows = rows;
    matrix.columns = columns;
    for (int64_t i = 0; i < rows * std::max<int64_t>(1, columns); ++i) {
      matrix.values.push_back(next++ / 1024);
    }
  };
  add("model.embed_tokens.weight", kVocab, kHidden);
  for (int layer = 0; layer < kLayers; ++layer) {
    const std::string p = fmt::format("model.layers.{}.", layer);
    const int64_t kv = num_kv_heads * kHeadSize;
    add(p + "input_layernorm.weight", kHidden, 0);
    add(p + "self_attn.q_proj.weight", kHeads * kHeadSize, kHidden);
    add(p + "self_attn.k_proj.weight", kv, kHidden);
    add(p + "self_attn.v_proj.weight", kv, kHidden);
    if (bias) {
      add(p + "self_attn.q_proj.bias", kHeads * kHeadSize, 0);
      add(p + "self_attn.k_proj.bias", kv, 0);
      add(p + "self_attn.v_proj.bias", kv, 0);
    }
    add(p + "self_attn.o_proj.weight", kHidden, kHeads * kHeadSize);
    add(p + "post_attention_layernorm.weight", kHidden, 0);
    add(p + "mlp.gate_proj.weight", kInter, kHidden);
    add(p + "mlp.up_proj.weight", kInter, kHidden);
    add(p + "mlp.down_proj.weight", kHidden, kInter);
  }
  add("model.norm.weight", kHidden, 0);
  if (!tied) add("lm_head.weight", kVocab, kHidden);
  return all;
}

struct Variant {
  int num_kv_heads = 3;
  bool tied = false;
  bool qwen2 = false;
};

class ConvertTest : public ::testing::Test {
 protected:
  void WriteModel(const Variant& variant) {
    weights_ = PublishedWeights(variant.num_kv_heads, variant.tied, variant.qwen2);
    std::filesystem::create_directories(folder_.File("hf"));
    WriteWeights();
    folder_.Put(
        "hf/config.json",
        fmt::format(R"({{"architectures": ["{}"], "model_type": "{}", "dtype": "float32",
                  "hidden_size": {}, "num_attention_heads": {}, "num_key_value_heads": {},
                  "head_dim": {}, "intermediate_size": {}, "vocab_size": {},
                  "num_hidden_layers": {}, "max_position_embeddings": 128,
                  "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": {}}})",
                    variant.qwen2 ? "Qwen2ForCausalLM" : "LlamaForCausalLM",
                    variant.qwen2 ? "qwen2" : "llama", kHidden, kHeads, variant.num_kv_heads,
                    kHeadSize, kInter, kVocab, kLayers, variant.tied));
    folder_.Put("hf/tokenizer.json", "{}");
  }

  // Publishes weights_.
  void WriteWeights() {
    std::vector<SafetensorsWriter::Entry> entries;
    for (const auto& [name, matrix] : weights_) {
      entries.push_back(
          {name, DType::kFloat32,
           matrix.columns == 0 ? Shape{matrix.rows} : Shape{matrix.rows, matrix.columns}});
    }
    auto writer =
        SafetensorsWriter::Create(folder_.File("hf/model.safetensors"), std::move(entries), {});
    ASSERT_TRUE(writer.ok()) << writer.status().ToString();
    for (const auto& [name, matrix] : weights_) {
      ASSERT_TRUE((*writer)->Write(name, std::as_bytes(std::span(matrix.values))).ok());
    }
    ASSERT_TRUE((*writer)->Finish().ok());
  }

  // Converts with config.json changed in one place.
  Status ConvertWith(std::string_view from, std::string_view to) {
    const std::string good = ReadAll(folder_.File("hf/config.json"));
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    folder_.Put("hf/config.json", text);
    const Status status = Convert(Options(), {});
    folder_.Put("hf/config.json", good);
    return status;
  }

  ConvertOptions Options() const {
    ConvertOptions options;
    options.model_dir = folder_.File("hf");
    options.output_dir = folder_.File("ck");
    return options;
  }

  // The float32 contents of one rank's file.
  Matrices ReadRank(int rank) const {
    Matrices all;
    auto source = OpenSafetensors(RankFile(folder_.File("ck"), rank));
    EXPECT_TRUE(source.ok()) << source.status().ToString();
    if (!source.ok()) return all;
    for (const std::string& name : (*source)->Names()) {
      const TensorView view = (*source)->Get(name).value();
      if (!IsFloat(view.dtype)) continue;
      all[name] = {view.shape[0], view.shape.rank() == 2 ? view.shape[1] : 0, ToFloats(view)};
    }
    return all;
  }

  TestFolder folder_;
  Matrices weights_;
};

// ---- the format's rules, written down once more in the plainest way ----

// Rows of the listed heads.
std::vector<float> HeadRows(const Matrix& matrix, const std::vector<int>& heads) {
  std::vector<float> rows;
  for (const int head : heads) {
    for (int i = 0; i < kHeadSize; ++i) {
      const std::vector<float> row = matrix.Row(int64_t{head} * kHeadSize + i);
      rows.insert(rows.end(), row.begin(), row.end());
    }
  }
  return rows;
}

std::vector<float> Rows(const Matrix& matrix, int64_t begin, int64_t end) {
  std::vector<float> rows;
  for (int64_t r = begin; r < end; ++r) {
    const std::vector<float> row =
        r < matrix.rows ? matrix.Row(r) : std::vector<float>(static_cast<size_t>(matrix.width()));
    rows.insert(rows.end(), row.begin(), row.end());
  }
  return rows;
}

std::vector<float> Columns(const Matrix& matrix, int64_t begin, int64_t end) {
  std::vector<float> cut;
  for (int64_t r = 0; r < matrix.rows; ++r) {
    for (int64_t c = begin; c < end; ++c) cut.push_back(matrix.Row(r)[static_cast<size_t>(c)]);
  }
  return cut;
}

std::vector<int> Range(int begin, int end) {
  std::vector<int> range;
  for (int i = begin; i < end; ++i) range.push_back(i);
  return range;
}

std::vector<float> Join(std::initializer_list<std::vector<float>> parts) {
  std::vector<float> all;
  for (const auto& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

struct Cut {
  Variant variant;
  int tp = 1;
  int pp = 1;
};

class ConvertCutTest : public ConvertTest, public ::testing::WithParamInterface<Cut> {};

TEST_P(ConvertCutTest, EveryTensorIsWhereTheFormatPutsIt) {
  const auto& [variant, tp, pp] = GetParam();
  WriteModel(variant);
  ConvertOptions options = Options();
  options.tp_size = tp;
  options.pp_size = pp;
  options.workers = 3;
  const Status status = Convert(options, {});
  ASSERT_TRUE(status.ok()) << status.ToString();
  const int per_stage = kLayers / pp;
  const int kv_heads = variant.num_kv_heads;
  for (int rank = 0; rank < tp * pp; ++rank) {
    SCOPED_TRACE(rank);
    Matrices got = ReadRank(rank);
    const int t = rank % tp;
    const int stage = rank / tp;
    const std::vector<int> q = Range(t * kHeads / tp, (t + 1) * kHeads / tp);
    const std::vector<int> kv = kv_heads >= tp ? Range(t * kv_heads / tp, (t + 1) * kv_heads / tp)
                                               : Range(t * kv_heads / tp, t * kv_heads / tp + 1);
    size_t expected = 0;
    auto expect = [&](const std::string& name, const std::vector<float>& values) {
      ++expected;
      ASSERT_TRUE(got.contains(name)) << name;
      EXPECT_EQ(got[name].values, values) << name;
    };
    for (int local = 0; local < per_stage; ++local) {
      const std::string to = fmt::format("transformer.layers.{}.", local);
      const std::string from = fmt::format("model.layers.{}.", stage * per_stage + local);
      auto w = [&](const std::string& name) { return weights_.at(from + name); };
      expect(to + "input_layernorm.weight", w("input_layernorm.weight").values);
      expect(to + "post_layernorm.weight", w("post_attention_layernorm.weight").values);
      expect(to + "attention.qkv.weight", Join({HeadRows(w("self_attn.q_proj.weight"), q),
                                                HeadRows(w("self_attn.k_proj.weight"), kv),
                                                HeadRows(w("self_attn.v_proj.weight"), kv)}));
      if (variant.qwen2) {
        expect(to + "attention.qkv.bias", Join({HeadRows(w("self_attn.q_proj.bias"), q),
                                                HeadRows(w("self_attn.k_proj.bias"), kv),
                                                HeadRows(w("self_attn.v_proj.bias"), kv)}));
      }
      const int width = kHeads * kHeadSize;
      expect(to + "attention.dense.weight",
             Columns(w("self_attn.o_proj.weight"), t * width / tp, (t + 1) * width / tp));
      expect(to + "mlp.fc.weight",
             Rows(w("mlp.gate_proj.weight"), t * kInter / tp, (t + 1) * kInter / tp));
      expect(to + "mlp.gate.weight",
             Rows(w("mlp.up_proj.weight"), t * kInter / tp, (t + 1) * kInter / tp));
      expect(to + "mlp.proj.weight",
             Columns(w("mlp.down_proj.weight"), t * kInter / tp, (t + 1) * kInter / tp));
    }
    const Matrix& embedding = weights_.at("model.embed_tokens.weight");
    if (stage == 0) expect("transformer.vocab_embedding.weight", embedding.values);
    if (stage == pp - 1) {
      expect("transformer.ln_f.weight", weights_.at("model.norm.weight").values);
      const Matrix& head = variant.tied ? embedding : weights_.at("lm_head.weight");
      const int share = (kVocab + tp - 1) / tp;
      expect("lm_head.weight", Rows(head, t * share, (t + 1) * share));
    }
    EXPECT_EQ(got.size(), expected);
  }
  const StatusOr<ModelConfig> config = LoadCheckpointConfig(options.output_dir);
  ASSERT_TRUE(config.ok()) << config.status().ToString();
  EXPECT_EQ(config->mapping.world_size, tp * pp);
  EXPECT_EQ(config->dtype, "float32");
  EXPECT_EQ(config->attn_bias, variant.qwen2);
  EXPECT_TRUE(std::filesystem::exists(folder_.File("ck/tokenizer.json")));
}

INSTANTIATE_TEST_SUITE_P(All, ConvertCutTest,
                         ::testing::Values(Cut{{}, 1, 1}, Cut{{.tied = true}, 1, 1},
                                           Cut{{.qwen2 = true}, 1, 1}, Cut{{}, 3, 1},
                                           Cut{{.num_kv_heads = 1, .qwen2 = true}, 2, 2},
                                           Cut{{.num_kv_heads = 2, .tied = true}, 2, 4},
                                           Cut{{.num_kv_heads = 6, .qwen2 = true}, 2, 1},
                                           Cut{{}, 1, 2}));

// Two KV heads on four ranks: neighbours hold the same one.
TEST(ShardTest, FewKvHeadsAreReplicated) {
  ModelConfig config;
  config.num_attention_heads = 8;
  config.num_key_value_heads = 2;
  config.head_size = 4;
  config.mapping = {.world_size = 4, .tp_size = 4};
  const TensorRule rule{.name = "qkv", .split = TensorSplit::kQkvRows};
  for (int rank = 0; rank < 4; ++rank) {
    config.mapping.rank = rank;
    const StatusOr<Slice> slice = SliceOf(rule, config, {48, 32});
    ASSERT_TRUE(slice.ok()) << slice.status().ToString();
    EXPECT_EQ(slice->rows[0].begin, rank * 8);
    EXPECT_EQ(slice->rows[1].begin, 32 + rank / 2 * 4);
    EXPECT_EQ(slice->rows[2].begin, 40 + rank / 2 * 4);
    EXPECT_EQ(slice->shape, Shape({16, 32}));
  }
  config.mapping = {.world_size = 3, .tp_size = 3};
  EXPECT_FALSE(SliceOf(rule, config, {48, 32}).ok());
}

// A family's edit sees stacked float32 rows, transposed, before they are cut.
TEST(ShardTest, TransposeAndEdit) {
  ModelConfig config;
  config.mapping = {.world_size = 2, .tp_size = 2, .rank = 1};
  TensorRule rule{.name = "x", .split = TensorSplit::kRows, .transpose = true};
  rule.edit = [](std::span<float> values, int64_t rows, int64_t columns) {
    EXPECT_EQ(rows, 2);
    EXPECT_EQ(columns, 3);
    for (float& value : values) value = -value;
  };
  HostTensor first(DType::kFloat32, {3, 2});
  HostTensor second(DType::kFloat32, {3, 2});
  for (int i = 0; i < 6; ++i) {
    first.as<float>()[i] = static_cast<float>(i);
    second.as<float>()[i] = static_cast<float>(10 + i);
  }
  const StatusOr<Slice> slice = SliceOf(rule, config, {4, 3});
  ASSERT_TRUE(slice.ok());
  const std::vector<TensorView> parts = {first.view(), second.view()};
  const SliceMaker maker(rule, parts, {4, 3}, *slice);
  EXPECT_THAT(ToFloats(maker.Rows(0, maker.num_rows(), DType::kFloat32).view()),
              ::testing::ElementsAre(-10, -12, -14, -11, -13, -15));
}

// However few rows are made at a time, they are those of the whole slice.
TEST(ShardTest, RowsMadePartByPartAreThoseOfTheWhole) {
  std::mt19937 random(4);
  const auto draw = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int round = 0; round < 300; ++round) {
    TensorRule rule{.name = "x", .transpose = draw(0, 1) == 0};
    const bool edited = draw(0, 1) == 0;
    const bool reordered = draw(0, 1) == 0;
    if (reordered) {
      rule.source_row = [](int64_t row, int64_t num_rows) {  // the odd rows, then the even ones
        return row < num_rows / 2 ? 2 * row + 1 : 2 * (row - num_rows / 2);
      };
    }
    if (edited) {
      rule.edit = [](std::span<float> values, int64_t rows, int64_t columns) {
        for (int64_t r = 0; r < rows; ++r) {  // every row by its first value
          const float first = values[static_cast<size_t>(r * columns)];
          for (int64_t c = 0; c < columns; ++c)
            values[static_cast<size_t>(r * columns + c)] += first;
        }
      };
    }
    const int64_t columns = draw(1, 7);
    std::vector<HostTensor> tensors;
    std::vector<float> stacked;
    for (int part = draw(1, 3); part > 0; --part) {
      const int64_t rows = draw(1, 6);
      HostTensor& tensor = tensors.emplace_back(
          DType::kFloat32, rule.transpose ? Shape{columns, rows} : Shape{rows, columns});
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c) {
          const auto value = static_cast<float>(stacked.size() + 1);
          tensor.as<float>()[rule.transpose ? c * rows + r : r * columns + c] = value;
          stacked.push_back(value);
        }
      }
    }
    const auto num_rows = static_cast<int64_t>(stacked.size()) / columns;
    if (reordered) {
      const std::vector<float> published = stacked;
      for (int64_t r = 0; r < num_rows; ++r) {
        std::copy_n(published.begin() + rule.source_row(r, num_rows) * columns, columns,
                    stacked.begin() + r * columns);
      }
    }
    if (edited) rule.edit(stacked, num_rows, columns);
    Slice slice;
    slice.column_begin = draw(0, static_cast<int>(columns) - 1);
    slice.column_end = draw(static_cast<int>(slice.column_begin) + 1, static_cast<int>(columns));
    std::vector<float> want;
    for (int range = draw(1, 3); range > 0; --range) {
      const int64_t begin = draw(0, static_cast<int>(num_rows) - 1);
      const int64_t end = begin + draw(1, static_cast<int>(num_rows - begin) + 2);
      slice.rows.push_back({begin, end});
      for (int64_t r = begin; r < end; ++r) {
        for (int64_t c = slice.column_begin; c < slice.column_end; ++c) {
          want.push_back(r < num_rows ? stacked[static_cast<size_t>(r * columns + c)] : 0.0f);
        }
      }
    }
    const int64_t width = slice.column_end - slice.column_begin;
    slice.shape = {static_cast<int64_t>(want.size()) / width, width};
    std::vector<TensorView> parts;
    for (const HostTensor& tensor : tensors) parts.push_back(tensor.view());
    const SliceMaker maker(rule, parts, {num_rows, columns}, slice);
    std::vector<float> got;
    for (int64_t row = 0; row < maker.num_rows();) {
      const int64_t end = std::min(maker.num_rows(), row + draw(1, 5));
      const std::vector<float> rows = ToFloats(maker.Rows(row, end, DType::kFloat32).view());
      got.insert(got.end(), rows.begin(), rows.end());
      row = end;
    }
    ASSERT_EQ(got, want) << "round " << round;
  }
}

// A stack of experts becomes rank 3; of each expert's branches every rank has its share.
TEST(ShardTest, ExpertsAreStackedAndSharedOutBranchByBranch) {
  ModelConfig config;
  config.mapping = {.world_size = 2, .tp_size = 2, .rank = 1};
  TensorRule rule{.name = "fc", .split = TensorSplit::kRows, .num_matrices = 2, .branches = 2};
  HostTensor rows(DType::kFloat32, {8, 1});  // two experts of two branches of two rows
  for (int i = 0; i < 8; ++i) rows.as<float>()[i] = static_cast<float>(i);
  const StatusOr<Slice> slice = SliceOf(rule, config, {8, 1});
  ASSERT_TRUE(slice.ok()) << slice.status().ToString();
  EXPECT_EQ(slice->shape, Shape({2, 2, 1}));
  const std::vector<TensorView> parts = {rows.view()};
  const SliceMaker maker(rule, parts, {8, 1}, *slice);
  EXPECT_EQ(maker.num_rows(), 4);
  EXPECT_THAT(ToFloats(maker.Rows(0, 4, DType::kFloat32).view()),
              ::testing::ElementsAre(1, 3, 5, 7));
  EXPECT_THAT(ToFloats(maker.Rows(1, 3, DType::kFloat32).view()), ::testing::ElementsAre(3, 5));

  rule.split = TensorSplit::kColumns;
  rule.branches = 1;
  const StatusOr<Slice> columns = SliceOf(rule, config, {6, 4});
  ASSERT_TRUE(columns.ok()) << columns.status().ToString();
  EXPECT_EQ(columns->shape, Shape({2, 3, 2}));
  EXPECT_FALSE(SliceOf(rule, config, {5, 4}).ok());
}

// Gate and up published as one tensor are two.
TEST(ShardTest, APartOfAStackIsReadFromItsRows) {
  ModelConfig config;
  const TensorRule rule{.name = "gate", .split = TensorSplit::kRows, .part = 1, .num_parts = 2};
  HostTensor rows(DType::kFloat32, {4, 2});
  for (int i = 0; i < 8; ++i) rows.as<float>()[i] = static_cast<float>(i);
  const StatusOr<Slice> slice = SliceOf(rule, config, {2, 2});
  ASSERT_TRUE(slice.ok()) << slice.status().ToString();
  TensorRule edited = rule;
  edited.edit = [](std::span<float> values, int64_t, int64_t) {
    for (float& value : values) value *= 10;
  };
  const auto floats = [&](const TensorRule& r) {
    const std::vector<TensorView> parts = {rows.view()};
    return ToFloats(SliceMaker(r, parts, {2, 2}, *slice).Rows(0, 2, DType::kFloat32).view());
  };
  EXPECT_THAT(floats(rule), ::testing::ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(floats(edited), ::testing::ElementsAre(40, 50, 60, 70));
}

TEST_F(ConvertTest, ParallelEmbeddingByVocabularyOrWidth) {
  WriteModel({});
  const Matrix& embedding = weights_.at("model.embed_tokens.weight");
  ConvertOptions options = Options();
  options.tp_size = 3;
  options.use_parallel_embedding = true;
  ASSERT_TRUE(Convert(options, {}).ok());
  EXPECT_EQ(ReadRank(1)["transformer.vocab_embedding.weight"].values, Rows(embedding, 5, 10));
  options.embedding_sharding_dim = 1;
  ASSERT_TRUE(Convert(options, {}).ok());
  EXPECT_EQ(ReadRank(1)["transformer.vocab_embedding.weight"].values, Columns(embedding, 8, 16));
}

struct WeightOnly {
  std::string precision;
  int group_size;
  std::string algo;
};

class ConvertWeightOnlyTest : public ConvertTest,
                              public ::testing::WithParamInterface<WeightOnly> {};

TEST_P(ConvertWeightOnlyTest, LinearWeightsAreQuantizedAndOthersAreNot) {
  WriteModel({});
  const auto& [precision, group_size, algo] = GetParam();
  ConvertOptions options = Options();
  options.weight_only_precision = precision;
  options.group_size = group_size;
  ASSERT_TRUE(Convert(options, {}).ok());
  EXPECT_EQ(LoadCheckpointConfig(options.output_dir)->quantization.quant_algo, algo);
  auto source = OpenSafetensors(RankFile(options.output_dir, 0));
  ASSERT_TRUE(source.ok());
  const bool is_int4 = precision == "int4";
  const std::string stem = "transformer.layers.2.mlp.proj.";
  const TensorView values = (*source)->Get(stem + "weight").value();
  EXPECT_EQ(values.dtype, DType::kInt8);
  EXPECT_EQ(values.shape, Shape({kHidden, is_int4 ? kInter / 2 : kInter}));
  const StatusOr<TensorView> scales =
      (*source)->Get(stem + (group_size == 0 ? "per_channel_scale" : "weights_scaling_factor"));
  ASSERT_TRUE(scales.ok()) << scales.status().ToString();
  const WeightQuant quant{.kind = is_int4 ? WeightQuant::Kind::kInt4 : WeightQuant::Kind::kInt8,
                          .group_size = group_size};
  const auto restored = quantize::Dequantize(values, *scales, quant, kInter);
  ASSERT_TRUE(restored.ok()) << restored.status().ToString();
  const Matrix& published = weights_.at("model.layers.2.mlp.down_proj.weight");
  // Published values are positive and grow by 1/1024: the worst error is one step of the largest.
  const float step = published.values.back() / static_cast<float>(is_int4 ? 8 : 128);
  float worst = 0;
  for (size_t i = 0; i < restored->size(); ++i) {
    worst = std::max(worst, std::fabs((*restored)[i] - published.values[i]));
  }
  EXPECT_LE(worst, 1.001f * step);
  EXPECT_GT(worst, 0.0f);
  for (const char* name : {"lm_head.weight", "transformer.vocab_embedding.weight",
                           "transformer.layers.2.input_layernorm.weight"}) {
    EXPECT_EQ((*source)->Get(name)->dtype, DType::kFloat32) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, ConvertWeightOnlyTest,
                         ::testing::Values(WeightOnly{"int8", 0, "W8A16"},
                                           WeightOnly{"int4", 0, "W4A16"},
                                           WeightOnly{"int4", 32, "W4A16_AWQ"}));

// The largest input of every linear layer: 448 times (layer + 1), which makes the scale layer + 1.
std::map<std::string, float> LargestInputs() {
  std::map<std::string, float> largest;
  for (int layer = 0; layer < kLayers; ++layer) {
    for (const char* module :
         {"attention.qkv", "attention.dense", "mlp.fc", "mlp.gate", "mlp.proj"}) {
      largest[fmt::format("transformer.layers.{}.{}", layer, module)] =
          448.0f * static_cast<float>(layer + 1);
    }
  }
  return largest;
}

TEST_F(ConvertTest, Float8ScalesFollowTheirLayersToTheirRank) {
  WriteModel({});
  ConvertOptions options = Options();
  options.float8 = true;
  options.float8_kv_cache = true;
  options.pp_size = 2;
  options.input_largest = LargestInputs();
  const Status status = Convert(options, {});
  ASSERT_TRUE(status.ok()) << status.ToString();
  const auto config = LoadCheckpointConfig(options.output_dir);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->quantization.quant_algo, "FP8");
  EXPECT_EQ(config->quantization.kv_cache_quant_algo, "FP8");
  for (int rank = 0; rank < 2; ++rank) {
    const Matrices tensors = ReadRank(rank);
    for (int layer = 0; layer < kLayers / 2; ++layer) {
      const std::string prefix = fmt::format("transformer.layers.{}.", layer);
      const int whole_layer = rank * kLayers / 2 + layer;
      EXPECT_EQ(tensors.at(prefix + "attention.kv_cache_scaling_factor").values[0], 1.0f);
      EXPECT_EQ(tensors.at(prefix + "mlp.proj.activation_scaling_factor").values[0],
                static_cast<float>(whole_layer + 1));
      const Matrix& codes = tensors.at(prefix + "mlp.proj.weight");
      const float scale = tensors.at(prefix + "mlp.proj.weights_scaling_factor").values[0];
      const Matrix& want =
          weights_.at(fmt::format("model.layers.{}.mlp.down_proj.weight", whole_layer));
      ASSERT_EQ(codes.values.size(), want.values.size());
      for (size_t i = 0; i < codes.values.size(); ++i) {
        EXPECT_NEAR(codes.values[i] * scale, want.values[i], want.values[i] / 16.0f);
      }
    }
  }
  options.input_largest.erase("transformer.layers.3.mlp.gate");
  EXPECT_THAT(Convert(options, {}).ToString(),
              HasSubstr("calibration has not seen the inputs of this layer"));
  options.weight_only_precision = "int8";
  EXPECT_THAT(Convert(options, {}).ToString(), HasSubstr("not both"));
}

TEST_F(ConvertTest, DtypeIsConvertedAndOverflowIsAnError) {
  WriteModel({});
  ConvertOptions options = Options();
  options.dtype = "bfloat16";
  ASSERT_TRUE(Convert(options, {}).ok());
  auto source = OpenSafetensors(RankFile(options.output_dir, 0));
  EXPECT_EQ((*source)->Get("transformer.ln_f.weight")->dtype, DType::kBFloat16);
  EXPECT_EQ(LoadCheckpointConfig(options.output_dir)->kv_dtype, "bfloat16");

  weights_["model.norm.weight"].values[3] = 1e6f;
  WriteWeights();
  options.dtype = "float16";
  const Status status = Convert(options, {});
  EXPECT_THAT(std::string(status.message()), HasSubstr("float16"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("transformer.ln_f.weight"));
  EXPECT_EQ(LoadCheckpointConfig(options.output_dir)->dtype, "bfloat16")
      << "a failed conversion must leave the checkpoint that was there";
  options.output_dir = folder_.File("other");
  EXPECT_FALSE(Convert(options, {}).ok());
  EXPECT_FALSE(std::filesystem::exists(options.output_dir));
}

TEST_F(ConvertTest, ValuesThatAreNoNumbersAreRefusedByName) {
  WriteModel({});
  for (const char* dtype : {"float32", "bfloat16", "float16"}) {
    for (const char* precision : {"", "int8"}) {
      for (float bad : {NAN, INFINITY}) {
        float& value = weights_["model.layers.1.mlp.up_proj.weight"].values[kHidden + 5];
        const float good = std::exchange(value, bad);
        WriteWeights();
        value = good;
        ConvertOptions options = Options();
        options.dtype = dtype;
        options.weight_only_precision = precision;
        const std::string message(Convert(options, {}).message());
        EXPECT_THAT(message,
                    HasSubstr("'model.layers.1.mlp.up_proj.weight' holds NaN or infinite"));
        EXPECT_FALSE(std::filesystem::exists(options.output_dir));
      }
    }
  }
}

TEST_F(ConvertTest, AMissingHeadIsTiedOnlyWhereTheConfigAllows) {
  WriteModel({.tied = true});
  EXPECT_TRUE(Convert(Options(), {}).ok());
  EXPECT_TRUE(ConvertWith(R"(, "tie_word_embeddings": true)", "").ok());
  const std::string message(
      ConvertWith(R"("tie_word_embeddings": true)", R"("tie_word_embeddings": false)").message());
  EXPECT_THAT(message, HasSubstr("tie_word_embeddings"));
  EXPECT_THAT(message, HasSubstr("lm_head.weight"));
}

TEST_F(ConvertTest, TokenIdsOfTheWrongKindAreNamed) {
  WriteModel({});
  const std::string_view key = R"("rms_norm_eps")";
  for (const char* bad : {R"("eos_token_id": "</s>", )", R"("eos_token_id": [1, "2"], )",
                          R"("bos_token_id": 1.5, )", R"("eos_token_id": {}, )"}) {
    const std::string message(ConvertWith(key, bad + std::string(key)).message());
    EXPECT_THAT(message, HasSubstr("os_token_id'")) << bad;
  }
  for (const char* good : {R"("eos_token_id": [1, 2], )", R"("pad_token_id": -1, )",
                           R"("bos_token_id": null, )", R"("eos_token_id": 2, )"}) {
    EXPECT_TRUE(ConvertWith(key, good + std::string(key)).ok()) << good;
  }
}

TEST_F(ConvertTest, ProgressRisesToTheTotal) {
  WriteModel({});
  ConvertOptions options = Options();
  options.workers = 4;
  int64_t last = 0;
  int64_t total = 0;
  ASSERT_TRUE(Convert(options, [&](const ConvertProgress& progress) {
                EXPECT_GT(progress.done_bytes, last);
                last = progress.done_bytes;
                total = progress.total_bytes;
              }).ok());
  EXPECT_GT(last, 0);
  EXPECT_EQ(last, total);
}

TEST_F(ConvertTest, ConfigAlone) {
  WriteModel({});
  std::filesystem::remove(folder_.File("hf/model.safetensors"));
  ConvertOptions options = Options();
  options.save_config_only = true;
  options.tp_size = 2;
  ASSERT_TRUE(Convert(options, {}).ok());
  EXPECT_EQ(LoadCheckpointConfig(options.output_dir)->mapping.tp_size, 2);
  EXPECT_FALSE(std::filesystem::exists(RankFile(options.output_dir, 0)));
  EXPECT_EQ(CheckpointConfigOf(options)->hidden_size, kHidden);
}

TEST_F(ConvertTest, MistakesAreNamed) {
  WriteModel({});
  const std::pair<std::function<void(ConvertOptions&)>, const char*> cases[] = {
      {[](ConvertOptions& o) { o.model_dir = ""; }, "--model_dir"},
      {[](ConvertOptions& o) { o.model_dir += "/absent"; }, "absent"},
      {[](ConvertOptions& o) { o.output_dir = o.model_dir + "/."; }, "own folder"},
      {[](ConvertOptions& o) { o.tp_size = 4; }, "tp_size 4"},
      {[](ConvertOptions& o) { o.tp_size = 0; }, "--tp_size 0"},
      {[](ConvertOptions& o) { o.tp_size = o.pp_size = 1000; }, "ranks"},
      {[](ConvertOptions& o) { o.pp_size = 3; }, "pp_size 3"},
      {[](ConvertOptions& o) { o.workers = 1'000'000; }, "--workers"},
      {[](ConvertOptions& o) { o.dtype = "int8"; }, "--dtype int8"},
      {[](ConvertOptions& o) { o.dtype = "float7"; }, "float7"},
      {[](ConvertOptions& o) { o.weight_only_precision = "int3"; }, "int3"},
      {[](ConvertOptions& o) { o.group_size = 64; }, "--group_size"},
      {[](ConvertOptions& o) { o.embedding_sharding_dim = 2; }, "--embedding_sharding_dim"},
  };
  for (const auto& [change, message] : cases) {
    ConvertOptions options = Options();
    change(options);
    const Status status = Convert(options, {});
    ASSERT_FALSE(status.ok()) << message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }
  EXPECT_TRUE(std::filesystem::exists(folder_.File("hf/config.json")));
}

TEST_F(ConvertTest, WeightsThatDoNotFitTheConfigAreNamed) {
  WriteModel({});
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {R"("vocab_size": 15)", R"("vocab_size": 16)", "model.embed_tokens.weight"},
      {R"("num_key_value_heads": 3)", R"("num_key_value_heads": 2)", "k_proj.weight"},
      {R"("num_hidden_layers": 4)", R"("num_hidden_layers": 5)", "model.layers.4."},
      {R"("intermediate_size": 36)", R"("intermediate_size": 40)", "mlp.gate_proj.weight"},
      {R"("hidden_size": 24)", R"("hidden_size": 48)", "model.embed_tokens.weight"},
      {R"("head_dim": 4)", R"("head_dim": 8)", "q_proj.weight"},
      {"LlamaForCausalLM", "MysteryForCausalLM", "MysteryForCausalLM"},
      {"LlamaForCausalLM", "Qwen2ForCausalLM", "q_proj.bias"},
  };
  for (const auto& [from, to, named] : cases) {
    EXPECT_THAT(std::string(ConvertWith(from, to).message()), HasSubstr(named));
    EXPECT_FALSE(std::filesystem::exists(folder_.File("ck"))) << named;
  }
}

}  // namespace
}  // namespace trireme::convert

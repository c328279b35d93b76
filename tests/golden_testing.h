// SPDX-License-Identifier: Apache-2.0
// What tests with golden checkpoints share: loading a case, building and running an engine,
// comparing logits. Tests only.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/mapped_file.h"
#include "convert/convert.h"
#include "formats/safetensors.h"
#include "tests/source_path.h"
#include "trireme/builder.h"
#include "trireme/executor.h"

namespace trireme {

namespace fs = std::filesystem;

inline constexpr int kNewTokens = 32;

// A folder of its own for each test, removed at its end.
class TestFolder {
 public:
  explicit TestFolder(const std::string& name)
      : path_(fs::temp_directory_path() / fmt::format("trireme_test_{}_{}", name, ::getpid())) {
    fs::create_directories(path_);
  }
  ~TestFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

inline std::string GoldenDir(const std::string& name) {
  return SourcePath("tests/data/golden/" + name);
}

struct GoldenCase {
  std::vector<std::vector<TokenId>> prompts;
  std::vector<std::vector<float>> logits;  // [tokens, vocab] of each prompt
  std::vector<std::vector<TokenId>> greedy;
  double std = 0;
  double rms_error = 0;  // of the reference framework in `dtype`, in units of std
  double max_error = 0;
};

inline GoldenCase LoadGolden(const std::string& name, const std::string& dtype) {
  GoldenCase golden;
  // The .bin and the sharded form hold the weights of llama-gqa.
  const bool same_weights = name == "llama-gqa-bin" || name == "llama-gqa-sharded";
  const std::string source = same_weights ? "llama-gqa" : name;
  auto file = OpenSafetensors(GoldenDir(source) + "/golden.safetensors");
  EXPECT_TRUE(file.ok()) << file.status().ToString();
  double sum = 0, squares = 0;
  int64_t count = 0;
  for (int i = 0; (*file)->Has(fmt::format("input_ids_{}", i)); ++i) {
    const auto ids = [&](const std::string& key) {
      const TensorView view = (*file)->Get(fmt::format("{}_{}", key, i)).value();
      return std::vector<TokenId>(view.as<int32_t>(),
                                  view.as<int32_t>() + view.shape.num_elements());
    };
    golden.prompts.push_back(ids("input_ids"));
    golden.greedy.push_back(ids("greedy"));
    golden.logits.push_back(ToFloats((*file)->Get(fmt::format("logits_{}", i)).value()));
    for (float x : golden.logits.back()) sum += x, squares += double{x} * x, ++count;
  }
  golden.std = std::sqrt(squares / count - (sum / count) * (sum / count));
  const auto manifest = nlohmann::json::parse(ReadFile(GoldenDir("MANIFEST.json")).value());
  if (dtype != "float32") {
    const auto& error = manifest["cases"][source]["framework_error"][dtype];
    golden.rms_error = error[0];
    golden.max_error = error[1];
  }
  return golden;
}

struct RunResult {
  std::vector<std::vector<TokenId>> tokens;
  std::vector<std::vector<float>> context_logits;
  std::vector<std::vector<float>> generation_logits;
};

inline RunResult RunEngine(const std::string& engine,
                           const std::vector<std::vector<TokenId>>& prompts,
                           const ExecutorConfig& config = {}) {
  RunResult result;
  auto executor = Executor::Create(engine, config);
  EXPECT_TRUE(executor.ok()) << executor.status().ToString();
  if (!executor.ok()) return result;
  std::vector<RequestId> ids;
  for (const auto& prompt : prompts) {
    Request request;
    request.prompt = prompt;
    request.max_tokens = kNewTokens;
    request.output.return_context_logits = true;
    request.output.return_generation_logits = true;
    ids.push_back((*executor)->Enqueue(std::move(request)).value());
  }
  for (RequestId id : ids) {
    result.tokens.emplace_back();
    result.context_logits.emplace_back();
    result.generation_logits.emplace_back();
    for (bool final = false; !final;) {
      for (Response& response : (*executor)->AwaitResponses(id)) {
        EXPECT_TRUE(response.error.ok()) << response.error.ToString();
        final = response.is_final;
        const auto append = [](auto& to, const auto& from) {
          to.insert(to.end(), from.begin(), from.end());
        };
        append(result.tokens.back(), response.tokens);
        append(result.context_logits.back(), response.context_logits);
        append(result.generation_logits.back(), response.generation_logits);
      }
    }
  }
  return result;
}

struct LogitError {
  double rms = 0;
  double max = 0;
};

// Differences of all logits in units of `std`.
inline LogitError Compare(const std::vector<std::vector<float>>& got,
                          const std::vector<std::vector<float>>& want, double std) {
  LogitError error;
  int64_t count = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(got[i].size(), want[i].size());
    if (got[i].size() != want[i].size()) return {1e9, 1e9};
    for (size_t j = 0; j < want[i].size(); ++j) {
      const double difference = (double{got[i][j]} - want[i][j]) / std;
      // A NaN fails every comparison below, so it must not vanish in a maximum.
      if (std::isnan(difference)) return {1e9, 1e9};
      error.rms += difference * difference;
      error.max = std::max(error.max, std::fabs(difference));
      ++count;
    }
  }
  error.rms = std::sqrt(error.rms / static_cast<double>(count));
  return error;
}

inline Status ConvertAndBuild(const std::string& model, const TestFolder& folder,
                              convert::ConvertOptions convert_options, BuildOptions build_options) {
  convert_options.model_dir = model;
  convert_options.output_dir = folder / "checkpoint";
  Status status = convert::Convert(convert_options, {});
  if (!status.ok()) return status;
  build_options.checkpoint_dir = folder / "checkpoint";
  build_options.output_dir = folder / "engine";
  build_options.limits.max_batch_size = 8;
  build_options.time_tactics = false;
  return BuildEngine(build_options, {});
}

// The rule of golden cases in a dtype: errors in the order of the reference framework's own, and
// greedy tokens that differ only where the two best logits are closer than the error tells apart.
inline void ExpectGolden(const RunResult& run, const GoldenCase& golden) {
  const LogitError error = Compare(run.context_logits, golden.logits, golden.std);
  testing::Test::RecordProperty("rms", std::to_string(error.rms));
  testing::Test::RecordProperty("max", std::to_string(error.max));
  EXPECT_LE(error.rms, 1.25 * golden.rms_error);
  EXPECT_LE(error.max, 2 * golden.max_error);
  const auto vocab = static_cast<int64_t>(golden.logits[0].size() / golden.prompts[0].size());
  for (size_t i = 0; i < golden.greedy.size(); ++i) {
    for (int step = 0; step < kNewTokens; ++step) {
      if (run.tokens[i][step] == golden.greedy[i][step]) continue;
      std::vector<float> row(run.generation_logits[i].begin() + step * vocab,
                             run.generation_logits[i].begin() + (step + 1) * vocab);
      std::partial_sort(row.begin(), row.begin() + 2, row.end(), std::greater<>());
      EXPECT_LE((row[0] - row[1]) / golden.std, 2 * 2 * golden.max_error)
          << "prompt " << i << " step " << step;
      break;  // what follows a different token is another text
    }
  }
}

// "llama_gqa_bfloat16" of the parameters (case, dtype).
inline std::string GoldenTestName(
    const testing::TestParamInfo<std::tuple<std::string, std::string>>& info) {
  std::string name = std::get<0>(info.param) + "_" + std::get<1>(info.param);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

struct Tensor {
  Shape shape;
  std::vector<float> values;
};
using Tensors = std::map<std::string, Tensor>;

// By file.
inline Tensors ReadTensors(const std::string& path) {
  Tensors tensors;
  auto file = OpenSafetensors(path).value();
  for (const std::string& key : file->Names()) {
    const TensorView view = file->Get(key).value();
    tensors[key] = {view.shape, ToFloats(view)};
  }
  return tensors;
}

inline Tensors GoldenTensors(const std::string& name) {
  return ReadTensors(GoldenDir(name) + "/model.safetensors");
}

inline void WriteTensors(const std::string& path, const Tensors& tensors) {
  std::vector<SafetensorsWriter::Entry> entries;
  for (const auto& [name, tensor] : tensors) {
    entries.push_back({name, DType::kFloat32, tensor.shape});
  }
  auto writer = SafetensorsWriter::Create(path, entries, {}).value();
  for (const auto& [name, tensor] : tensors) {
    ASSERT_TRUE(writer->Write(name, std::as_bytes(std::span(tensor.values))).ok());
  }
  ASSERT_TRUE(writer->Finish().ok());
}

// A model folder of its own.
inline void WriteFolder(const std::string& folder, const nlohmann::json& config,
                        const Tensors& tensors) {
  std::filesystem::create_directories(folder);
  ASSERT_TRUE(WriteFile(folder + "/config.json", config.dump()).ok());
  WriteTensors(folder + "/model.safetensors", tensors);
}

inline nlohmann::json ReadConfig(const std::string& name) {
  return nlohmann::json::parse(ReadFile(GoldenDir(name) + "/config.json").value());
}

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
// What convert holds of tensors while it converts them: less than the largest one, also of those
// that are transposed, reordered, edited or quantized.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "base/log.h"
#include "base/mapped_file.h"
#include "base/status.h"
#include "convert/convert.h"
#include "formats/safetensors.h"
#include "trireme/model_family.h"

namespace trireme::convert {
namespace {

namespace fs = std::filesystem;

constexpr int kRows = 16384;
constexpr int kColumns = 2048;
constexpr int64_t kTensorBytes = int64_t{kRows} * kColumns * 2;  // bfloat16: 64 MiB

// Large tensors, each made in another way.
class LargeFamily : public ModelFamily {
 public:
  std::vector<std::string> HfArchitectures() const override { return {"LargeTestForCausalLM"}; }
  bool Matches(const ModelConfig& config) const override {
    return config.architecture == "LargeTestForCausalLM";
  }
  StatusOr<ModelConfig> ConfigFromHf(const HfConfigView&) const override {
    ModelConfig config;
    config.architecture = "LargeTestForCausalLM";
    config.vocab_size = kRows;
    config.hidden_size = kColumns;
    config.num_hidden_layers = config.num_attention_heads = config.num_key_value_heads = 1;
    config.head_size = kColumns;
    return config;
  }
  StatusOr<std::vector<TensorRule>> TensorRules(const ModelConfig&) const override {
    TensorRule edited{.name = "edited.weight", .sources = {"plain"}};
    edited.edit = [](std::span<float> values, int64_t, int64_t) {
      for (float& value : values) value *= 2;
    };
    TensorRule reordered{.name = "reordered.weight", .sources = {"plain"}, .quantizable = true};
    reordered.source_row = [](int64_t row, int64_t num_rows) { return num_rows - 1 - row; };
    return std::vector<TensorRule>{
        {.name = "plain.weight", .sources = {"plain"}},
        {.name = "transposed.weight", .sources = {"transposed"}, .transpose = true},
        {.name = "linear.weight", .sources = {"plain"}, .quantizable = true},
        {.name = "linear_t.weight",
         .sources = {"transposed"},
         .transpose = true,
         .quantizable = true},
        edited,
        reordered};
  }
  StatusOr<Network> BuildNetwork(const ModelConfig&) const override {
    return Unimplemented("only converted");
  }
};

int64_t AnonymousBytes() {
  FILE* file = std::fopen("/proc/self/status", "r");
  if (file == nullptr) return 0;
  char line[256];
  long long kilobytes = 0;
  while (std::fgets(line, sizeof(line), file) != nullptr) {
    if (std::sscanf(line, "RssAnon: %lld", &kilobytes) == 1) break;
  }
  std::fclose(file);
  return kilobytes * 1024;
}

void WriteModel(const fs::path& folder) {
  fs::create_directories(folder);
  ASSERT_TRUE(WriteFile(folder / "config.json", R"({"architectures": ["LargeTestForCausalLM"],
                                                    "torch_dtype": "bfloat16"})")
                  .ok());
  auto writer = SafetensorsWriter::Create(folder / "model.safetensors",
                                          {{"plain", DType::kBFloat16, {kRows, kColumns}},
                                           {"transposed", DType::kBFloat16, {kColumns, kRows}}},
                                          {})
                    .value();
  const std::vector<uint16_t> row(static_cast<size_t>(kColumns), 0x3f80);  // ones
  for (const char* name : {"plain", "transposed"}) {
    for (int i = 0; i < kRows; ++i) {
      ASSERT_TRUE(writer->Append(name, std::as_bytes(std::span(row))).ok());
    }
  }
  ASSERT_TRUE(writer->Finish().ok());
}

TEST(ConvertMemoryTest, StaysUnderTheLargestTensor) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers keep freed memory";
#endif
  SetLogLevel("error").ok();
  RegisterModelFamily(std::make_unique<LargeFamily>());
  const fs::path folder = fs::temp_directory_path() / fmt::format("trireme_memory_{}", ::getpid());
  WriteModel(folder / "hf");
  const int64_t before = AnonymousBytes();
  for (const char* precision : {"", "int8", "int4", "fp8"}) {
    std::atomic<int64_t> most = 0;
    std::atomic<bool> done = false;
    std::thread sampler([&] {
      while (!done) {
        most = std::max(most.load(), AnonymousBytes());
        std::this_thread::sleep_for(std::chrono::microseconds(200));
      }
    });
    ConvertOptions options{.model_dir = folder / "hf", .output_dir = folder / "checkpoint"};
    options.float8 = std::string_view(precision) == "fp8";
    if (!options.float8) options.weight_only_precision = precision;
    options.input_largest = {{"linear", 1.0f}, {"linear_t", 1.0f}, {"reordered", 1.0f}};
    const Status status = Convert(options, {});
    done = true;
    sampler.join();
    ASSERT_TRUE(status.ok()) << status.ToString();
    ASSERT_GT(before, 0);
    std::printf("  %-5s %.1f MiB of anonymous memory, the largest tensor is %.1f MiB\n", precision,
                static_cast<double>(most - before) / (1 << 20),
                static_cast<double>(kTensorBytes) / (1 << 20));
    EXPECT_LT(most - before, kTensorBytes);
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace trireme::convert

// SPDX-License-Identifier: Apache-2.0
#include "generate/generation_defaults.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/mapped_file.h"
#include "base/status.h"

namespace trireme::generate {
namespace {

using nlohmann::json;

constexpr int kTopKOfTransformers = 50;

class Reader {
 public:
  Reader(const json& object, const std::string& path) : object_(object), path_(path) {}

  // Null counts as absent. `low` itself is outside when `open`.
  Status Read(const char* key, double low, bool open, double high, std::optional<float>& to) const {
    const auto found = object_.find(key);
    if (found == object_.end() || found->is_null()) return OkStatus();
    const double value = found->is_number() ? found->get<double>() : low - 1;
    if (value < low || (open && value == low) || value > high) {
      return InvalidArgument(
          "'{}': '{}' is {}, not a number {} {} and at most {}; mend the file, or run with "
          "--ignore_generation_config",
          path_, key, found->dump(-1, ' ', false, json::error_handler_t::replace),
          open ? "above" : "from", low, high);
    }
    to = static_cast<float>(value);
    return OkStatus();
  }

 private:
  const json& object_;
  const std::string& path_;
};

}  // namespace

StatusOr<GenerationDefaults> ReadGenerationDefaults(const std::string& folder) {
  GenerationDefaults defaults;
  const std::string path = (std::filesystem::path(folder) / "generation_config.json").string();
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return defaults;
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, 1 << 20));
  const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return InvalidArgument("'{}' is not a JSON object", path);

  const Reader reader(object, path);
  TRIREME_RETURN_IF_ERROR(
      reader.Read("repetition_penalty", 0, /*open=*/true, 1e6, defaults.repetition_penalty));
  const auto do_sample = object.find("do_sample");
  if (do_sample == object.end() || *do_sample != true) return defaults;
  std::optional<float> top_k;
  TRIREME_RETURN_IF_ERROR(reader.Read("temperature", 0, /*open=*/true, 1e6, defaults.temperature));
  TRIREME_RETURN_IF_ERROR(reader.Read("top_p", 0, /*open=*/false, 1, defaults.top_p));
  TRIREME_RETURN_IF_ERROR(reader.Read("top_k", 0, /*open=*/false, 1 << 24, top_k));
  defaults.top_k = static_cast<int>(top_k.value_or(kTopKOfTransformers));
  // Without either limit the whole vocabulary is drawn from, which top_p 1 says.
  if (*defaults.top_k == 0 && !defaults.top_p) defaults.top_p = 1.0f;
  return defaults;
}

void ApplyDefaults(const GenerationDefaults& defaults, const SamplingGiven& given, int vocab_size,
                   SamplingParams& sampling) {
  if (given.top_k && sampling.top_k == 1) return;
  const SamplingParams plain;
  const auto fill = [](bool is_given, const auto& from, auto plain_value, auto& to) {
    if (!is_given && to == plain_value && from) to = *from;
  };
  const int top_k = sampling.top_k;
  fill(given.temperature, defaults.temperature, plain.temperature, sampling.temperature);
  fill(given.top_k, defaults.top_k, plain.top_k, sampling.top_k);
  fill(given.top_p, defaults.top_p, plain.top_p, sampling.top_p);
  fill(given.repetition_penalty, defaults.repetition_penalty, plain.repetition_penalty,
       sampling.repetition_penalty);
  if (sampling.top_k != top_k) sampling.top_k = std::min(sampling.top_k, vocab_size);
}

}  // namespace trireme::generate

// SPDX-License-Identifier: Apache-2.0
// HfConfig: a Hugging Face config.json behind typed getters that look under several key names,
// older and newer. Immutable and thread-safe.
//
// A key that is absent or null is "not there". A value of the wrong JSON type is kInvalidArgument
// naming the file and the key.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tensor/dtype.h"
#include "trireme/model_config.h"

namespace trireme {

// Rotary embedding of a model, from rope_theta + rope_scaling or from rope_parameters.
struct ParsedRope {
  double theta = 10000.0;
  bool has_theta = false;  // false: no key gave it and `theta` is the usual default
  double partial_rotary_factor = 1.0;
  RotaryScaling scaling;
};

class HfConfig {
 public:
  // The first key that is there wins.
  using Keys = std::initializer_list<std::string_view>;

  // `model_dir`/config.json.
  static StatusOr<HfConfig> Load(const std::string& model_dir);
  // `source` names the text in errors.
  static StatusOr<HfConfig> Parse(std::string_view text, const std::string& source);

  HfConfig(HfConfig&&) noexcept;
  HfConfig& operator=(HfConfig&&) noexcept;
  ~HfConfig();

  bool Has(std::string_view key) const;
  StatusOr<std::optional<int64_t>> GetInt(Keys keys) const;
  StatusOr<std::optional<double>> GetDouble(Keys keys) const;  // integers too
  StatusOr<std::optional<bool>> GetBool(Keys keys) const;
  StatusOr<std::optional<std::string>> GetString(Keys keys) const;
  // Absent: empty.
  StatusOr<std::vector<int64_t>> GetInts(Keys keys) const;
  StatusOr<std::vector<double>> GetDoubles(Keys keys) const;
  StatusOr<std::vector<std::string>> GetStrings(Keys keys) const;

  // As above, with the value to use when no key is there.
  StatusOr<int64_t> GetIntOr(Keys keys, int64_t fallback) const;
  StatusOr<double> GetDoubleOr(Keys keys, double fallback) const;
  StatusOr<bool> GetBoolOr(Keys keys, bool fallback) const;
  StatusOr<std::string> GetStringOr(Keys keys, std::string_view fallback) const;
  // A count in [1, 2^31 - 1]; its absence is an error naming the first key.
  StatusOr<int> RequireCount(Keys keys) const;
  StatusOr<int> GetCountOr(Keys keys, int fallback) const;

  // A nested object (text_config, quantization_config ...); nothing when absent.
  StatusOr<std::optional<HfConfig>> GetObject(Keys keys) const;
  // JSON text of a value; empty when absent.
  std::string JsonOf(std::string_view key) const;

  StatusOr<std::vector<std::string>> Architectures() const;
  StatusOr<std::string> ModelType() const;  // "" when absent
  // `dtype` or `torch_dtype`; nothing when absent or "auto".
  StatusOr<std::optional<DType>> GetDType() const;
  // `layer_type` picks one of the sets of a model whose rope_parameters differ by layer type.
  StatusOr<ParsedRope> GetRope(std::string_view layer_type = "full_attention") const;

  const std::string& source() const;

 private:
  struct Impl;
  explicit HfConfig(std::unique_ptr<const Impl> impl);

  std::unique_ptr<const Impl> impl_;
};

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
#include "kernels/rotary_table.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace trireme::kernels {
namespace {

constexpr int kMaxRotaryDim = 1024;
constexpr int kMaxPosition = 1 << 24;  // positions are exact in float32 up to here

Status Positive(const char* name, double value) {
  if (value > 0.0 && std::isfinite(value)) return Status();
  return InvalidArgument("rotary scaling: {} is {}, must be positive; correct rope_scaling", name,
                         value);
}

// base^(2 j / dim) in float32, exponent first, as the framework does.
std::vector<float> PositionFrequencies(int dim, double base) {
  std::vector<float> powers(static_cast<size_t>(dim / 2));
  for (int j = 0; j < dim / 2; ++j) {
    const float exponent = static_cast<float>(2 * j) / static_cast<float>(dim);
    powers[static_cast<size_t>(j)] = static_cast<float>(
        std::pow(static_cast<double>(static_cast<float>(base)), static_cast<double>(exponent)));
  }
  return powers;
}

void Invert(std::vector<float>& values) {
  for (float& value : values) value = 1.0f / value;
}

Status ScaleLlama3(const RotaryScaling& s, std::vector<float>& frequencies) {
  TRIREME_RETURN_IF_ERROR(Positive("low_freq_factor", s.low_freq_factor));
  if (!(s.high_freq_factor > s.low_freq_factor)) {
    return InvalidArgument(
        "rotary scaling llama3: high_freq_factor {} must exceed low_freq_factor {}",
        s.high_freq_factor, s.low_freq_factor);
  }
  const double length = s.original_max_position_embeddings;
  const float low_wavelength = static_cast<float>(length / s.low_freq_factor);
  const float high_wavelength = static_cast<float>(length / s.high_freq_factor);
  const float factor = static_cast<float>(s.factor);
  for (float& f : frequencies) {
    const float wavelength = static_cast<float>(2.0 * std::numbers::pi) / f;
    if (wavelength < high_wavelength) continue;
    if (wavelength > low_wavelength) {
      f /= factor;
      continue;
    }
    const float smooth =
        (static_cast<float>(length) / wavelength - static_cast<float>(s.low_freq_factor)) /
        static_cast<float>(s.high_freq_factor - s.low_freq_factor);
    f = (1.0f - smooth) * f / factor + smooth * f;
  }
  return Status();
}

// The dimension that turns `rotations` times in `length` positions.
double YarnDimension(double rotations, int dim, double base, double length) {
  return dim * std::log(length / (rotations * 2.0 * std::numbers::pi)) / (2.0 * std::log(base));
}

double YarnMscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

Status ScaleYarn(const RotarySpec& spec, const std::vector<float>& powers,
                 std::vector<float>& frequencies, double& attention_factor) {
  const RotaryScaling& s = spec.scaling;
  TRIREME_RETURN_IF_ERROR(Positive("beta_fast", s.beta_fast));
  TRIREME_RETURN_IF_ERROR(Positive("beta_slow", s.beta_slow));
  if (!(spec.base > 1.0)) {
    return InvalidArgument("rotary scaling yarn: the base must exceed 1, got {}", spec.base);
  }
  const int dim = spec.rotary_dim;
  const double length = s.original_max_position_embeddings;
  double low = YarnDimension(s.beta_fast, dim, spec.base, length);
  double high = YarnDimension(s.beta_slow, dim, spec.base, length);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  if (low == high) high += 0.001;
  const float factor = static_cast<float>(s.factor);
  for (int j = 0; j < dim / 2; ++j) {
    const size_t i = static_cast<size_t>(j);
    const float ramp = std::clamp(
        (static_cast<float>(j) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f,
        1.0f);
    const float keep = 1.0f - ramp;
    const float interpolated = 1.0f / (factor * powers[i]);
    frequencies[i] = interpolated * (1.0f - keep) + frequencies[i] * keep;
  }
  if (attention_factor == 0.0) {
    attention_factor = s.mscale != 0.0 && s.mscale_all_dim != 0.0
                           ? YarnMscale(s.factor, s.mscale) / YarnMscale(s.factor, s.mscale_all_dim)
                           : YarnMscale(s.factor, 1.0);
  }
  return Status();
}

Status ScaleLongRope(const RotarySpec& spec, int max_position, const std::vector<float>& powers,
                     std::vector<float>& frequencies, double& attention_factor) {
  const RotaryScaling& s = spec.scaling;
  const bool is_long = max_position > s.original_max_position_embeddings;
  const std::vector<double>& factors = is_long ? s.long_factor : s.short_factor;
  if (factors.size() != frequencies.size()) {
    return InvalidArgument(
        "rotary scaling longrope: {} has {} entries, expected {} (half of the "
        "rotary dimension)",
        is_long ? "long_factor" : "short_factor", factors.size(), frequencies.size());
  }
  for (size_t j = 0; j < frequencies.size(); ++j) {
    TRIREME_RETURN_IF_ERROR(Positive(is_long ? "long_factor" : "short_factor", factors[j]));
    frequencies[j] = 1.0f / (static_cast<float>(factors[j]) * powers[j]);
  }
  if (attention_factor == 0.0) {
    const double length = s.original_max_position_embeddings;
    const double factor =
        spec.max_position_embeddings > 0 ? spec.max_position_embeddings / length : s.factor;
    attention_factor = factor <= 1.0 ? 1.0 : std::sqrt(1.0 + std::log(factor) / std::log(length));
  }
  return Status();
}

// The base that dynamic scaling reaches at `max_position`.
StatusOr<double> DynamicBase(const RotarySpec& spec, int max_position) {
  const RotaryScaling& s = spec.scaling;
  if (spec.rotary_dim <= 2) {
    return InvalidArgument("rotary scaling dynamic: needs a rotary dimension above 2, got {}",
                           spec.rotary_dim);
  }
  const double length = s.original_max_position_embeddings;
  const double ratio =
      s.factor * std::max<double>(max_position, length) / length - (s.factor - 1.0);
  return spec.base * std::pow(ratio, spec.rotary_dim / (spec.rotary_dim - 2.0));
}

// `attention_factor`: 0 on entry when the scaling gives none; 1 on return for kinds without one.
Status Frequencies(const RotarySpec& spec, int max_position, std::vector<float>& frequencies,
                   double& attention_factor) {
  const RotaryScaling& s = spec.scaling;
  double base = spec.base;
  if (s.type != "none") {
    TRIREME_RETURN_IF_ERROR(Positive("factor", s.factor));
    TRIREME_RETURN_IF_ERROR(
        Positive("original_max_position_embeddings", s.original_max_position_embeddings));
  }
  if (s.type == "dynamic") {
    TRIREME_ASSIGN_OR_RETURN(base, DynamicBase(spec, max_position));
  }
  const std::vector<float> powers = PositionFrequencies(spec.rotary_dim, base);
  frequencies = powers;
  Invert(frequencies);
  if (s.type == "yarn") return ScaleYarn(spec, powers, frequencies, attention_factor);
  if (s.type == "longrope") {
    return ScaleLongRope(spec, max_position, powers, frequencies, attention_factor);
  }
  attention_factor = 1.0;
  if (s.type == "none" || s.type == "dynamic") return Status();
  if (s.type == "llama3") return ScaleLlama3(s, frequencies);
  if (s.type == "linear") {
    for (float& f : frequencies) f /= static_cast<float>(s.factor);
    return Status();
  }
  return InvalidArgument(
      "rotary scaling type '{}' is unknown; known: none, linear, dynamic, llama3, "
      "yarn, longrope",
      s.type);
}

}  // namespace

StatusOr<RotaryTable> BuildRotaryTable(const RotarySpec& spec, int max_position) {
  if (spec.rotary_dim <= 0 || spec.rotary_dim % 2 != 0 || spec.rotary_dim > kMaxRotaryDim) {
    return InvalidArgument("rotary dimension {} is not an even number from 2 to {}",
                           spec.rotary_dim, kMaxRotaryDim);
  }
  if (max_position <= 0 || max_position > kMaxPosition) {
    return InvalidArgument("rotary table for {} positions; from 1 to {} are possible", max_position,
                           kMaxPosition);
  }
  if (!(spec.base > 0.0) || !std::isfinite(spec.base)) {
    return InvalidArgument("rotary base {} must be positive", spec.base);
  }
  std::vector<float> frequencies;
  double attention_factor = spec.scaling.attention_factor;
  TRIREME_RETURN_IF_ERROR(Frequencies(spec, max_position, frequencies, attention_factor));

  RotaryTable table;
  table.max_position = max_position;
  table.rotary_dim = spec.rotary_dim;
  const size_t half = frequencies.size();
  table.cos.resize(static_cast<size_t>(max_position) * half);
  table.sin.resize(table.cos.size());
  const float factor = static_cast<float>(attention_factor);
  for (size_t position = 0; position < static_cast<size_t>(max_position); ++position) {
    for (size_t j = 0; j < half; ++j) {
      const double angle = static_cast<float>(position) * frequencies[j];
      table.cos[position * half + j] = static_cast<float>(std::cos(angle)) * factor;
      table.sin[position * half + j] = static_cast<float>(std::sin(angle)) * factor;
    }
  }
  return table;
}

}  // namespace trireme::kernels

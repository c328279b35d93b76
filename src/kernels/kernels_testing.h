// SPDX-License-Identifier: Apache-2.0
// What tests of CPU kernels share: guarded buffers, random data, the variants to try. Tests only.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/cpu_context.h"

namespace trireme::kernels {

// Floats between guard bytes. Elements start as NaN, so that one never written shows.
class GuardedFloats {
 public:
  explicit GuardedFloats(int64_t size) : size_(size), bytes_(kGuard * 2 + size * 4) {
    std::memset(bytes_.data(), kPattern, bytes_.size());
    std::fill_n(data(), size, std::numeric_limits<float>::quiet_NaN());
  }
  float* data() { return reinterpret_cast<float*>(bytes_.data() + kGuard); }
  int64_t size() const { return size_; }
  std::vector<float> values() { return std::vector<float>(data(), data() + size_); }
  bool GuardsIntact() const {
    for (size_t i = 0; i < kGuard; ++i) {
      if (bytes_[i] != kPattern || bytes_[bytes_.size() - 1 - i] != kPattern) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr uint8_t kPattern = 0xA5;
  int64_t size_;
  std::vector<uint8_t> bytes_;
};

// A small generator of its own, so that data is the same with every standard library.
class TestRandom {
 public:
  explicit TestRandom(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 1) {}
  uint64_t Next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545F4914F6CDD1Du;
  }
  int Below(int n) { return static_cast<int>((Next() >> 33) % static_cast<uint64_t>(n)); }
  // Roughly normal: the sum of four uniforms.
  float Normal() {
    float sum = -2.0f;
    for (int i = 0; i < 4; ++i) sum += static_cast<float>(Next() >> 40) * 0x1p-24f;
    return sum * 1.7320508f;
  }
  std::vector<float> Normals(int64_t n, float scale = 1.0f) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& value : values) value = scale * Normal();
    return values;
  }

 private:
  uint64_t state_;
};

// Instruction sets this machine can run.
inline std::vector<Isa> HostIsas() {
  std::vector<Isa> isas;
  for (Isa isa : {Isa::kGeneric, Isa::kAvx2, Isa::kAvx512}) {
    if (isa <= BestIsa(HostCpuFeatures())) isas.push_back(isa);
  }
  return isas;
}

inline bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// Every element within absolute + relative * |want|; NaN only where NaN is wanted.
inline void ExpectNear(const std::vector<float>& got, const std::vector<float>& want,
                       float relative, float absolute, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(want[i]) && std::isnan(got[i])) continue;
    if (got[i] == want[i]) continue;  // infinities too
    const float bound = absolute + relative * std::abs(want[i]);
    ASSERT_TRUE(std::abs(got[i] - want[i]) <= bound)
        << what << " element " << i << ": got " << got[i] << ", want " << want[i];
  }
}

}  // namespace trireme::kernels

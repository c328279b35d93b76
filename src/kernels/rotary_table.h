// SPDX-License-Identifier: Apache-2.0
// Tables of cos and sin for rotary position embeddings, with every scaling of RotaryScaling. Pure.
//
// Frequencies follow, in float32, the formulas of the papers as the transformers library computes
// them, so that tables agree with the framework a model was checked in:
//   f_j    = 1 / base^(2 j / rotary_dim)                                  RoFormer, arXiv 2104.09864
//   linear   f_j / factor                                                 arXiv 2306.15595
//   dynamic  base *= (factor L / L0 - (factor - 1))^(d / (d - 2))         "NTK-aware", L below
//   llama3   f_j for wavelengths under L0 / high_freq_factor, f_j / factor for those over
//            L0 / low_freq_factor, a linear blend between                 Llama 3.1
//   yarn     a blend of f_j / factor and f_j by a ramp over j between the dimensions that turn
//            beta_fast and beta_slow times in L0 positions                arXiv 2309.00071
//   longrope f_j / short_factor[j], or long_factor[j] when L > L0         arXiv 2402.13753
// yarn and longrope also multiply cos and sin by an attention factor. L0 is the scaling's
// original_max_position_embeddings and L the table's max_position: frequencies must not change
// while a sequence grows, so the two kinds that depend on its length are fixed for the longest one
// the engine will run.
#pragma once

#include <vector>

#include "base/status.h"
#include "trireme/model_config.h"

namespace trireme::kernels {

struct RotarySpec {
  int rotary_dim = 0;
  double base = 10000.0;
  RotaryScaling scaling;
  int max_position_embeddings = 0;  // of the model; longrope's factor is its ratio to L0
};

struct RotaryTable {
  int max_position = 0;
  int rotary_dim = 0;
  std::vector<float> cos;  // [max_position, rotary_dim / 2]
  std::vector<float> sin;
};

// Refuses what no model has: an odd rotary_dim, a factor that is not positive, an unknown type.
StatusOr<RotaryTable> BuildRotaryTable(const RotarySpec& spec, int max_position);

}  // namespace trireme::kernels

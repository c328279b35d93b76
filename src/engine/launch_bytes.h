// SPDX-License-Identifier: Apache-2.0
// How many bytes a launch of a plan moves at least: what its time is held against. Pure functions.
#pragma once

#include <cstdint>

#include "plan/plan.h"
#include "tensor/kv_layout.h"

namespace trireme::engine {

struct StepSize {
  int64_t num_tokens = 0;
  int64_t num_logit_rows = 0;
  int64_t attended_tokens = 0;  // keys of all sequences, those of this step included

  int64_t RowsOf(plan::Rows rows) const {
    return rows == plan::Rows::kTokens ? num_tokens : num_logit_rows;
  }
};

// Weights once (of a table the rows looked up), activations in and out, keys and values read or
// written. Windows are not counted: attention is taken to read every key.
int64_t LaunchBytes(const plan::Plan& plan, const plan::Launch& launch, const StepSize& step,
                    const KvLayout& kv);

// The tactic that serves a linear launch at that size; null for other launches.
const plan::TacticChoice* TacticOf(const plan::Plan& plan, const plan::Launch& launch,
                                   const StepSize& step);

}  // namespace trireme::engine

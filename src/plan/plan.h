// SPDX-License-Identifier: Apache-2.0
// Plan: what an engine executes in one step, as data. Immutable once made.
//
// A plan is a sequence of launches over buffers in one arena. Sizes are expressions in the counts of
// a step, so that memory is planned at load for the limits in force and nothing is baked in.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "tensor/dtype.h"
#include "tensor/quant_spec.h"
#include "tensor/shape.h"
#include "trireme/network.h"

namespace trireme::plan {

// What a dimension grows with.
enum class Rows { kTokens, kLogitRows };

// An activation [rows, width] in the arena. Live over launches [first, last].
struct Buffer {
  Rows rows = Rows::kTokens;
  int64_t width = 0;
  int first = 0;
  int last = 0;
  DType dtype = DType::kFloat32;
};

// A tensor of the engine file.
struct Weight {
  std::string name;    // of the engine file's table
  std::string layout;  // "row_major" or a packed layout of its kernel family
  DType dtype = DType::kFloat32;
  Shape shape;               // logical
  WeightQuant quant;         // of a linear weight
  int64_t num_bytes = 0;     // as stored, padding included
  double synthetic_std = 0;  // > 0: not stored; made at load from N(0, std)
};

// The kernel for steps of up to `max_rows` rows; the last one of a launch also serves longer steps.
struct TacticChoice {
  int64_t max_rows = 0;
  std::string layout;
  std::string kernel;
  std::string numerics;
  double time_us = 0;  // measured at build; 0: not timed
};

// Operands by index: buffers of the arena, weights of the engine.
struct Launch {
  OpKind kind = OpKind::kAdd;
  std::string name;
  OpAttrs attrs;
  std::vector<int> inputs;
  std::vector<int> outputs;
  std::vector<int> weights;
  std::vector<TacticChoice> tactics;  // linear layers, rising max_rows
  int lane = 0;                       // stream
  std::vector<int> waits_on;          // launches of other lanes that must have ended
};

struct Plan {
  std::string device;             // "cpu", "cuda"
  DType dtype = DType::kFloat32;  // of linear weights and the rounding of their inputs
  DType kv_dtype = DType::kFloat32;
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int64_t vocab_size = 0;  // width of the logits
  // A row's logits do not depend on the other rows of its step: tactics agree bit for bit.
  bool batch_invariant = false;
  std::vector<Buffer> buffers;
  std::vector<Weight> weights;
  std::vector<Launch> launches;
  int logits_buffer = -1;
};

// Everything that must hold: indices in range, buffers written before read, lifetimes cover uses.
Status ValidatePlan(const Plan& plan);

std::string PlanToJson(const Plan& plan);
StatusOr<Plan> PlanFromJson(std::string_view json);

struct MemoryPlan {
  std::vector<int64_t> offsets;  // of each buffer, bytes from the arena's base, 256-byte aligned
  int64_t total_bytes = 0;
};

// Gives buffers whose lifetimes overlap disjoint ranges. First fit by falling size.
MemoryPlan PlanMemory(std::span<const Buffer> buffers, int64_t max_tokens, int64_t max_logit_rows);

}  // namespace trireme::plan

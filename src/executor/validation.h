// SPDX-License-Identifier: Apache-2.0
// Refuses what the executor cannot do, naming the field, its range and the remedy. Pure functions.
#pragma once

#include "trireme/executor.h"
#include "trireme/request.h"
#include "trireme/status.h"

namespace trireme::executor {

Status ValidateConfig(const ExecutorConfig& config);

// What bounds a request.
struct RequestLimits {
  int vocab_size = 0;
  int max_seq_len = 0;
  int max_num_tokens = 0;
  bool chunked_context = true;
  int block_size = 0;
  int num_blocks = 0;  // of the whole KV cache
  int kv_window = 0;   // Session::kv_window
};

Status ValidateRequest(const Request& request, const RequestLimits& limits);

}  // namespace trireme::executor

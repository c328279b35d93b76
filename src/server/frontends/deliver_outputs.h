// SPDX-License-Identifier: Apache-2.0
// What every frontend does to a response before it is written: one response out of several,
// classification, outputs in shared memory. Thread-compatible.
#pragma once

#include "server/core/inference.h"
#include "server/core/model.h"
#include "server/core/shared_memory.h"
#include "server/frontends/output_options.h"

namespace trireme::server {

// Gathers the responses of a call whose client takes exactly one.
class SingleResponse {
 public:
  // True with the final response.
  bool Add(InferResponse&& response);
  // After that. Without exactly one response `refusal` says why not: UNIMPLEMENTED of a decoupled
  // model, else INTERNAL.
  StatusOr<InferResponse> Result(bool decoupled, std::string_view refusal);

 private:
  InferResponse response_;
  Status error_;
  int count_ = 0;
};

// Replaces outputs by their classes, and moves those that go to shared memory there: such an output
// keeps its shape and has no data.
Status DeliverOutputs(InferResponse& response, const OutputOptionsMap& options, const Model& model,
                      const SharedMemory& shared_memory);

}  // namespace trireme::server

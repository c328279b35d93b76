// SPDX-License-Identifier: Apache-2.0
// A program linked with the runtime alone: no models, graph or compile. Prints the greedy tokens an
// engine makes of the prompt 1 2 3.
#include <cstdio>

#include "trireme/executor.h"

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  auto executor = trireme::Executor::Create(argv[1], {});
  if (!executor.ok()) {
    std::fprintf(stderr, "%s\n", executor.status().ToString().c_str());
    return 1;
  }
  trireme::Request request;
  request.prompt = {1, 2, 3};
  request.max_tokens = 8;
  const auto id = (*executor)->Enqueue(request);
  if (!id.ok()) return 1;
  for (bool final = false; !final;) {
    for (const trireme::Response& response : (*executor)->AwaitResponses(*id)) {
      for (trireme::TokenId token : response.tokens) std::printf("%d ", token);
      final = response.is_final;
    }
  }
  return 0;
}

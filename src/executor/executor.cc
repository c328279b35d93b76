// SPDX-License-Identifier: Apache-2.0
// Executor::Create: an engine from a path. Apart from executor_impl.cc so that a program with a
// session of its own needs no engine loader.
#include "trireme/executor.h"

#include <utility>

#include "base/status.h"
#include "base/thread_pool.h"
#include "engine/engine_folder.h"
#include "engine/session.h"
#include "executor/executor_impl.h"
#include "executor/validation.h"

namespace trireme {

StatusOr<std::unique_ptr<Executor>> Executor::Create(const std::string& engine_path,
                                                     const ExecutorConfig& config) {
  TRIREME_RETURN_IF_ERROR(executor::ValidateConfig(config));
  if (config.verify_weights) {
    TRIREME_ASSIGN_OR_RETURN(const engine::LoadedEngine engine, engine::OpenEngine(engine_path));
    ThreadPool pool(config.num_threads, /*pin=*/false);
    TRIREME_RETURN_IF_ERROR(engine::VerifyWeights(engine, pool));
  }
  TRIREME_ASSIGN_OR_RETURN(
      auto session,
      engine::Session::Load(engine_path, {.limits = {.max_batch_size = config.max_batch_size,
                                                     .max_num_tokens = config.max_num_tokens,
                                                     .max_seq_len = config.max_seq_len},
                                          .kv_cache = config.kv_cache,
                                          .num_threads = config.num_threads,
                                          .reference_backend = config.reference_backend,
                                          .cuda_graphs = config.cuda_graphs}));
  const int max_steps_in_flight = config.overlap_steps ? session->max_steps_in_flight() : 1;
  return executor::ExecutorImpl::Create(std::move(session), config, max_steps_in_flight);
}

}  // namespace trireme

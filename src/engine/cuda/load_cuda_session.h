// SPDX-License-Identifier: Apache-2.0
// Makes the session that runs an engine on the GPU. No CUDA headers. Any one thread.
#pragma once

#include <memory>

#include "engine/engine_folder.h"
#include "engine/session.h"

namespace trireme::engine {

// FAILED_PRECONDITION names what the machine lacks; RESOURCE_EXHAUSTED what did not fit.
StatusOr<std::unique_ptr<Session>> LoadCudaSession(LoadedEngine engine,
                                                   const SessionOptions& options);

}  // namespace trireme::engine

// SPDX-License-Identifier: Apache-2.0
#include "engine/session.h"

#include "base/status.h"
#include "engine/cpu_session.h"
#include "engine/engine_folder.h"
#ifdef TRIREME_HAS_CUDA
#include "engine/cuda/load_cuda_session.h"
#endif

namespace trireme::engine {

StatusOr<std::unique_ptr<Session>> Session::Load(const std::string& engine_path,
                                                 const SessionOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(LoadedEngine engine, OpenEngine(engine_path));
  if (engine.plan.device == "cpu") return CpuSession::Load(std::move(engine), options);
  if (options.observe_linear) {
    return Unimplemented("'{}' was built for device '{}'; only CPU engines can be observed",
                         engine_path, engine.plan.device);
  }
#ifdef TRIREME_HAS_CUDA
  if (engine.plan.device == "cuda") return LoadCudaSession(std::move(engine), options);
#endif
  return Unimplemented("'{}' was built for device '{}', which this program does not run",
                       engine_path, engine.plan.device);
}

}  // namespace trireme::engine

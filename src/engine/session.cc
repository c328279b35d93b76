// SPDX-License-Identifier: Apache-2.0
#include "engine/session.h"

#include "base/status.h"
#include "engine/cpu_session.h"
#include "engine/engine_folder.h"

namespace trireme::engine {

StatusOr<std::unique_ptr<Session>> Session::Load(const std::string& engine_path,
                                                 const SessionOptions& options) {
  TRIREME_ASSIGN_OR_RETURN(LoadedEngine engine, OpenEngine(engine_path));
  if (engine.plan.device == "cpu") return CpuSession::Load(std::move(engine), options);
  return Unimplemented("'{}' was built for device '{}'; this program runs cpu", engine_path,
                       engine.plan.device);
}

}  // namespace trireme::engine

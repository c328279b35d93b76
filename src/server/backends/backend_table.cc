// SPDX-License-Identifier: Apache-2.0
#include "base/status.h"
#include "server/backends/backend.h"
#include "server/backends/llm/llm_backend.h"
#include "server/backends/python/python_backend.h"

namespace trireme::server {

BackendTable::BackendTable() {
  Add("identity", MakeIdentityBackend());
  Add("add_sub", MakeAddSubBackend());
  Add("square", MakeSquareBackend());
  Add("repeat", MakeRepeatBackend());
  Add("ensemble", MakeEnsembleBackend());
  Add("python", MakePythonBackend());
  Add("onnxruntime", MakeOnnxRuntimeBackend());
  const auto llm = MakeLlmBackend(LlmBackendOptions());
  Add("llm", llm);
  Add("tensorrtllm", llm);
  Add("vllm", llm);
  Add("llm_preprocessing", MakePreprocessingBackend());
  Add("llm_postprocessing", MakePostprocessingBackend());
  Add("llm_bls", MakeBlsBackend());
}

void BackendTable::Add(const std::string& name, std::shared_ptr<const Backend> backend) {
  backends_[name] = std::move(backend);
}

StatusOr<std::shared_ptr<const Backend>> BackendTable::Find(const std::string& name) const {
  const auto found = backends_.find(name);
  if (found != backends_.end()) return found->second;
  std::string known;
  for (const auto& [other, backend] : backends_) known += (known.empty() ? "" : ", ") + other;
  return Unimplemented("unable to find backend '{}'; this server has {}", name, known);
}

}  // namespace trireme::server

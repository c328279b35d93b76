// SPDX-License-Identifier: Apache-2.0
// Writes the engine file of one rank: packs each weight from its checkpoint tensors.
#pragma once

#include <functional>
#include <string>

#include "base/thread_pool.h"
#include "compile/lower.h"
#include "formats/tensor_source.h"

namespace trireme::compile {

// Every tensor the plan needs is there with its shape; errors name the first that is not.
Status CheckSources(const Lowered& lowered, const TensorSource& checkpoint);

// `checkpoint` may be null for an engine whose weights are synthetic. `progress` hears bytes.
Status WriteEngineFile(const std::string& path, const std::string& config_json,
                       const Lowered& lowered, const TensorSource* checkpoint, ThreadPool& pool,
                       const std::function<void(int64_t done, int64_t total)>& progress);

}  // namespace trireme::compile

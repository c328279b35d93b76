// SPDX-License-Identifier: Apache-2.0
// Runs token samples through a CPU engine and sees what its linear layers read. One thread; the
// session brings its own.
#pragma once

#include <map>
#include <span>
#include <string>

#include "base/status.h"
#include "eval/windows.h"

namespace trireme::calibrate {

using eval::TokenSample;

// The largest |input| of each linear layer, by the layer's name, over all samples. The engine must
// have been built without passes, so that its layers carry the checkpoint's names. A value that is
// no finite number is an error that names the layer.
StatusOr<std::map<std::string, float>> LargestInputs(const std::string& engine_dir,
                                                     std::span<const TokenSample> samples,
                                                     const eval::EvalProgressFn& progress);

}  // namespace trireme::calibrate

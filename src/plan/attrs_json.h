// SPDX-License-Identifier: Apache-2.0
// Op attributes as JSON objects and back. Pure functions; readers return false on a wrong shape.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "base/status.h"
#include "trireme/network.h"

namespace trireme::plan {

nlohmann::json AttrsToJson(const OpAttrs& attrs);
StatusOr<OpAttrs> AttrsFromJson(OpKind kind, const nlohmann::json& json);

}  // namespace trireme::plan

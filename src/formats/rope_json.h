// SPDX-License-Identifier: Apache-2.0
// The JSON form of RotaryScaling, as Hugging Face and checkpoint configurations write it. Pure
// functions. Internal to formats/.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "base/status.h"
#include "trireme/model_config.h"

namespace trireme {

// What `rope_scaling` may leave out because it stands elsewhere in the configuration; 0: nowhere.
struct RopeDefaults {
  int max_position_embeddings = 0;
  int original_max_position_embeddings = 0;
};

// `object` is null or an object with `type` or `rope_type`. `what` names it in errors.
StatusOr<RotaryScaling> ParseRotaryScaling(const nlohmann::json& object, std::string_view what,
                                           const RopeDefaults& defaults);

// null for "none"; else an object that ParseRotaryScaling reads back unchanged.
nlohmann::ordered_json RotaryScalingJson(const RotaryScaling& scaling);

}  // namespace trireme

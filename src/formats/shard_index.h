// SPDX-License-Identifier: Apache-2.0
// Index files (`*.index.json`) of sharded weights and the TensorSource over their shards.
// Internal to formats/.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/status.h"
#include "formats/tensor_source.h"

namespace trireme {

// Tensor name -> file name. File names are plain: no separators, no "..".
StatusOr<std::map<std::string, std::string>> ParseShardIndex(std::string_view text,
                                                             std::string_view what);

using ShardOpener = std::function<StatusOr<std::unique_ptr<TensorSource>>(const std::string&)>;

// Opens every shard beside the index with `open` and checks that each listed tensor is there.
StatusOr<std::unique_ptr<TensorSource>> OpenShards(const std::string& index_path,
                                                   const ShardOpener& open);

}  // namespace trireme

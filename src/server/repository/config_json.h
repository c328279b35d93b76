// SPDX-License-Identifier: Apache-2.0
// Protobuf messages as the configuration extension writes them. Pure functions.
#pragma once

#include <google/protobuf/message.h>

#include <string>

namespace trireme::server {

// Original field names, every scalar and list even when unset, 64-bit integers as numbers, enums by
// name; sub-messages and members of a oneof only when set.
std::string ConfigJson(const google::protobuf::Message& message);

}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
// How the text models of one repository divide the memory of one device between their KV caches.
#pragma once

#include "server/backends/backend.h"

namespace trireme::server {

// The text models of the repository that are not loaded, the one of `context` included: each takes
// its fraction of an equal part of what is free when it loads.
int NumTextModelsToLoad(const BackendContext& context);

}  // namespace trireme::server

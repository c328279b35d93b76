// SPDX-License-Identifier: Apache-2.0
// Which Trireme this is. Immutable; thread-safe.
#pragma once

#include <string>
#include <string_view>

namespace trireme {

// "1.2.3": the version of the project, written into engines and checkpoints.
std::string_view Version();

// The commit the program was built from, with "+changes" when the checkout had others, or "unknown"
// outside a checkout. Lives in the library trireme_commit, which is built anew with every commit:
// only programs link it, so that a commit rebuilds one small file.
std::string_view BuildCommit();

// What `trireme --version` prints: lines for version, commit, processor features and CUDA, the last
// without its line end.
std::string VersionText(std::string_view commit);

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
// Where the repository lies, for tests that read its data. Pure function.
//
// The path is compiled into one small file, so that every other file of the tests compiles alike in
// any checkout and a compiler cache serves them all.
#pragma once

#include <string>
#include <string_view>

namespace trireme {

// SourcePath("tests/data/golden")
std::string SourcePath(std::string_view path_in_repository);

}  // namespace trireme

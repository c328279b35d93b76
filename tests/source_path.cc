// SPDX-License-Identifier: Apache-2.0
#include "tests/source_path.h"

namespace trireme {

std::string SourcePath(std::string_view path_in_repository) {
  return std::string(TRIREME_SOURCE_DIR "/").append(path_in_repository);
}

}  // namespace trireme

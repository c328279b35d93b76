// SPDX-License-Identifier: Apache-2.0
// Fuzz target: config.pbtxt. What is accepted can be completed, and its JSON can be read again.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "server/repository/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace trireme::server;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> warnings;
  auto config = ParseModelConfig(text, "config.pbtxt", warnings);
  if (!config.ok()) return 0;
  (void)ValidateModelConfig(*config).ok();
  TRIREME_CHECK(StoreCompletion(*config).ok());
  TRIREME_CHECK(nlohmann::json::accept(config->json));
  return 0;
}

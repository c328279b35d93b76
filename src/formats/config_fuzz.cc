// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the JSON configurations. An accepted checkpoint configuration must survive being
// written and read again.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "formats/checkpoint.h"
#include "formats/hf_config.h"
#include "formats/shard_index.h"

namespace {

void TryHfConfig(std::string_view text) {
  const auto config = trireme::HfConfig::Parse(text, "input");
  if (!config.ok()) return;
  (void)config->GetRope().ok();
  (void)config->GetDType().ok();
  (void)config->Architectures().ok();
  (void)config->RequireCount({"hidden_size", "n_embd"}).ok();
  (void)config->GetInts({"layer_types"}).ok();
  (void)config->GetObject({"quantization_config"}).ok();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  TryHfConfig(text);
  (void)trireme::ParseShardIndex(text, "input").ok();
  const auto config = trireme::ParseCheckpointConfig(text);
  if (!config.ok()) return 0;
  const std::string written = trireme::CheckpointConfigJson(*config);
  const auto again = trireme::ParseCheckpointConfig(written);
  TRIREME_CHECK(again.ok());
  TRIREME_CHECK(trireme::CheckpointConfigJson(*again) == written);
  return 0;
}

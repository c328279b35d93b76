// SPDX-License-Identifier: Apache-2.0
#include "formats/hf_folder.h"

#include <filesystem>

#include "formats/safetensors.h"
#include "formats/torch_bin.h"

namespace trireme {

StatusOr<std::unique_ptr<TensorSource>> OpenHfWeights(const std::string& model_dir) {
  const std::filesystem::path dir(model_dir);
  std::error_code ignored;
  const std::string single = (dir / "model.safetensors").string();
  if (std::filesystem::exists(single, ignored)) return OpenSafetensors(single);
  const std::string index = single + ".index.json";
  if (std::filesystem::exists(index, ignored)) return OpenSafetensorsIndex(index);
  const std::string bin = (dir / "pytorch_model.bin").string();
  if (std::filesystem::exists(bin, ignored)) return OpenTorchBin(bin);
  const std::string bin_index = bin + ".index.json";
  if (std::filesystem::exists(bin_index, ignored)) return OpenTorchBinIndex(bin_index);
  return NotFound(
      "'{}' holds no weights: neither model.safetensors nor pytorch_model.bin, nor an "
      "index of either",
      model_dir);
}

}  // namespace trireme

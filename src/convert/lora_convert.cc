// SPDX-License-Identifier: Apache-2.0
#include "convert/lora_convert.h"

#include "formats/safetensors.h"
#include "formats/torch_bin.h"
#include "formats/torch_bin_writer.h"

namespace trireme::convert {
namespace {

bool IsSafetensors(const std::string& path) { return path.ends_with(".safetensors"); }

bool IsTorch(const std::string& path) {
  return path.ends_with(".bin") || path.ends_with(".pt") || path.ends_with(".pth");
}

Status WriteSafetensors(const TensorSource& source, const std::string& path) {
  std::vector<SafetensorsWriter::Entry> entries;
  for (const std::string& name : source.Names()) {
    TRIREME_ASSIGN_OR_RETURN(const TensorView view, source.Describe(name));
    entries.push_back({name, view.dtype, view.shape});
  }
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<SafetensorsWriter> writer,
                           SafetensorsWriter::Create(path, std::move(entries), {{"format", "pt"}}));
  for (const std::string& name : source.Names()) {
    TRIREME_ASSIGN_OR_RETURN(const TensorView view, source.Get(name));
    TRIREME_RETURN_IF_ERROR(
        writer->Write(name, {view.data, static_cast<size_t>(view.num_bytes())}));
  }
  return writer->Finish();
}

}  // namespace

Status CheckTensorFileNames(const std::string& from, const std::string& to) {
  if ((IsSafetensors(from) && IsTorch(to)) || (IsTorch(from) && IsSafetensors(to))) {
    return OkStatus();
  }
  return InvalidArgument(
      "'{}' to '{}': one must end in .safetensors and the other in .bin, .pt or .pth", from, to);
}

Status ConvertTensorFile(const std::string& from, const std::string& to) {
  if (IsSafetensors(from) && IsTorch(to)) {
    TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<TensorSource> source, OpenSafetensors(from));
    return WriteTorchBin(*source, to);
  }
  if (IsTorch(from) && IsSafetensors(to)) {
    TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<TensorSource> source, OpenTorchBin(from));
    return WriteSafetensors(*source, to);
  }
  return CheckTensorFileNames(from, to);
}

}  // namespace trireme::convert

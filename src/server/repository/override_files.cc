// SPDX-License-Identifier: Apache-2.0
#include "server/repository/override_files.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/status.h"

namespace trireme::server {
namespace {

namespace fs = std::filesystem;

Status WriteOne(const fs::path& root, const std::string& name, const std::string& content) {
  const fs::path relative = fs::path(name).lexically_normal();
  if (name.empty() || relative.is_absolute() || *relative.begin() == ".." ||
      !relative.has_filename()) {
    return InvalidArgument("file override '{}' does not name a file inside the model folder", name);
  }
  std::error_code error;
  fs::create_directories((root / relative).parent_path(), error);
  std::ofstream file(root / relative, std::ios::binary);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  file.close();
  if (file) return OkStatus();
  return Internal("cannot write file override '{}' below {}", name, root.string());
}

}  // namespace

StatusOr<std::string> WriteOverrideFiles(const std::map<std::string, std::string>& files) {
  std::error_code error;
  std::string path = (fs::temp_directory_path(error) / "trireme_model_XXXXXX").string();
  if (error || ::mkdtemp(path.data()) == nullptr) {
    return Internal("cannot make a temporary folder for file overrides");
  }
  for (const auto& [name, content] : files) {
    if (Status status = WriteOne(path, name, content); !status.ok()) {
      fs::remove_all(path, error);
      return status;
    }
  }
  return path;
}

}  // namespace trireme::server

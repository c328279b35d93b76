// SPDX-License-Identifier: Apache-2.0
#include "formats/shard_index.h"

#include <filesystem>
#include <utility>
#include <vector>

#include "base/mapped_file.h"
#include "formats/json_text.h"

namespace trireme {
namespace {

constexpr uint64_t kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxShards = 4096;

class ShardedTensors final : public TensorSource {
 public:
  ShardedTensors(std::string index_path, std::vector<std::unique_ptr<TensorSource>> shards,
                 std::map<std::string, size_t, std::less<>> shard_of)
      : index_path_(std::move(index_path)),
        shards_(std::move(shards)),
        shard_of_(std::move(shard_of)) {}

  std::vector<std::string> Names() const override {
    std::vector<std::string> names;
    for (const auto& [name, shard] : shard_of_) names.push_back(name);
    return names;
  }
  bool Has(std::string_view name) const override { return shard_of_.contains(name); }
  StatusOr<TensorView> Get(std::string_view name) const override {
    const auto it = shard_of_.find(name);
    if (it == shard_of_.end()) return Missing(name);
    return shards_[it->second]->Get(name);
  }
  StatusOr<TensorView> Describe(std::string_view name) const override {
    const auto it = shard_of_.find(name);
    if (it == shard_of_.end()) return Missing(name);
    return shards_[it->second]->Describe(name);
  }
  void Release(std::string_view name) const override {
    const auto it = shard_of_.find(name);
    if (it != shard_of_.end()) shards_[it->second]->Release(name);
  }

 private:
  Status Missing(std::string_view name) const {
    return NotFound("tensor '{}' is not listed in '{}'", name, index_path_);
  }

  const std::string index_path_;
  const std::vector<std::unique_ptr<TensorSource>> shards_;
  const std::map<std::string, size_t, std::less<>> shard_of_;
};

// Only a name inside the model's own folder is followed.
bool IsPlainFileName(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.size() < 256 &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

}  // namespace

StatusOr<std::map<std::string, std::string>> ParseShardIndex(std::string_view text,
                                                             std::string_view what) {
  TRIREME_ASSIGN_OR_RETURN(const nlohmann::json root, ParseJson(text, what));
  const auto weight_map = root.is_object() ? root.find("weight_map") : root.end();
  if (!root.is_object() || weight_map == root.end() || !weight_map->is_object()) {
    return InvalidArgument("{} has no object 'weight_map'", what);
  }
  std::map<std::string, std::string> file_of;
  for (const auto& [name, file] : weight_map->items()) {
    if (!file.is_string()) {
      return InvalidArgument("{}: weight_map['{}'] is {}, not a file name", what, name,
                             JsonTypeName(file));
    }
    const std::string& file_name = file.get_ref<const std::string&>();
    if (!IsPlainFileName(file_name)) {
      return InvalidArgument(
          "{}: weight_map['{}'] is '{}'; shards must be plain file names beside "
          "the index",
          what, name, file_name);
    }
    file_of.emplace(name, file_name);
  }
  if (file_of.empty()) return InvalidArgument("{}: 'weight_map' is empty", what);
  return file_of;
}

StatusOr<std::unique_ptr<TensorSource>> OpenShards(const std::string& index_path,
                                                   const ShardOpener& open) {
  TRIREME_ASSIGN_OR_RETURN(const std::string text, ReadFile(index_path, kMaxIndexBytes));
  const std::string what = "'" + index_path + "'";
  TRIREME_ASSIGN_OR_RETURN(const auto file_of, ParseShardIndex(text, what));
  const std::filesystem::path folder = std::filesystem::path(index_path).parent_path();
  std::vector<std::unique_ptr<TensorSource>> shards;
  std::map<std::string, size_t> opened;
  std::map<std::string, size_t, std::less<>> shard_of;
  for (const auto& [name, file] : file_of) {
    auto it = opened.find(file);
    if (it == opened.end()) {
      if (shards.size() == kMaxShards) {
        return InvalidArgument("{} names more than {} shards", what, kMaxShards);
      }
      StatusOr<std::unique_ptr<TensorSource>> shard = open((folder / file).string());
      if (!shard.ok()) return shard.status().WithContext("shard listed in " + what);
      it = opened.emplace(file, shards.size()).first;
      shards.push_back(std::move(*shard));
    }
    if (!shards[it->second]->Has(name)) {
      return InvalidArgument(
          "{} says that tensor '{}' is in '{}', but it is not there; fetch both "
          "files from the same revision",
          what, name, file);
    }
    shard_of.emplace(name, it->second);
  }
  return std::unique_ptr<TensorSource>(
      std::make_unique<ShardedTensors>(index_path, std::move(shards), std::move(shard_of)));
}

}  // namespace trireme

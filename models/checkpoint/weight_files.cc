#include "models/checkpoint/weight_files.h"

#include <algorithm>
#include <map>
#include <utility>

#include "kernels/status.h"
#include "models/checkpoint/json.h"

namespace bertrand {
namespace {

constexpr uint64_t kIndexBytesMax = 100'000'000;
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

absl::Status NoWeights(const std::string& folder) {
  if (!PathExists(folder)) return NotFound(folder + ": no such folder");
  std::string message = folder + " has neither " + kSingleFile + " nor " + kIndexFile;
  for (const char* other :
       {"pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"}) {
    if (PathExists(JoinPath(folder, other))) {
      message += std::string("; its ") + other + " is not read by this version: convert it with " +
                 "transformers' save_pretrained(..., safe_serialization=True)";
      break;
    }
  }
  return NotFound(message);
}

// tensor name -> shard's file name.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  BERTRAND_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path, kIndexBytesMax));
  BERTRAND_ASSIGN_OR_RETURN(const Json index, Json::Parse(text, path));
  const Json* weight_map = index.Find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object()) {
    return InvalidArgument(path + ": expected an object \"weight_map\"");
  }
  std::map<std::string, std::string> shard_of;
  for (const auto& [name, value] : weight_map->members()) {
    const std::string* shard = value.as_string();
    if (shard == nullptr) {
      return InvalidArgument(path + ": weight_map: \"" + name + "\" is " + value.KindName() +
                             ", expected a file name");
    }
    if (shard->empty() || !StaysInside(*shard)) {
      return InvalidArgument(path + ": weight_map: \"" + name + "\" is in \"" + *shard +
                             "\", expected the name of a file in this folder");
    }
    shard_of.emplace(name, *shard);
  }
  return shard_of;
}

}  // namespace

absl::StatusOr<WeightFiles> WeightFiles::Open(const std::string& folder) {
  const std::string single = JoinPath(folder, kSingleFile);
  // As transformers does: the single file wins.
  if (!PathExists(single)) {
    const std::string index = JoinPath(folder, kIndexFile);
    return PathExists(index) ? OpenShards(folder, index) : NoWeights(folder);
  }
  BERTRAND_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::Open(single));
  WeightFiles weights;
  weights.path_ = single;
  weights.files_.push_back(std::move(file));
  for (const StoredTensor& tensor : weights.files_[0].tensors()) {
    weights.entries_.push_back({&tensor, 0});
  }
  return weights;
}

absl::StatusOr<WeightFiles> WeightFiles::OpenShards(const std::string& folder,
                                                    const std::string& index_path) {
  BERTRAND_ASSIGN_OR_RETURN(const auto shard_of, ReadIndex(index_path));
  WeightFiles weights;
  weights.path_ = index_path;
  std::map<std::string, size_t> file_of;  // shard's name -> index in files_
  for (const auto& [name, shard] : shard_of) file_of.emplace(shard, 0);
  if (file_of.size() > kShardsMax) {
    return InvalidArgument(index_path + " names " + std::to_string(file_of.size()) +
                           " files, expected at most " + std::to_string(kShardsMax));
  }
  for (auto& [shard, file_index] : file_of) {
    absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(JoinPath(folder, shard));
    if (!file.ok()) return Annotate(file.status(), index_path);
    file_index = weights.files_.size();
    weights.files_.push_back(*std::move(file));
  }
  for (const auto& [name, shard] : shard_of) {
    const size_t file_index = file_of[shard];
    const StoredTensor* tensor = weights.files_[file_index].Find(name);
    if (tensor == nullptr) {
      return InvalidArgument(index_path + ": tensor \"" + name + "\" is not in " + shard);
    }
    weights.entries_.push_back({tensor, file_index});
  }
  return weights;
}

const WeightFiles::Entry* WeightFiles::Find(std::string_view name) const {
  const auto it = std::lower_bound(
      entries_.begin(), entries_.end(), name,
      [](const Entry& entry, std::string_view key) { return entry.tensor->name < key; });
  return it != entries_.end() && it->tensor->name == name ? &*it : nullptr;
}

absl::Status WeightFiles::Check(std::string_view name, std::initializer_list<int64_t> shape) const {
  const std::string expected = ShapeString(std::span(shape.begin(), shape.size()));
  const Entry* entry = Find(name);
  if (entry == nullptr) {
    return InvalidArgument(path_ + ": tensor \"" + std::string(name) + "\" is missing, expected " +
                           expected);
  }
  const StoredTensor& tensor = *entry->tensor;
  if (!std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end())) {
    return InvalidArgument(files_[entry->file_index].path() + ": tensor \"" + tensor.name +
                           "\" is " + tensor.ToString() + ", expected " + expected);
  }
  if (tensor.dtype != "F32" && tensor.dtype != "F16" && tensor.dtype != "BF16") {
    return InvalidArgument(files_[entry->file_index].path() + ": tensor \"" + tensor.name +
                           "\" is " + tensor.ToString() + ", expected F32, F16 or BF16");
  }
  return absl::OkStatus();
}

absl::Status WeightFiles::Read(std::string_view name, int64_t first, std::span<float> out) const {
  const Entry* entry = Find(name);
  BERTRAND_CHECK(entry != nullptr, name);
  return files_[entry->file_index].Read(*entry->tensor, first, out);
}

std::vector<std::string> WeightFiles::Names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const Entry& entry : entries_) names.push_back(entry.tensor->name);
  return names;
}

std::span<const int64_t> WeightFiles::Shape(std::string_view name) const {
  const Entry* entry = Find(name);
  return entry == nullptr ? std::span<const int64_t>() : std::span(entry->tensor->shape);
}

}  // namespace bertrand

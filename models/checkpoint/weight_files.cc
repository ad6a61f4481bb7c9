#include "models/checkpoint/weight_files.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <system_error>
#include <utility>

#include "kernels/status.h"
#include "models/checkpoint/json.h"
#include "models/checkpoint/safetensors.h"
#include "models/checkpoint/torch_file.h"

namespace bertrand {
namespace {

constexpr uint64_t kIndexBytesMax = 100'000'000;

// The weights of a folder, in the order in which transformers looks for them
// (modeling_utils.py, _get_resolved_checkpoint_files).
struct WeightFormat {
  const char* single;
  const char* index;  // names the shards
  absl::StatusOr<TensorFile> (*open)(const std::string& path);
};
constexpr std::array kFormats = {
    WeightFormat{"model.safetensors", "model.safetensors.index.json",
                 [](const std::string& path) -> absl::StatusOr<TensorFile> {
                   return SafetensorsFile::Open(path);
                 }},
    WeightFormat{"pytorch_model.bin", "pytorch_model.bin.index.json", OpenTorchFile},
};

struct OtherFormat {
  const char* file;
  const char* of;
  const char* argument;  // of from_pretrained, to read it
};
constexpr std::array kOthers = {
    OtherFormat{"tf_model.h5", "TensorFlow", "from_tf=True"},
    OtherFormat{"model.ckpt.index", "TensorFlow 1", "from_tf=True"},
    OtherFormat{"bert_model.ckpt.index", "TensorFlow 1", "from_tf=True"},
    OtherFormat{"flax_model.msgpack", "Flax", "from_flax=True"},
};

// Files that may be weights, under names that nobody looks for (model.fp16.safetensors) or of other
// libraries: a few of them, for a message.
std::string OtherFiles(const std::string& folder) {
  constexpr std::array kEndings = {".safetensors", ".bin", ".pt", ".gguf", ".onnx", ".ot"};
  constexpr size_t kSeenMax = 1000;
  constexpr size_t kShownMax = 3;
  std::vector<std::string> found;
  for (const char* inner : {"", "onnx"}) {
    std::error_code error;
    std::filesystem::directory_iterator entry(JoinPath(folder, inner), error);
    for (size_t i = 0; !error && i < kSeenMax && entry != end(entry); ++i, entry.increment(error)) {
      const std::string name = entry->path().filename();
      if (std::any_of(kEndings.begin(), kEndings.end(),
                      [&](const char* ending) { return name.ends_with(ending); })) {
        found.push_back(*inner == 0 ? name : JoinPath(inner, name));
      }
    }
  }
  std::sort(found.begin(), found.end());
  if (found.size() > kShownMax) found.resize(kShownMax);
  std::string list;
  for (const std::string& name : found) list += (list.empty() ? "" : ", ") + name;
  return list;
}

absl::Status NoWeights(const std::string& folder) {
  if (!PathExists(folder)) return NotFound(folder + ": no such folder");
  std::string message = folder + " has no model.safetensors and no pytorch_model.bin, nor their " +
                        "index.json of shards";
  for (const OtherFormat& other : kOthers) {
    if (!PathExists(JoinPath(folder, other.file))) continue;
    message += std::string("; its ") + other.file + " has weights of " + other.of +
               ", which are not read: convert them with transformers' from_pretrained(..., " +
               other.argument + ") and save_pretrained";
    return NotFound(message);
  }
  if (const std::string others = OtherFiles(folder); !others.empty()) {
    message += "; it has " + others + ", of names or formats that are not read";
  }
  return NotFound(message);
}

// tensor name -> shard's file name.
absl::StatusOr<std::map<std::string, std::string>> ReadIndex(const std::string& path) {
  BERTRAND_ASSIGN_OR_RETURN(std::string text, ReadTextFile(path, kIndexBytesMax));
  BERTRAND_ASSIGN_OR_RETURN(const Json index, Json::ParseOwned(std::move(text), path));
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
  for (const WeightFormat& format : kFormats) {
    const std::string single = JoinPath(folder, format.single);
    const std::string index = JoinPath(folder, format.index);
    if (PathExists(single)) {
      BERTRAND_ASSIGN_OR_RETURN(TensorFile file, format.open(single));
      return OfOneFile(std::move(file));
    }
    if (PathExists(index)) return OpenShards(folder, index, format.open);
  }
  return NoWeights(folder);
}

WeightFiles WeightFiles::OfOneFile(TensorFile file) {
  WeightFiles weights;
  weights.path_ = file.path();
  weights.files_.push_back(std::move(file));
  for (const StoredTensor& tensor : weights.files_[0].tensors()) {
    weights.entries_.push_back({&tensor, 0});
  }
  return weights;
}

absl::StatusOr<WeightFiles> WeightFiles::OpenShards(const std::string& folder,
                                                    const std::string& index_path, OpenFile open) {
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
    absl::StatusOr<TensorFile> file = open(JoinPath(folder, shard));
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
  return files_[entry->file_index].CheckReadable(tensor);
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

absl::StatusOr<std::string> WeightFiles::Fingerprint() const {
  constexpr int64_t kValuesEach = 64;
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  const auto add = [&hash](std::string_view bytes) {
    for (const char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3u;
  };
  std::vector<float> values;
  for (const Entry& entry : entries_) {
    const StoredTensor& tensor = *entry.tensor;
    add(tensor.name + ShapeString(tensor.shape));
    const TensorFile& file = files_[entry.file_index];
    if (!file.CheckReadable(tensor).ok()) continue;  // buffers of integers
    values.resize(static_cast<size_t>(std::min(kValuesEach, tensor.num_elements())));
    BERTRAND_RETURN_IF_ERROR(file.Read(tensor, 0, values));
    add({reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)});
  }
  char digits[17];
  std::snprintf(digits, sizeof(digits), "%016llx", static_cast<unsigned long long>(hash));
  return std::string(digits);
}

DType WeightFiles::MainType() const {
  int64_t num_half = 0, num_bfloat = 0, num_others = 0;
  for (const Entry& entry : entries_) {
    const std::string& dtype = entry.tensor->dtype;
    int64_t& count = dtype == "F16" ? num_half : dtype == "BF16" ? num_bfloat : num_others;
    count += entry.tensor->num_elements();
  }
  if (num_half > std::max(num_bfloat, num_others)) return DType::kFloat16;
  return num_bfloat > std::max(num_half, num_others) ? DType::kBFloat16 : DType::kFloat32;
}

}  // namespace bertrand

#pragma once

// The weights of a folder: model.safetensors, or the shards that model.safetensors.index.json
// names; where there is neither, pytorch_model.bin or the shards of its index. What is in a file of
// either format looks the same here.
//
// Tensors are found by name and read a range at a time, so that loading needs the memory of the
// device's weights and of what is being read, never of a whole file. Immutable after Open and
// thread-safe.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/tensor.h"
#include "models/checkpoint/tensor_file.h"

namespace bertrand {

class WeightFiles {
 public:
  // Shards stay open while we load.
  static constexpr size_t kShardsMax = 256;

  // Errors name the file. NotFound when the folder has none of these, with what it has instead.
  static absl::StatusOr<WeightFiles> Open(const std::string& folder);

  // The file that was opened first: the single one, or the index. For messages.
  const std::string& path() const { return path_; }

  bool Has(std::string_view name) const { return Find(name) != nullptr; }
  // OK when the tensor is there with this shape and a type that can be read; else names the tensor,
  // the actual shape and the expected one.
  absl::Status Check(std::string_view name, std::initializer_list<int64_t> shape) const;
  // Elements [first, first + out.size()) as float32. Requires a Check that passed, and the range.
  absl::Status Read(std::string_view name, int64_t first, std::span<float> out) const;

  // Sorted.
  std::vector<std::string> Names() const;
  // The shape of a tensor; empty when there is none.
  std::span<const int64_t> Shape(std::string_view name) const;
  // 16 hexadecimal digits that tell weights apart: a hash over names, shapes and the first values
  // of every tensor, the same whatever the format. No seal: who wants to can make another with the
  // same.
  absl::StatusOr<std::string> Fingerprint() const;
  // The type of most elements: float16, bfloat16, or float32 for all else.
  DType MainType() const;

 private:
  struct Entry {
    const StoredTensor* tensor;
    size_t file_index;
  };
  WeightFiles() = default;
  using OpenFile = absl::StatusOr<TensorFile> (*)(const std::string& path);
  static WeightFiles OfOneFile(TensorFile file);
  static absl::StatusOr<WeightFiles> OpenShards(const std::string& folder,
                                                const std::string& index_path, OpenFile open);
  const Entry* Find(std::string_view name) const;

  std::string path_;
  std::vector<TensorFile> files_;
  std::vector<Entry> entries_;  // sorted by name; tensors lie in files_, whose memory does not move
};

}  // namespace bertrand

#pragma once

// One safetensors file: https://github.com/huggingface/safetensors, section "Format".
//
//   8 bytes    N, the header's length, little-endian
//   N bytes    JSON: {"name": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ...,
//              "__metadata__": {"key": "value"}}, padded with spaces
//   the rest   the tensors' bytes; offsets count from here
//
// The file is untrusted. Open accepts it only when the tensors cover the rest exactly: no overlap,
// no hole, nothing beyond the end, and shape times element size equal to the bytes of each; no
// duplicate key, a header of at most kHeaderBytesMax. Memory is in proportion to the header alone;
// Read brings in the elements that are asked for.
//
// Immutable after Open and thread-safe.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/checkpoint/file.h"

namespace bertrand {

struct StoredTensor {
  std::string name;
  std::string dtype;  // as the file names it: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // byte offsets in the file

  int64_t num_elements() const;
  // "F32[30522,384]", for messages.
  std::string ToString() const;
};

class SafetensorsFile {
 public:
  static constexpr uint64_t kHeaderBytesMax = 100'000'000;

  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  // Sorted by name.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const StoredTensor* Find(std::string_view name) const;

  // Elements [first, first + out.size()) of a tensor of this file in row-major order, as float32:
  // F32 as it is, F16 and BF16 exactly; InvalidArgument for other types.
  absl::Status Read(const StoredTensor& tensor, int64_t first, std::span<float> out) const;

 private:
  SafetensorsFile(File file, std::vector<StoredTensor> tensors)
      : file_(std::move(file)), tensors_(std::move(tensors)) {}

  File file_;
  std::vector<StoredTensor> tensors_;
};

// "[30522,384]".
std::string ShapeString(std::span<const int64_t> shape);

}  // namespace bertrand

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
// duplicate key, a header of at most kHeaderBytesMax. Memory is in proportion to the header alone.

#include <absl/status/statusor.h>

#include <cstdint>
#include <string>
#include <utility>

#include "models/checkpoint/tensor_file.h"

namespace bertrand {

class SafetensorsFile : public TensorFile {
 public:
  static constexpr uint64_t kHeaderBytesMax = 100'000'000;

  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

 private:
  explicit SafetensorsFile(TensorFile file) : TensorFile(std::move(file)) {}
};

}  // namespace bertrand

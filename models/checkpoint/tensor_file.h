#pragma once

// Tensors that lie in one file, whatever the format that says where.
//
// Opening a format (safetensors.h, torch_file.h) checks an untrusted file and gives a TensorFile:
// every tensor's elements are inside the file. Memory is that of the list of tensors; Read brings
// in the elements that are asked for. Immutable and thread-safe.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/checkpoint/file.h"

namespace bertrand {

// Far beyond any tensor of a checkpoint.
inline constexpr size_t kTensorRankMax = 16;

struct StoredTensor {
  std::string name;
  std::string dtype;  // as safetensors names it: "F32", "BF16", "I64", ...
  std::vector<int64_t> shape;
  uint64_t begin = 0, end = 0;  // byte offsets in the file
  // In elements, as many as dimensions; empty: row-major without gaps, and then begin to end is the
  // tensor and nothing else.
  std::vector<int64_t> strides;

  int64_t num_elements() const;
  // "F32[30522,384]", for messages.
  std::string ToString() const;
};

class TensorFile {
 public:
  // Requires: names are different, [begin, end) within the file, every element within it.
  TensorFile(File file, std::vector<StoredTensor> tensors);

  const std::string& path() const { return file_.path(); }
  // Sorted by name.
  const std::vector<StoredTensor>& tensors() const { return tensors_; }
  const StoredTensor* Find(std::string_view name) const;

  // Whether Read can give the tensor's elements: F32, F16, BF16 or F64, and strides with which one
  // dimension has no gaps (a matrix stored transposed, a part of a wider one) or which reach over
  // not many more elements than the tensor has. InvalidArgument names the tensor and what it is.
  absl::Status CheckReadable(const StoredTensor& tensor) const;

  // Elements [first, first + out.size()) of a tensor of this file in row-major order, as float32:
  // F32 as it is, F16 and BF16 exactly, F64 rounded. Errors as CheckReadable's, and reading's.
  absl::Status Read(const StoredTensor& tensor, int64_t first, std::span<float> out) const;

 private:
  absl::Status ReadRows(const StoredTensor& tensor, int64_t first, std::span<float> out) const;
  absl::Status ReadColumns(const StoredTensor& tensor, int64_t first, std::span<float> out) const;
  absl::Status ReadGaps(const StoredTensor& tensor, int64_t first, std::span<float> out) const;
  // Elements without gaps from a byte offset. `scratch` is memory to be used again.
  absl::Status ReadRun(const StoredTensor& tensor, uint64_t offset, std::span<float> out,
                       std::vector<char>* scratch) const;

  File file_;
  std::vector<StoredTensor> tensors_;
};

// "[30522,384]".
std::string ShapeString(std::span<const int64_t> shape);

// Bits of an element; empty when there is no such type.
std::optional<uint64_t> ElementBits(std::string_view dtype);

// The bytes of `shape` in a type of `bits`; empty when a dimension is negative, the product does
// not fit, or is no whole number of bytes.
std::optional<uint64_t> TensorBytes(std::span<const int64_t> shape, uint64_t bits);

// True when elements of that shape and those strides follow one another in row-major order.
bool IsRowMajor(std::span<const int64_t> shape, std::span<const int64_t> strides);

// InvalidArgument when the file is but a pointer that git-lfs left in its place.
absl::Status CheckNoLfsPointer(const File& file);

}  // namespace bertrand

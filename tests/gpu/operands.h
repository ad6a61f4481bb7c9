#pragma once

// A case's operands on the device: random numbers, never zeros (fewer bits toggle, and a wrong
// index goes unseen); outputs begin as NaN, or -1, so that what a kernel leaves out shows.
//
// Owns the memory. Made and used by one thread. Errors stick: what is made after one is empty, and
// status() is the first.

#include <absl/status/status.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <vector>

#include "kernels/simt/runtime.h"
#include "kernels/tensor.h"

namespace bertrand::gpu::inline SIMT_TARGET {

class Operands {
 public:
  explicit Operands(simt::Stream& stream) : stream_(stream) {}

  // Values of either sign with magnitudes in [2^exponent, 2^(exponent + 1)).
  TensorView Random(DType dtype, std::initializer_list<int64_t> shape, int exponent = 0);
  // int32 [values].
  TensorView Ints(std::vector<int32_t> values);
  // 0, 1, ..., `below` - 1 in a random order with repetitions.
  TensorView Ids(int64_t count, int64_t below);
  TensorView Output(DType dtype, std::initializer_list<int64_t> shape);
  // float32 [1].
  TensorView Scalar(float value);
  // All zero.
  TensorView Zeros(DType dtype, std::initializer_list<int64_t> shape);
  void* Workspace(size_t size_bytes);
  // `host` as it is; stays alive until this object's end.
  void* Bytes(std::vector<char> host);

  const absl::Status& status() const { return status_; }
  size_t size_bytes() const { return size_bytes_; }

  // Whether every output is written and finite. Synchronises. Internal says which is not.
  absl::Status CheckOutputs();

 private:
  void* Allocate(size_t size_bytes);
  void Keep(const absl::Status& status);

  simt::Stream& stream_;
  absl::Status status_;
  size_t size_bytes_ = 0;
  uint64_t seed_ = 1;
  std::vector<simt::Memory> memory_;
  std::vector<std::unique_ptr<std::vector<char>>> host_;
  std::vector<TensorView> outputs_;
};

}  // namespace bertrand::gpu::inline SIMT_TARGET

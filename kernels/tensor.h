#pragma once

// Views of dense, row-major device memory. A view owns nothing and is passed by value; who made the
// memory (kernels/backend.h: Buffer) keeps it alive. `data` is a device address: only a backend may
// read through it, except on backends whose memory is the host's (Backend::host_memory()).

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

namespace bertrand {

// kFloat8: e4m3 (OCP FP8, largest value 448), which only kernels read and write.
enum class DType : uint8_t { kFloat32, kFloat16, kBFloat16, kInt32, kFloat8 };

// Bytes of one element.
size_t SizeOf(DType dtype);
// "float32", "float16", "bfloat16", "int32", "float8".
const char* Name(DType dtype);

// `rank` dimensions, row-major and contiguous. A default-made view has no data: it stands for an
// operand that is absent (`!view`).
class TensorView {
 public:
  static constexpr int kMaxRank = 4;

  TensorView() = default;
  TensorView(void* data, DType dtype, std::initializer_list<int64_t> shape);

  explicit operator bool() const { return data_ != nullptr; }
  void* data() const { return data_; }
  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  int64_t dim(int index) const { return shape_[index]; }
  int64_t num_elements() const;
  size_t size_bytes() const { return static_cast<size_t>(num_elements()) * SizeOf(dtype_); }
  bool HasShape(std::initializer_list<int64_t> shape) const;

  // "float32[12,384]", for messages.
  std::string ToString() const;

 private:
  void* data_ = nullptr;
  DType dtype_ = DType::kFloat32;
  int rank_ = 0;
  std::array<int64_t, kMaxRank> shape_{};
};

}  // namespace bertrand

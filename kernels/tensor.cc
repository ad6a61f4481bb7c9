#include "kernels/tensor.h"

#include <algorithm>

#include "kernels/status.h"

namespace bertrand {

size_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kFloat16:
    case DType::kBFloat16:
      return 2;
    case DType::kFloat8:
      return 1;
  }
  return 0;
}

const char* Name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kInt32:
      return "int32";
    case DType::kFloat8:
      return "float8";
  }
  return "?";
}

TensorView::TensorView(void* data, DType dtype, std::initializer_list<int64_t> shape)
    : data_(data), dtype_(dtype), rank_(static_cast<int>(shape.size())) {
  BERTRAND_CHECK(rank_ <= kMaxRank, "a tensor has at most 4 dimensions");
  std::copy(shape.begin(), shape.end(), shape_.begin());
}

int64_t TensorView::num_elements() const {
  if (rank_ == 0) return 0;
  int64_t count = 1;
  for (int i = 0; i < rank_; ++i) count *= shape_[i];
  return count;
}

bool TensorView::HasShape(std::initializer_list<int64_t> shape) const {
  return static_cast<size_t>(rank_) == shape.size() &&
         std::equal(shape.begin(), shape.end(), shape_.begin());
}

std::string TensorView::ToString() const {
  if (rank_ == 0) return "absent";
  std::string text = std::string(Name(dtype_)) + "[";
  for (int i = 0; i < rank_; ++i) {
    if (i != 0) text += ',';
    text += std::to_string(shape_[i]);
  }
  text += ']';
  return text;
}

}  // namespace bertrand

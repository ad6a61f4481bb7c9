#include "models/checkpoint/tensor_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "kernels/status.h"

namespace bertrand {
namespace {

static_assert(std::endian::native == std::endian::little);

struct ElementType {
  std::string_view name;
  uint64_t bits;
};
// safetensors' `Dtype`; tensors of types that Read does not convert are allowed to lie in the file.
constexpr std::array kElementTypes = {
    ElementType{"BOOL", 8},    ElementType{"U8", 8},      ElementType{"I8", 8},
    ElementType{"F8_E5M2", 8}, ElementType{"F8_E4M3", 8}, ElementType{"F8_E8M0", 8},
    ElementType{"F4", 4},      ElementType{"F6_E2M3", 6}, ElementType{"F6_E3M2", 6},
    ElementType{"I16", 16},    ElementType{"U16", 16},    ElementType{"F16", 16},
    ElementType{"BF16", 16},   ElementType{"I32", 32},    ElementType{"U32", 32},
    ElementType{"F32", 32},    ElementType{"F64", 64},    ElementType{"I64", 64},
    ElementType{"U64", 64},    ElementType{"C64", 64},
};

// Values that are converted go through memory of this size.
constexpr size_t kChunkBytes = 512 * 1024;
// A transposed matrix is read so many columns at a time, which fill cache lines of the result.
constexpr int64_t kColumnsEach = 16;

// Exact for every value, subnormals too: the exponent is moved by a multiplication, whose result is
// always representable. NaN keeps its payload. Both results are computed and one is selected by
// masks: a multiplication under a condition would keep the compiler from vectorising the loop.
float FloatFromHalf(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fffu) << 13;
  const auto finite = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  const uint32_t is_special = magnitude >= 0x0f800000u ? ~0u : 0u;
  const uint32_t bits = ((magnitude | 0x7f800000u) & is_special) | (finite & ~is_special);
  return std::bit_cast<float>(bits | sign);
}

float FloatFromBfloat(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

// To the nearest, beyond the range to infinity: as torch converts.
float FloatFromDouble(double value) { return static_cast<float>(value); }

template <typename From, float (*convert)(From)>
void Convert(const char* bytes, std::span<float> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    From value;
    std::memcpy(&value, bytes + i * sizeof(From), sizeof(From));
    out[i] = convert(value);
  }
}

// Strides that leave gaps everywhere (every third column of a fused weight, three dimensions in
// another order) are read with what lies between, which may be so many times the tensor.
constexpr int64_t kReachFactorMax = 8;

// Dimensions of size 1 have strides that say nothing; here they are left out.
struct Layout {
  std::vector<int64_t> shape, strides;
};

Layout WithoutOnes(const StoredTensor& tensor) {
  Layout layout;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    if (tensor.shape[i] == 1) continue;
    layout.shape.push_back(tensor.shape[i]);
    layout.strides.push_back(tensor.strides[i]);
  }
  return layout;
}

bool IsTransposed(const Layout& layout) {
  return layout.shape.size() == 2 && layout.strides[0] == 1;
}

// One past the last element that the dimensions from `dim` on reach.
int64_t Reach(const Layout& layout, size_t dim) {
  int64_t reach = 1;
  for (; dim < layout.shape.size(); ++dim) reach += (layout.shape[dim] - 1) * layout.strides[dim];
  return reach;
}

// Rounds up; for b > 0.
int64_t CeilDiv(int64_t a, int64_t b) { return a <= 0 ? 0 : (a + b - 1) / b; }

}  // namespace

std::string ShapeString(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

std::optional<uint64_t> ElementBits(std::string_view dtype) {
  for (const ElementType& type : kElementTypes) {
    if (type.name == dtype) return type.bits;
  }
  return std::nullopt;
}

std::optional<uint64_t> TensorBytes(std::span<const int64_t> shape, uint64_t bits) {
  // A tensor with a dimension of 0 is empty however large the others are.
  uint64_t count = 1;
  bool is_empty = false, overflow = false;
  for (const int64_t dim : shape) {
    if (dim < 0) return std::nullopt;
    is_empty |= dim == 0;
    overflow |= __builtin_mul_overflow(count, static_cast<uint64_t>(dim), &count);
  }
  if (is_empty) return 0;
  if (overflow || __builtin_mul_overflow(count, bits, &count) || count % 8 != 0) {
    return std::nullopt;
  }
  return count / 8;
}

bool IsRowMajor(std::span<const int64_t> shape, std::span<const int64_t> strides) {
  int64_t expected = 1;
  for (size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 0) return true;
    if (shape[i] == 1) continue;
    if (strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

absl::Status CheckNoLfsPointer(const File& file) {
  constexpr std::string_view kPointer = "version https://git-lfs";
  std::array<char, kPointer.size()> start{};
  if (file.size_bytes() < start.size()) return absl::OkStatus();
  BERTRAND_RETURN_IF_ERROR(file.ReadAt(0, start.data(), start.size()));
  if (std::string_view(start.data(), start.size()) != kPointer) return absl::OkStatus();
  return InvalidArgument("is a Git LFS pointer of " + std::to_string(file.size_bytes()) +
                         " bytes, not the file itself: fetch it with `git lfs pull`");
}

int64_t StoredTensor::num_elements() const {
  int64_t count = 1;
  for (const int64_t dim : shape) {
    // Only of a tensor without elements can the other dimensions be beyond reason.
    if (dim == 0) return 0;
  }
  for (const int64_t dim : shape) count *= dim;
  return count;
}

std::string StoredTensor::ToString() const { return dtype + ShapeString(shape); }

TensorFile::TensorFile(File file, std::vector<StoredTensor> tensors)
    : file_(std::move(file)), tensors_(std::move(tensors)) {
  std::sort(tensors_.begin(), tensors_.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
}

const StoredTensor* TensorFile::Find(std::string_view name) const {
  const auto it = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const StoredTensor& tensor, std::string_view key) { return tensor.name < key; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

absl::Status TensorFile::CheckReadable(const StoredTensor& tensor) const {
  const std::string what = path() + ": tensor \"" + tensor.name + "\" is " + tensor.ToString();
  if (tensor.dtype != "F32" && tensor.dtype != "F16" && tensor.dtype != "BF16" &&
      tensor.dtype != "F64") {
    return InvalidArgument(what + ", expected F32, F16, BF16 or F64");
  }
  if (tensor.strides.empty()) return absl::OkStatus();
  const Layout layout = WithoutOnes(tensor);
  if (layout.shape.empty() || layout.strides.back() == 1 || IsTransposed(layout) ||
      Reach(layout, 0) / kReachFactorMax <= tensor.num_elements()) {
    return absl::OkStatus();
  }
  return InvalidArgument(what + " with strides " + ShapeString(tensor.strides) +
                         ", which is not read: save it contiguous");
}

absl::Status TensorFile::Read(const StoredTensor& tensor, int64_t first,
                              std::span<float> out) const {
  const auto count = static_cast<int64_t>(out.size());
  BERTRAND_CHECK(first >= 0 && first <= tensor.num_elements() - count,
                 "elements of " + tensor.name);
  BERTRAND_RETURN_IF_ERROR(CheckReadable(tensor));
  if (tensor.strides.empty()) {
    std::vector<char> scratch;
    const uint64_t element_bytes = *ElementBits(tensor.dtype) / 8;
    return ReadRun(tensor, tensor.begin + static_cast<uint64_t>(first) * element_bytes, out,
                   &scratch);
  }
  const Layout layout = WithoutOnes(tensor);
  if (layout.shape.empty() || layout.strides.back() == 1) return ReadRows(tensor, first, out);
  return IsTransposed(layout) ? ReadColumns(tensor, first, out) : ReadGaps(tensor, first, out);
}

// The last dimension has no gaps: a run for each row.
absl::Status TensorFile::ReadRows(const StoredTensor& tensor, int64_t first,
                                  std::span<float> out) const {
  const Layout layout = WithoutOnes(tensor);
  const uint64_t element_bytes = *ElementBits(tensor.dtype) / 8;
  const int64_t columns = layout.shape.empty() ? 1 : layout.shape.back();
  std::vector<char> scratch;
  while (!out.empty()) {
    int64_t row = first / columns;
    const int64_t column = first % columns;
    int64_t element = column;
    for (size_t dim = layout.shape.size(); dim-- > 1;) {
      element += row % layout.shape[dim - 1] * layout.strides[dim - 1];
      row /= layout.shape[dim - 1];
    }
    const auto size = std::min<size_t>(out.size(), static_cast<size_t>(columns - column));
    BERTRAND_RETURN_IF_ERROR(ReadRun(tensor,
                                     tensor.begin + static_cast<uint64_t>(element) * element_bytes,
                                     out.first(size), &scratch));
    first += static_cast<int64_t>(size);
    out = out.subspan(size);
  }
  return absl::OkStatus();
}

// A matrix stored transposed: of each column the rows that are wanted are one run.
absl::Status TensorFile::ReadColumns(const StoredTensor& tensor, int64_t first,
                                     std::span<float> out) const {
  const Layout layout = WithoutOnes(tensor);
  const uint64_t element_bytes = *ElementBits(tensor.dtype) / 8;
  const int64_t columns = layout.shape[1];
  const int64_t last = first + static_cast<int64_t>(out.size());
  const int64_t num_rows = CeilDiv(last, columns) - first / columns;
  std::vector<float> block(static_cast<size_t>(num_rows * kColumnsEach));
  std::array<int64_t, kColumnsEach> first_row{};
  std::vector<char> scratch;
  for (int64_t begin = 0; begin < columns; begin += kColumnsEach) {
    const int64_t width = std::min(columns - begin, kColumnsEach);
    for (int64_t i = 0; i < width; ++i) {
      const int64_t row = CeilDiv(first - begin - i, columns);
      const int64_t row_end = CeilDiv(last - begin - i, columns);
      first_row[static_cast<size_t>(i)] = row;
      if (row_end <= row) continue;
      const std::span<float> run = std::span(block).subspan(static_cast<size_t>(i * num_rows),
                                                            static_cast<size_t>(row_end - row));
      const auto element = static_cast<uint64_t>(row + (begin + i) * layout.strides[1]);
      BERTRAND_RETURN_IF_ERROR(
          ReadRun(tensor, tensor.begin + element * element_bytes, run, &scratch));
    }
    for (int64_t row = first / columns; row * columns < last; ++row) {
      const int64_t position = row * columns + begin - first;  // in `out`
      for (int64_t i = std::max<int64_t>(0, -position); i < width; ++i) {
        if (position + i >= last - first) break;
        out[static_cast<size_t>(position + i)] =
            block[static_cast<size_t>(i * num_rows + row - first_row[static_cast<size_t>(i)])];
      }
    }
  }
  return absl::OkStatus();
}

// All that lies between the first and the last of the leading dimension's parts that are wanted.
absl::Status TensorFile::ReadGaps(const StoredTensor& tensor, int64_t first,
                                  std::span<float> out) const {
  if (out.empty()) return absl::OkStatus();
  const Layout layout = WithoutOnes(tensor);
  const int64_t part_size = tensor.num_elements() / layout.shape[0];
  const int64_t last = first + static_cast<int64_t>(out.size()) - 1;
  const int64_t begin = first / part_size * layout.strides[0];
  const int64_t end = last / part_size * layout.strides[0] + Reach(layout, 1);
  const uint64_t element_bytes = *ElementBits(tensor.dtype) / 8;
  std::vector<float> all(static_cast<size_t>(end - begin));
  std::vector<char> scratch;
  BERTRAND_RETURN_IF_ERROR(
      ReadRun(tensor, tensor.begin + static_cast<uint64_t>(begin) * element_bytes, all, &scratch));
  for (int64_t i = first; i <= last; ++i) {
    int64_t element = -begin, rest = i;
    for (size_t dim = layout.shape.size(); dim-- > 0;) {
      element += rest % layout.shape[dim] * layout.strides[dim];
      rest /= layout.shape[dim];
    }
    out[static_cast<size_t>(i - first)] = all[static_cast<size_t>(element)];
  }
  return absl::OkStatus();
}

absl::Status TensorFile::ReadRun(const StoredTensor& tensor, uint64_t offset, std::span<float> out,
                                 std::vector<char>* scratch) const {
  if (tensor.dtype == "F32") return file_.ReadAt(offset, out.data(), out.size_bytes());
  const size_t element_bytes = *ElementBits(tensor.dtype) / 8;
  const size_t each = std::min(out.size(), kChunkBytes / element_bytes);
  if (scratch->size() < each * element_bytes) scratch->resize(each * element_bytes);
  while (!out.empty()) {
    const size_t size = std::min(each, out.size());
    BERTRAND_RETURN_IF_ERROR(file_.ReadAt(offset, scratch->data(), size * element_bytes));
    if (tensor.dtype == "F16") {
      Convert<uint16_t, FloatFromHalf>(scratch->data(), out.first(size));
    } else if (tensor.dtype == "BF16") {
      Convert<uint16_t, FloatFromBfloat>(scratch->data(), out.first(size));
    } else {
      Convert<double, FloatFromDouble>(scratch->data(), out.first(size));
    }
    offset += size * element_bytes;
    out = out.subspan(size);
  }
  return absl::OkStatus();
}

}  // namespace bertrand

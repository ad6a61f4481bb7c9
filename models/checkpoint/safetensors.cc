#include "models/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "kernels/status.h"
#include "models/checkpoint/json.h"

namespace bertrand {
namespace {

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
static_assert(std::endian::native == std::endian::little);

std::optional<uint64_t> BitsOf(std::string_view dtype) {
  for (const ElementType& type : kElementTypes) {
    if (type.name == dtype) return type.bits;
  }
  return std::nullopt;
}

// Exact for every value, subnormals too: the exponent is moved by a multiplication, whose result is
// always representable. NaN keeps its payload.
float FloatFromHalf(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fffu) << 13;
  const uint32_t bits = magnitude >= 0x0f800000u
                            ? magnitude | 0x7f800000u
                            : std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  return std::bit_cast<float>(bits | sign);
}

float FloatFromBfloat(uint16_t value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value) << 16);
}

// The bytes of `shape` in a type of `bits`; empty when a dimension is negative, the product does
// not fit, or is no whole number of bytes.
std::optional<uint64_t> BytesOf(const std::vector<int64_t>& shape, uint64_t bits) {
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

constexpr size_t kShapeRankMax = 16;

absl::StatusOr<StoredTensor> ParseTensor(const std::string& name, const Json& entry,
                                         uint64_t data_begin, uint64_t data_bytes) {
  StoredTensor tensor;
  tensor.name = name;
  const Json* dtype = entry.Find("dtype");
  const Json* shape = entry.Find("shape");
  const Json* offsets = entry.Find("data_offsets");
  if (dtype == nullptr || dtype->as_string() == nullptr || shape == nullptr || !shape->is_array() ||
      offsets == nullptr || !offsets->is_array() || offsets->elements().size() != 2) {
    return InvalidArgument(
        "expected an object with dtype (a string), shape (an array) and "
        "data_offsets (two integers)");
  }
  tensor.dtype = *dtype->as_string();
  const std::optional<uint64_t> bits = BitsOf(tensor.dtype);
  if (!bits) return InvalidArgument("unknown dtype \"" + tensor.dtype + "\"");
  if (shape->elements().size() > kShapeRankMax) {
    return InvalidArgument("shape has " + std::to_string(shape->elements().size()) +
                           " dimensions, expected at most " + std::to_string(kShapeRankMax));
  }
  for (const Json& dim : shape->elements()) {
    const std::optional<int64_t> value = dim.as_int();
    if (!value) return InvalidArgument("shape has a value that is no integer");
    tensor.shape.push_back(*value);
  }
  const std::optional<int64_t> begin = offsets->elements()[0].as_int();
  const std::optional<int64_t> end = offsets->elements()[1].as_int();
  if (!begin || !end || *begin < 0 || *end < *begin) {
    return InvalidArgument("data_offsets are no two integers with 0 <= begin <= end");
  }
  if (static_cast<uint64_t>(*end) > data_bytes) {
    return InvalidArgument("data_offsets end at " + std::to_string(*end) + ", the file has " +
                           std::to_string(data_bytes) + " bytes of data: it is truncated");
  }
  const std::optional<uint64_t> bytes = BytesOf(tensor.shape, *bits);
  if (!bytes || *bytes != static_cast<uint64_t>(*end - *begin)) {
    return InvalidArgument(tensor.ToString() + " takes " +
                           (bytes ? std::to_string(*bytes) : "too many") +
                           " bytes, data_offsets give " + std::to_string(*end - *begin));
  }
  tensor.begin = data_begin + static_cast<uint64_t>(*begin);
  tensor.end = data_begin + static_cast<uint64_t>(*end);
  return tensor;
}

absl::Status CheckMetadata(const Json& metadata) {
  if (!metadata.is_object()) {
    return InvalidArgument(std::string("__metadata__ is ") + metadata.KindName() +
                           ", expected an object");
  }
  for (const auto& [key, value] : metadata.members()) {
    if (!value.is_string()) {
      return InvalidArgument("__metadata__: \"" + key + "\" is " + value.KindName() +
                             ", expected a string");
    }
  }
  return absl::OkStatus();
}

// The tensors, which are sorted by offset here, must follow one another from the first byte to the
// last.
absl::Status CheckCoverage(std::vector<StoredTensor>& tensors, uint64_t data_begin,
                           uint64_t file_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t expected = data_begin;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.begin != expected) {
      return InvalidArgument("tensor \"" + tensor.name + "\" begins at byte " +
                             std::to_string(tensor.begin - data_begin) + " of the data, expected " +
                             std::to_string(expected - data_begin) +
                             (tensor.begin < expected ? ": it overlaps another" : ": a hole"));
    }
    expected = tensor.end;
  }
  if (expected != file_bytes) {
    return InvalidArgument("tensors end at byte " + std::to_string(expected) + ", the file has " +
                           std::to_string(file_bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> ReadHeaderLength(const File& file) {
  const uint64_t file_bytes = file.size_bytes();
  std::array<char, 64> start{};
  const size_t start_bytes = std::min<uint64_t>(start.size(), file_bytes);
  BERTRAND_RETURN_IF_ERROR(file.ReadAt(0, start.data(), start_bytes));
  if (std::string_view(start.data(), start_bytes).starts_with("version https://git-lfs")) {
    return InvalidArgument("is a Git LFS pointer of " + std::to_string(file_bytes) +
                           " bytes, not the file itself: fetch it with `git lfs pull`");
  }
  if (file_bytes < 8) {
    return InvalidArgument("has " + std::to_string(file_bytes) +
                           " bytes, expected at least 8: it is truncated or no safetensors file");
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, start.data(), sizeof header_bytes);
  if (header_bytes > SafetensorsFile::kHeaderBytesMax) {
    return InvalidArgument("gives a header of " + std::to_string(header_bytes) +
                           " bytes, expected at most " +
                           std::to_string(SafetensorsFile::kHeaderBytesMax) +
                           ": it is no safetensors file or damaged");
  }
  if (header_bytes > file_bytes - 8) {
    return InvalidArgument("has " + std::to_string(file_bytes) +
                           " bytes, its header alone ends at " + std::to_string(header_bytes + 8) +
                           ": it is truncated");
  }
  return header_bytes;
}

absl::StatusOr<std::vector<StoredTensor>> ReadTensors(const File& file) {
  BERTRAND_ASSIGN_OR_RETURN(const uint64_t header_bytes, ReadHeaderLength(file));
  std::string text(header_bytes, '\0');
  BERTRAND_RETURN_IF_ERROR(file.ReadAt(8, text.data(), text.size()));
  if (!text.starts_with('{')) return InvalidArgument("has a header that does not begin with '{'");
  BERTRAND_ASSIGN_OR_RETURN(const Json header, Json::Parse(text, "header"));
  const uint64_t data_begin = 8 + header_bytes;
  std::vector<StoredTensor> tensors;
  tensors.reserve(header.members().size());
  for (const auto& [name, entry] : header.members()) {
    if (name == "__metadata__") {
      BERTRAND_RETURN_IF_ERROR(CheckMetadata(entry));
      continue;
    }
    absl::StatusOr<StoredTensor> tensor =
        ParseTensor(name, entry, data_begin, file.size_bytes() - data_begin);
    if (!tensor.ok()) return Annotate(tensor.status(), "tensor \"" + name + "\"");
    tensors.push_back(*std::move(tensor));
  }
  BERTRAND_RETURN_IF_ERROR(CheckCoverage(tensors, data_begin, file.size_bytes()));
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  return tensors;
}

}  // namespace

std::string ShapeString(std::span<const int64_t> shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(shape[i]);
  }
  return text + "]";
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

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  BERTRAND_ASSIGN_OR_RETURN(File file, File::Open(path));
  absl::StatusOr<std::vector<StoredTensor>> tensors = ReadTensors(file);
  if (!tensors.ok()) return Annotate(tensors.status(), path);
  return SafetensorsFile(std::move(file), *std::move(tensors));
}

const StoredTensor* SafetensorsFile::Find(std::string_view name) const {
  const auto it = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const StoredTensor& tensor, std::string_view key) { return tensor.name < key; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

absl::Status SafetensorsFile::Read(const StoredTensor& tensor, int64_t first,
                                   std::span<float> out) const {
  const auto count = static_cast<int64_t>(out.size());
  BERTRAND_CHECK(first >= 0 && first <= tensor.num_elements() - count,
                 "elements of " + tensor.name);
  if (tensor.dtype == "F32") {
    return file_.ReadAt(tensor.begin + static_cast<uint64_t>(first) * 4, out.data(),
                        out.size_bytes());
  }
  if (tensor.dtype != "F16" && tensor.dtype != "BF16") {
    return InvalidArgument(path() + ": tensor \"" + tensor.name + "\" is " + tensor.ToString() +
                           ", expected F32, F16 or BF16");
  }
  const bool is_half = tensor.dtype == "F16";
  std::vector<uint16_t> chunk(std::min<size_t>(out.size(), 256 * 1024));
  uint64_t offset = tensor.begin + static_cast<uint64_t>(first) * 2;
  for (size_t done = 0; done < out.size(); done += chunk.size()) {
    const size_t size = std::min(chunk.size(), out.size() - done);
    BERTRAND_RETURN_IF_ERROR(file_.ReadAt(offset, chunk.data(), size * 2));
    offset += size * 2;
    float* to = out.data() + done;
    if (is_half) {
      std::transform(chunk.begin(), chunk.begin() + size, to, FloatFromHalf);
    } else {
      std::transform(chunk.begin(), chunk.begin() + size, to, FloatFromBfloat);
    }
  }
  return absl::OkStatus();
}

}  // namespace bertrand

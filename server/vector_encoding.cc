#include "server/vector_encoding.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

namespace bertrand {
namespace {

double Length(std::span<const float> row) {
  double sum = 0;
  for (const float value : row) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

template <typename T>
void AppendBytes(std::string* bytes, std::span<const T> values) {
  static_assert(std::endian::native == std::endian::little, "the wire is little-endian");
  bytes->append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
}

void AppendInt8(std::span<const float> row, std::string* bytes, std::vector<float>* scales) {
  float largest = 0;
  for (const float value : row) largest = std::max(largest, std::abs(value));
  const float scale = largest / 127;
  scales->push_back(scale);
  for (const float value : row) {
    // Clamped, since a subnormal scale rounds coarsely.
    const float scaled = scale > 0 ? std::nearbyint(value / scale) : 0;
    bytes->push_back(static_cast<char>(static_cast<int8_t>(std::clamp(scaled, -127.f, 127.f))));
  }
}

void AppendBits(std::span<const float> row, std::string* bytes) {
  for (size_t i = 0; i < row.size(); i += 8) {
    uint8_t byte = 0;
    for (size_t bit = 0; bit < 8 && i + bit < row.size(); ++bit) {
      if (row[i + bit] > 0) byte |= static_cast<uint8_t>(0x80 >> bit);
    }
    bytes->push_back(static_cast<char>(byte));
  }
}

}  // namespace

size_t EncodedRowBytes(VectorType type, size_t dimensions) {
  switch (type) {
    case VectorType::kFloat32:
      return dimensions * 4;
    case VectorType::kFloat16:
    case VectorType::kBFloat16:
      return dimensions * 2;
    case VectorType::kInt8:
      return dimensions;
    case VectorType::kBinary:
      return (dimensions + 7) / 8;
  }
  return 0;
}

uint16_t ToFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return sign | 0x7E00;   // NaN
  if (magnitude >= 0x477FF000) return sign | 0x7C00;  // rounds to 65536 or more
  if (magnitude < 0x38800000) {
    // Subnormal: adding 0.5 puts the unit of 2^-24 at the last bit of the sum, which is rounded to
    // nearest even by the addition itself.
    const float sum = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | static_cast<uint16_t>(std::bit_cast<uint32_t>(sum) - 0x3F000000);
  }
  const uint32_t odd = (magnitude >> 13) & 1;
  return sign | static_cast<uint16_t>((magnitude - 0x38000000 + 0xFFF + odd) >> 13);
}

uint16_t ToBFloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

void AppendRow(VectorType type, std::span<const float> row, std::string* bytes,
               std::vector<float>* scales) {
  switch (type) {
    case VectorType::kFloat32:
      return AppendBytes(bytes, row);
    case VectorType::kInt8:
      return AppendInt8(row, bytes, scales);
    case VectorType::kBinary:
      return AppendBits(row, bytes);
    case VectorType::kFloat16:
    case VectorType::kBFloat16:
      break;
  }
  const size_t begin = bytes->size();
  bytes->resize(begin + row.size() * 2);
  char* out = bytes->data() + begin;
  for (const float value : row) {
    const uint16_t half = type == VectorType::kFloat16 ? ToFloat16(value) : ToBFloat16(value);
    std::memcpy(out, &half, 2);
    out += 2;
  }
}

std::span<const float> CutRow(std::span<float> row, size_t dimensions, bool normalize) {
  row = row.first(dimensions);
  if (!normalize) return row;
  const auto inverse = static_cast<float>(1 / std::max(Length(row), 1e-12));
  for (float& value : row) value *= inverse;
  return row;
}

}  // namespace bertrand

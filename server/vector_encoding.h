#pragma once

// Vectors as the answer carries them: float32 rows to f32, f16, bf16, int8 or bits, little-endian.
// Pure functions.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace bertrand {

// bertrand.v1.DataType, by number.
enum class VectorType : uint8_t { kFloat32 = 1, kFloat16, kBFloat16, kInt8, kBinary };

// Bytes of one encoded row.
size_t EncodedRowBytes(VectorType type, size_t dimensions);

// Rounds to nearest, ties to even; overflow gives infinity; NaN stays NaN.
uint16_t ToFloat16(float value);
uint16_t ToBFloat16(float value);

// Appends one row to `bytes`. int8: symmetric, the largest magnitude becomes 127, and its scale
// (value = scale * int8; 0 for a zero row) is appended to `scales`. Binary: 1 where the value is
// above 0, most significant bit first, the last byte filled with zeros.
void AppendRow(VectorType type, std::span<const float> row, std::string* bytes,
               std::vector<float>* scales);

// The first `dimensions` values of a row, brought to length 1 where asked; a zero vector stays
// zero. `row` is changed in place; the result is a part of it.
std::span<const float> CutRow(std::span<float> row, size_t dimensions, bool normalize);

}  // namespace bertrand

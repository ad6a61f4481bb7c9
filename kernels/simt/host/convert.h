#pragma once

// 16-bit and 8-bit floats on any processor, by integer arithmetic: round to nearest even,
// subnormals kept. Pure functions.

#include <bit>
#include <cstdint>

namespace bertrand::simt::emulator {

inline float HalfToFloat(uint16_t half) {
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fffu) << 13;
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  // Scaling by 2^112 puts the exponent right, subnormals included.
  uint32_t bits = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) * 0x1p112f);
  if (magnitude >= 0x0f800000u) bits = magnitude | 0x7f800000u;  // infinity, NaN
  return std::bit_cast<float>(bits | sign);
}

inline uint16_t FloatToHalf(float value) {
  const uint32_t wide = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (wide >> 16) & 0x8000u;
  uint32_t magnitude = wide & 0x7fffffffu;
  if (magnitude >= 0x47800000u) {  // 65536 and more, infinity, NaN
    return static_cast<uint16_t>(sign | (magnitude > 0x7f800000u ? 0x7fffu : 0x7c00u));
  }
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 leaves multiples of 2^-24 in the low bits
    magnitude = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    return static_cast<uint16_t>(sign | magnitude);
  }
  magnitude += 0xc8000fffu + ((magnitude >> 13) & 1u);  // rebias by -112, round
  return static_cast<uint16_t>(sign | (magnitude >> 13));
}

inline float BFloat16ToFloat(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}

inline uint16_t FloatToBFloat16(float value) {
  const uint32_t wide = std::bit_cast<uint32_t>(value);
  if ((wide & 0x7fffffffu) > 0x7f800000u) return 0x7fffu;
  return static_cast<uint16_t>((wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16);
}

// e4m3: 4 bits of exponent (bias 7), 3 of mantissa, no infinity, 0x7f is NaN.
inline float Float8ToFloat(uint8_t value) {
  const uint32_t magnitude = value & 0x7fu;
  const uint32_t sign = static_cast<uint32_t>(value & 0x80u) << 24;
  if (magnitude == 0x7f) return std::bit_cast<float>(sign | 0x7fc00000u);
  const float scaled = std::bit_cast<float>(magnitude << 20) * 0x1p120f;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | sign);
}

// Beyond 448: 448.
inline uint8_t FloatToFloat8(float value) {
  const uint32_t wide = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (wide >> 24) & 0x80u;
  uint32_t magnitude = wide & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint8_t>(sign | 0x7fu);
  if (magnitude > 0x43e00000u) magnitude = 0x43e00000u;
  if (magnitude < 0x3c800000u) {  // subnormal: adding 2^14 leaves multiples of 2^-9
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x46800000u));
  }
  magnitude += 0x7ffffu + ((magnitude >> 20) & 1u) - (120u << 23);
  return static_cast<uint8_t>(sign | (magnitude >> 20));
}

}  // namespace bertrand::simt::emulator

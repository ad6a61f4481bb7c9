#pragma once

// Which kernel computes a GEMM of which shape, and the file in which choices that were timed once
// are kept. Plain data without a device; any thread, an object one at a time.

#include <absl/status/status.h>

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/backend.h"

namespace bertrand::gpu {

// Shapes that share a choice. Rows are a bucket: GemmBucket(m).
struct GemmKey {
  int64_t m = 0, n = 0, k = 0;
  DType dtype = DType::kFloat16;
  Activation activation = Activation::kNone;
  bool bias = false, residual = false;
  bool float8 = false;  // x and weight are; dtype is that of the others
  auto operator<=>(const GemmKey&) const = default;
};

// 16, 32, 64, then eight steps from one power of two to the next (at most 12.5 % more rows), above
// 4096 two steps; never more than kMaxGemmBucket.
inline constexpr int64_t kMaxGemmBucket = 65536;
int64_t GemmBucket(int64_t m);

// cublasLtMatmulAlgo_t by its bytes, which are plain data; all zero: the library's own choice. For
// cuDNN an engine and its knobs (cudnn_plans.cc); never all zero.
using LibraryAlgorithm = std::array<uint64_t, 8>;

struct GemmChoice {
  enum class Kind : uint8_t {
    kSmall,    // small_gemm.h, with `tile` and `splits`
    kFloat,    // its fallback
    kLibrary,  // cuBLASLt, with bias_activation.h after it where its epilogues don't suffice
    kHopper,   // hopper_gemm.h, with `tile`: only where it was timed and found right
    kGraph,    // cuDNN's, graph_gemm.h, with `algorithm`: the same
  };
  Kind kind = Kind::kFloat;
  int tile = 0, splits = 1;
  LibraryAlgorithm algorithm{};
  float time_us = 0;  // as timed; 0: never
  bool operator==(const GemmChoice&) const = default;
};

// For logs: "512 x 3072 x 768 float16, bias, gelu" (m, n, k; "float8 to float16"), and "small_gemm
// 64x64, 2 splits, 9.1 us".
std::string ToString(const GemmKey& key);
std::string ToString(const GemmChoice& choice);
// "small_gemm".
std::string KindName(GemmChoice::Kind kind);

using GemmTable = std::map<GemmKey, GemmChoice>;

// What choices depend on besides the key: they are a miss on any other. A line of text each.
struct GemmTableOrigin {
  std::string device;   // "NVIDIA H100 80GB HBM3, 9.0, 132 multiprocessors"
  std::string library;  // "cuBLASLt 130101, cuDNN 92000"
  bool operator==(const GemmTableOrigin&) const = default;
};

// The file's text: a line for the version of its format and of our own kernels' tiles, the origin,
// a line for each choice, and a checksum of all that.
std::string FormatGemmTable(const GemmTableOrigin& origin, const GemmTable& table);

// Nothing when anything at all differs from what FormatGemmTable writes for this origin: damaged,
// cut off, of another device, library or version. The caller then times anew; nothing in the file
// is believed beyond that (indices are in range, and the library checks its own algorithms).
std::optional<GemmTable> ParseGemmTable(std::string_view text, const GemmTableOrigin& origin);

// Nothing when there is no such file or it does not parse.
std::optional<GemmTable> LoadGemmTable(const std::string& path, const GemmTableOrigin& origin);

// Writes a file beside it and renames that, so readers and other writers see a whole file. Makes
// the folder. Unavailable says what failed.
absl::Status SaveGemmTable(const std::string& path, const GemmTableOrigin& origin,
                           const GemmTable& table);

// A file's name for an origin: servers with different devices share a folder.
std::string GemmTableName(const GemmTableOrigin& origin);

}  // namespace bertrand::gpu

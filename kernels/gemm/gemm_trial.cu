#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "kernels/gemm/gemm_trial.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

// Exponent and mantissa of a type, for values made and read on the host in both halves.
struct Format {
  int exponent_bits, mantissa_bits;
  int bias() const { return (1 << (exponent_bits - 1)) - 1; }
};

Format FormatOf(DType dtype) {
  return dtype == DType::kFloat8     ? Format{4, 3}
         : dtype == DType::kFloat16  ? Format{5, 10}
         : dtype == DType::kBFloat16 ? Format{8, 7}
                                     : Format{8, 23};
}

// Below it e4m3's values are subnormal.
constexpr int kMinFloat8Exponent = -6;
// Tensor cores add up products of e4m3 in some 14 bits; over thousands of k errors of 2 % were seen
// (DeepSeek-V3's report, section 3.3.2).
constexpr double kFastAccumulation = 0.03;

float ToHostFloat(DType dtype, const char* bytes) {
  uint32_t bits = 0;
  for (size_t byte = 0; byte < SizeOf(dtype); ++byte) {
    bits |= static_cast<uint32_t>(static_cast<unsigned char>(bytes[byte])) << (8 * byte);
  }
  if (dtype == DType::kFloat32) return std::bit_cast<float>(bits);
  if (dtype == DType::kBFloat16) return std::bit_cast<float>(bits << 16);
  const int exponent = static_cast<int>(bits >> 10 & 31);
  const float mantissa = static_cast<float>(bits & 1023);
  const float magnitude = exponent == 31  ? (mantissa == 0 ? HUGE_VALF : std::nanf(""))
                          : exponent == 0 ? std::ldexp(mantissa, -24)
                                          : std::ldexp(1024 + mantissa, exponent - 25);
  return bits >> 15 != 0 ? -magnitude : magnitude;
}

}  // namespace

std::vector<char> RandomBits(DType dtype, size_t count, int exponent, uint64_t seed) {
  const Format format = FormatOf(dtype);
  const int width = format.exponent_bits + format.mantissa_bits + 1;
  std::vector<char> bytes(count * SizeOf(dtype));
  uint64_t state = seed * 2 + 1;
  for (size_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const uint64_t random = state >> 33;
    uint64_t bits = random & ((uint64_t{1} << format.mantissa_bits) - 1);
    bits |= static_cast<uint64_t>(exponent + format.bias()) << format.mantissa_bits;
    bits |= (random >> 30) << (width - 1);
    for (size_t byte = 0; byte < SizeOf(dtype); ++byte) {
      bytes[i * SizeOf(dtype) + byte] = static_cast<char>(bits >> (8 * byte));
    }
  }
  return bytes;
}

absl::StatusOr<std::vector<float>> DownloadFloats(const TensorView& view, simt::Stream& stream) {
  std::vector<char> bytes(view.size_bytes());
  BERTRAND_RETURN_IF_ERROR(stream.CopyToHost(bytes.data(), view.data(), bytes.size()));
  BERTRAND_RETURN_IF_ERROR(stream.Synchronize());
  std::vector<float> floats(static_cast<size_t>(view.num_elements()));
  for (size_t i = 0; i < floats.size(); ++i) {
    floats[i] = ToHostFloat(view.dtype(), bytes.data() + i * SizeOf(view.dtype()));
  }
  return floats;
}

absl::StatusOr<GemmTrial> GemmTrial::Create(const GemmKey& key, size_t workspace_bytes,
                                            simt::Stream& stream) {
  GemmTrial trial;
  const int64_t shapes[5][2] = {
      {key.m, key.k}, {key.n, key.k}, {1, key.n}, {key.m, key.n}, {key.m, key.n}};
  // Sums of k products of about 1.5 x 1.5, scaled to a few units: activations in their bends.
  const int exponent = -static_cast<int>(std::ceil(std::log2(std::sqrt(1.0 * key.k))));
  const int weight_exponent = key.float8 ? std::max(exponent, kMinFloat8Exponent) : exponent;
  TensorView views[5];
  for (int i = 0; i < 5; ++i) {
    const auto count = static_cast<size_t>(shapes[i][0] * shapes[i][1]);
    const DType dtype = key.float8 && i < 2 ? DType::kFloat8 : key.dtype;
    const std::vector<char> bytes =
        RandomBits(dtype, count, i == 1 ? weight_exponent : 0, static_cast<uint64_t>(i) + 1);
    BERTRAND_ASSIGN_OR_RETURN(trial.memory_[i], stream.device().Allocate(bytes.size()));
    BERTRAND_RETURN_IF_ERROR(
        stream.CopyToDevice(trial.memory_[i].data(), bytes.data(), bytes.size()));
    BERTRAND_RETURN_IF_ERROR(stream.Synchronize());
    views[i] = {trial.memory_[i].data(), dtype, {shapes[i][0], shapes[i][1]}};
  }
  BERTRAND_ASSIGN_OR_RETURN(trial.workspace_, stream.device().Allocate(workspace_bytes));
  trial.params_ = {views[0], views[1], TensorView(), key.activation, TensorView(), views[4]};
  if (key.bias) trial.params_.bias = {trial.memory_[2].data(), key.dtype, {key.n}};
  if (key.residual) trial.params_.residual = views[3];
  if (key.float8) {
    const float scale = 1;
    BERTRAND_ASSIGN_OR_RETURN(trial.memory_[5], stream.device().Allocate(sizeof(scale)));
    BERTRAND_RETURN_IF_ERROR(stream.CopyToDevice(trial.memory_[5].data(), &scale, sizeof(scale)));
    BERTRAND_RETURN_IF_ERROR(stream.Synchronize());
    trial.params_.x_scale =
        trial.params_.weight_scale = {trial.memory_[5].data(), DType::kFloat32, {1}};
  }

  BERTRAND_RETURN_IF_ERROR(FloatGemm(trial.params_, stream));
  BERTRAND_ASSIGN_OR_RETURN(trial.expected_, DownloadFloats(trial.params_.y, stream));
  double largest = 0;
  for (const float value : trial.expected_) largest = std::max(largest, std::abs(double{value}));
  // 16-bit types: the sum's rounding, the result's, and the other result's, and one to spare.
  // float32: sums in another order, far below what TF32 would do (2^-11 of each product).
  const double unit = std::ldexp(1.0, -FormatOf(key.dtype).mantissa_bits - 1);
  const double roundings =
      key.dtype == DType::kFloat32 ? 8 + 4 * std::sqrt(static_cast<double>(key.k)) : 4;
  trial.tolerance_ =
      (roundings * unit + (key.float8 ? kFastAccumulation : 0)) * std::max(largest, 1.0);
  return trial;
}

absl::StatusOr<bool> GemmTrial::IsRight(simt::Stream& stream) {
  BERTRAND_ASSIGN_OR_RETURN(const std::vector<float> y, DownloadFloats(params_.y, stream));
  BERTRAND_RETURN_IF_ERROR(stream.Fill(params_.y.data(), 0xff, params_.y.size_bytes()));
  for (size_t i = 0; i < y.size(); ++i) {
    if (!(std::abs(double{y[i]} - expected_[i]) <= tolerance_)) return false;
  }
  return true;
}

}  // namespace bertrand::gpu::inline SIMT_TARGET

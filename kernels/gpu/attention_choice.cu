#include <algorithm>
#include <cmath>
#include <cstdio>
#include <utility>

#include "kernels/attention/hopper_attention.h"
#include "kernels/attention/hopper_tile.cuh"
#include "kernels/attention/launch_checks.h"
#include "kernels/gemm/gemm_trial.h"
#include "kernels/gemm/library_gemm.h"
#include "kernels/gpu/attention_choice.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

// From long to short.
constexpr int kTimedLengths[] = {512, 384, 256, 192, 128};
constexpr int kTimedTokens = 8192;

// e4m3: 4 bits of exponent with bias 7, 3 of mantissa; 127 is NaN.
float FromFloat8(uint8_t bits) {
  const int exponent = bits >> 3 & 15, mantissa = bits & 7;
  const float magnitude = (bits & 127) == 127 ? std::nanf("")
                          : exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(8.0f + static_cast<float>(mantissa), exponent - 10);
  return bits >> 7 != 0 ? -magnitude : magnitude;
}

constexpr float kFloat8Scale = 0.01f;

using Kernel = AttentionChoice::Kernel;

// Operands of a batch and both kernels' results.
class Trial {
 public:
  static absl::StatusOr<Trial> Create(DType dtype, int64_t heads, int64_t head_size,
                                      const std::vector<int>& lengths, simt::Stream& stream) {
    Trial trial;
    std::vector<int> cu_seqlens = {0};
    for (const int length : lengths) cu_seqlens.push_back(cu_seqlens.back() + length);
    const int64_t tokens = cu_seqlens.back();
    const auto values = static_cast<size_t>(3 * tokens * heads * head_size);
    const std::vector<char> bytes = RandomBits(dtype, values, 0, 7);
    BERTRAND_ASSIGN_OR_RETURN(trial.qkv_, Upload(bytes.data(), bytes.size(), stream));
    BERTRAND_ASSIGN_OR_RETURN(trial.cu_seqlens_,
                              Upload(cu_seqlens.data(), cu_seqlens.size() * sizeof(int), stream));
    BERTRAND_ASSIGN_OR_RETURN(trial.out_, stream.device().Allocate(values / 3 * SizeOf(dtype)));
    BERTRAND_ASSIGN_OR_RETURN(trial.scale_, Upload(&kFloat8Scale, sizeof(kFloat8Scale), stream));
    trial.params_.qkv = {trial.qkv_.data(), dtype, {tokens, 3, heads, head_size}};
    trial.params_.cu_seqlens = {
        trial.cu_seqlens_.data(), DType::kInt32, {static_cast<int64_t>(cu_seqlens.size())}};
    trial.params_.scale = 1 / std::sqrt(static_cast<float>(head_size));
    trial.params_.out = {trial.out_.data(), dtype, {tokens, heads, head_size}};
    return trial;
  }
  absl::Status Run(const Kernel& kernel, simt::Stream& stream) const {
    return kernel(params_, stream);
  }
  // The result, from memory that held NaN before.
  absl::StatusOr<std::vector<float>> Result(const Kernel& kernel, simt::Stream& stream) const {
    BERTRAND_RETURN_IF_ERROR(stream.Fill(out_.data(), 0xff, params_.out.size_bytes()));
    BERTRAND_RETURN_IF_ERROR(Run(kernel, stream));
    return DownloadFloats(params_.out, stream);
  }
  // The same by way of e4m3.
  absl::StatusOr<std::vector<float>> Float8Result(const Kernel& kernel,
                                                  simt::Stream& stream) const {
    AttentionParams params = params_;
    params.out = {
        out_.data(), DType::kFloat8, {params.out.dim(0), params.out.dim(1), params.out.dim(2)}};
    params.out_scale = {scale_.data(), DType::kFloat32, {1}};
    std::vector<uint8_t> bits(params.out.size_bytes());
    BERTRAND_RETURN_IF_ERROR(stream.Fill(out_.data(), 0xff, bits.size()));
    BERTRAND_RETURN_IF_ERROR(kernel(params, stream));
    BERTRAND_RETURN_IF_ERROR(stream.CopyToHost(bits.data(), out_.data(), bits.size()));
    BERTRAND_RETURN_IF_ERROR(stream.Synchronize());
    std::vector<float> floats(bits.size());
    for (size_t i = 0; i < bits.size(); ++i) floats[i] = kFloat8Scale * FromFloat8(bits[i]);
    return floats;
  }

 private:
  static absl::StatusOr<simt::Memory> Upload(const void* host, size_t size_bytes,
                                             simt::Stream& stream) {
    BERTRAND_ASSIGN_OR_RETURN(simt::Memory memory, stream.device().Allocate(size_bytes));
    BERTRAND_RETURN_IF_ERROR(stream.CopyToDevice(memory.data(), host, size_bytes));
    BERTRAND_RETURN_IF_ERROR(stream.Synchronize());
    return memory;
  }

  simt::Memory qkv_, cu_seqlens_, out_, scale_;
  AttentionParams params_;
};

// On a batch with every kind of tile: full and not, of one warpgroup's rows and two's, more than a
// ring of keys. Values are averages of numbers below 2: each kernel's weights are rounded to the
// type, one rounding of the largest value at most, and its result; one to spare.
absl::StatusOr<bool> Agree(const Kernel& other, DType dtype, int64_t heads, int64_t head_size,
                           simt::Stream& stream) {
  const std::vector<int> lengths = {1, 63, 64, 0, 65, 127, 128, 129, 384, 300, 650, 17};
  BERTRAND_ASSIGN_OR_RETURN(const Trial trial,
                            Trial::Create(dtype, heads, head_size, lengths, stream));
  BERTRAND_ASSIGN_OR_RETURN(const std::vector<float> plain, trial.Result(Attention, stream));
  BERTRAND_ASSIGN_OR_RETURN(const std::vector<float> hopper, trial.Result(other, stream));
  const double unit = dtype == DType::kFloat16 ? 0x1p-11 : 0x1p-8;
  for (size_t i = 0; i < plain.size(); ++i) {
    if (!(std::abs(double{plain[i]} - hopper[i]) <= 5 * 2 * unit)) return false;
  }
  // In e4m3 a step more, of either.
  BERTRAND_ASSIGN_OR_RETURN(const std::vector<float> plain8, trial.Float8Result(Attention, stream));
  BERTRAND_ASSIGN_OR_RETURN(const std::vector<float> hopper8, trial.Float8Result(other, stream));
  for (size_t i = 0; i < plain8.size(); ++i) {
    const double step = std::max({std::abs(plain8[i]), std::abs(hopper8[i]), 1e-3f}) / 8;
    if (!(std::abs(double{plain8[i]} - hopper8[i]) <= 5 * 2 * unit + step)) return false;
  }
  return true;
}

std::string Times(int length, double hopper_us, double plain_us) {
  char text[80];
  std::snprintf(text, sizeof(text), "%d: %.1f us against %.1f", length, hopper_us, plain_us);
  return text;
}

}  // namespace

AttentionChoice::AttentionChoice(Measure measure, Kernel hopper)
    : measure_(std::move(measure)), hopper_(hopper ? std::move(hopper) : HopperAttention) {}

absl::Status AttentionChoice::Run(const AttentionParams& params, simt::Stream& stream) const {
  BERTRAND_RETURN_IF_ERROR(CheckAttention("Attention", params));
  if (UsesHopper(params, stream.device().info())) return hopper_(params, stream);
  return Attention(params, stream);
}

bool AttentionChoice::UsesHopper(const AttentionParams& params,
                                 const simt::DeviceInfo& device) const {
  if (!HopperAttentionSupports(device, params)) return false;
  const int64_t tokens = params.qkv.dim(0), sequences = params.cu_seqlens.dim(0) - 1;
  const int64_t heads = params.qkv.dim(2);
  const MutexLock lock(mutex_);
  const Verdict& verdict = kinds_[{params.qkv.dtype(), heads, params.qkv.dim(3)}];
  return tokens / kHopperAttentionRows * heads >= device.multiprocessors &&
         (sequences == 0 || tokens / sequences >= verdict.shortest_mean);
}

absl::StatusOr<std::string> AttentionChoice::Try(const Kind& kind, Verdict& verdict,
                                                 simt::Stream& stream) const {
  const std::string name = "attention " + std::to_string(kind.heads) + " heads of " +
                           std::to_string(kind.head_size) + " " + Name(kind.dtype) + ": ";
  BERTRAND_ASSIGN_OR_RETURN(const bool agree,
                            Agree(hopper_, kind.dtype, kind.heads, kind.head_size, stream));
  if (!agree) return name + "attention; hopper_attention is wrong here";
  std::string times;
  for (const int length : kTimedLengths) {
    const std::vector<int> lengths(static_cast<size_t>(kTimedTokens / length), length);
    BERTRAND_ASSIGN_OR_RETURN(
        const Trial trial, Trial::Create(kind.dtype, kind.heads, kind.head_size, lengths, stream));
    double us[2] = {};
    for (const bool hopper : {false, true}) {
      const auto run = [&] { return trial.Run(hopper ? hopper_ : Attention, stream); };
      BERTRAND_ASSIGN_OR_RETURN(us[hopper ? 1 : 0], measure_ ? measure_(hopper, length, run)
                                                             : LibraryGemm::MeasureUs(stream, run));
    }
    times += (times.empty() ? " (" : ", ") + Times(length, us[1], us[0]);
    if (us[1] >= us[0]) break;
    verdict.shortest_mean = length;
  }
  return name +
         (verdict.shortest_mean == INT64_MAX
              ? std::string("attention")
              : "hopper_attention from " + std::to_string(verdict.shortest_mean) +
                    " tokens a text") +
         times + ")";
}

absl::StatusOr<std::vector<std::string>> AttentionChoice::Tune(
    std::chrono::steady_clock::time_point end, simt::Stream& stream) {
  std::vector<std::string> lines;
  if (!measure_ && !LibraryGemm::Measures()) return lines;
  std::map<Kind, Verdict> kinds;
  {
    const MutexLock lock(mutex_);
    kinds = kinds_;
  }
  for (auto& [kind, verdict] : kinds) {
    if (verdict.tried || std::chrono::steady_clock::now() >= end) continue;
    absl::StatusOr<std::string> line = Try(kind, verdict, stream);
    if (line.status().code() == absl::StatusCode::kInternal) return line.status();
    if (!line.ok()) {
      verdict.shortest_mean = INT64_MAX;
      line = "attention: hopper_attention was not tried: " + Message(line.status());
    }
    lines.push_back(*std::move(line));
    verdict.tried = true;
    const MutexLock lock(mutex_);
    kinds_[kind] = verdict;
  }
  return lines;
}

}  // namespace bertrand::gpu::inline SIMT_TARGET

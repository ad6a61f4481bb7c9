// The emulated device's LibraryGemm and GraphGemm. It is a kernel like others (so graphs record it,
// and its accesses are checked), but one thread a block does all the work, in loops that the
// compiler vectorises.

#include <algorithm>
#include <vector>

#include "kernels/bias_activation/make_epilogue.h"
#include "kernels/gemm/graph_gemm.h"
#include "kernels/gemm/library_gemm.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

// The first word of the graph's algorithms; the second tells them apart.
constexpr uint64_t kHostEngine = 9;

template <typename T>
void LoadRow(simt::Global<const T> from, int count, float* to) {
  constexpr int kVector = 16 / sizeof(T);
  if (count % kVector == 0) {
    for (int i = 0; i < count; i += kVector) {
      const auto values = ToFloat(simt::LoadVector<kVector>(from + i));
      for (int j = 0; j < kVector; ++j) to[i + j] = values[j];
    }
    return;
  }
  for (int i = 0; i < count; ++i) to[i] = simt::ToFloat(simt::Load(from + i));
}

// sums[4][8] = x[4][k] weight[k][columns at pitch]: eight vectors of four, which stay in registers.
void Multiply(const float* x, const float* weight, int k, int pitch, float (&sums)[4][8]) {
  float local[4][8] = {};
  for (int i = 0; i < k; ++i) {
    for (int row = 0; row < 4; ++row) {
      for (int column = 0; column < 8; ++column) {
        local[row][column] += x[row * k + i] * weight[i * pitch + column];
      }
    }
  }
  std::copy(&local[0][0], &local[0][0] + 32, &sums[0][0]);
}

// Factor: of x and weight, T but for FP8. kGraph: in GraphGemm's name.
template <typename T, typename Factor = T, bool kGraph = false>
struct HostGemmKernel {
  static constexpr const char* kName = kGraph ? "host_graph" : "host_gemm";
  static constexpr int kThreads = 32;
  static constexpr int kColumns = 64;

  struct Params {
    simt::Global<const Factor> x;                     // [m, k]
    simt::Global<const Factor> weight;                // [n, k]
    simt::Global<const float> x_scale, weight_scale;  // [1], optional
    Epilogue<T> epilogue;
    int m, n, k;
  };

  static void Run(const Params& p) {
    if (simt::ThreadIndex() != 0) return;
    const int first = simt::BlockIndex() * kColumns;
    const float scale = p.x_scale ? simt::Load(p.x_scale) * simt::Load(p.weight_scale) : 1.0f;
    std::vector<float> row(static_cast<size_t>(p.k)), x(static_cast<size_t>(p.k) * 4);
    std::vector<float> weight(static_cast<size_t>(p.k) * kColumns);  // transposed
    for (int column = 0; column < std::min(kColumns, p.n - first); ++column) {
      LoadRow(p.weight + int64_t{first + column} * p.k, p.k, row.data());
      for (int i = 0; i < p.k; ++i) weight[static_cast<size_t>(i * kColumns + column)] = row[i];
    }
    for (int m = 0; m < p.m; m += 4) {
      const int rows = std::min(4, p.m - m);
      for (int i = 0; i < rows; ++i) {
        LoadRow(p.x + int64_t{m + i} * p.k, p.k, x.data() + static_cast<size_t>(i) * p.k);
      }
      for (int column = 0; column < kColumns && first + column < p.n; column += 8) {
        float sums[4][8];
        Multiply(x.data(), weight.data() + column, p.k, kColumns, sums);
        for (int i = 0; i < rows; ++i) FinishRow(p, m + i, first + column, scale, sums[i]);
      }
    }
  }

  static void FinishRow(const Params& p, int row, int column, float scale, const float (&sums)[8]) {
    for (int i = 0; i < 8 && column + i < p.n; i += 4) {
      Finish<4>(p.epilogue, row, column + i,
                simt::Vector<float, 4>{{sums[i] * scale, sums[i + 1] * scale, sums[i + 2] * scale,
                                        sums[i + 3] * scale}});
    }
  }
};

template <typename T, typename Factor = T, bool kGraph = false>
absl::Status LaunchAs(const GemmParams& params, simt::Stream& stream) {
  using Kernel = HostGemmKernel<T, Factor, kGraph>;
  return simt::Launch<Kernel>(
      stream, {.grid = {simt::DivideUp(params.n(), Kernel::kColumns)}},
      {simt::AsGlobal<const Factor>(params.x), simt::AsGlobal<const Factor>(params.weight),
       simt::AsGlobal<const float>(params.x_scale),
       simt::AsGlobal<const float>(params.weight_scale), MakeEpilogue<T>(params), params.m(),
       params.n(), params.k()});
}

}  // namespace

struct LibraryGemm::Impl {};

LibraryGemm::LibraryGemm(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LibraryGemm::~LibraryGemm() = default;

absl::StatusOr<std::unique_ptr<LibraryGemm>> LibraryGemm::Create(const simt::Device&) {
  return std::unique_ptr<LibraryGemm>(new LibraryGemm(std::make_unique<Impl>()));
}

std::string LibraryGemm::name() const { return "the host"; }
size_t LibraryGemm::workspace_bytes() const { return 0; }

absl::StatusOr<std::vector<LibraryAlgorithm>> LibraryGemm::Candidates(const GemmParams&,
                                                                      int) const {
  return std::vector<LibraryAlgorithm>(1);
}

bool LibraryGemm::Takes(const GemmParams&, const LibraryAlgorithm& algorithm) const {
  return algorithm == LibraryAlgorithm{};
}

absl::Status LibraryGemm::Run(const GemmParams& params, const LibraryAlgorithm&, void*,
                              simt::Stream& stream) const {
  BERTRAND_CHECK(LibraryFuses(params), "the caller splits what cuBLASLt would not fuse");
  if (params.float8()) {
    return params.y.dtype() == DType::kFloat16
               ? LaunchAs<simt::Half, simt::Float8>(params, stream)
               : LaunchAs<simt::BFloat16, simt::Float8>(params, stream);
  }
  switch (params.x.dtype()) {
    case DType::kFloat16:
      return LaunchAs<simt::Half>(params, stream);
    case DType::kBFloat16:
      return LaunchAs<simt::BFloat16>(params, stream);
    default:
      return LaunchAs<float>(params, stream);
  }
}

bool LibraryGemm::Measures() { return false; }

absl::StatusOr<double> LibraryGemm::MeasureUs(simt::Stream&, const std::function<absl::Status()>&) {
  return Unimplemented("an emulated device has no time");
}

struct GraphGemm::Impl {};

GraphGemm::GraphGemm(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GraphGemm::~GraphGemm() = default;

absl::StatusOr<std::unique_ptr<GraphGemm>> GraphGemm::Create(const simt::Device&, size_t) {
  return std::unique_ptr<GraphGemm>(new GraphGemm(std::make_unique<Impl>()));
}

std::string GraphGemm::name() const { return "the host's graph"; }

absl::StatusOr<std::vector<LibraryAlgorithm>> GraphGemm::Candidates(const GemmParams&,
                                                                    int most) const {
  std::vector<LibraryAlgorithm> algorithms = {{kHostEngine, 1}, {kHostEngine, 2}};
  algorithms.resize(std::min(algorithms.size(), static_cast<size_t>(most)));
  return algorithms;
}

absl::Status GraphGemm::Prepare(const GemmParams&, const LibraryAlgorithm& algorithm) const {
  if (algorithm[0] == kHostEngine) return absl::OkStatus();
  return Unimplemented("no engine of the host");
}

absl::Status GraphGemm::Run(const GemmParams& params, const LibraryAlgorithm& algorithm, void*,
                            simt::Stream& stream) const {
  BERTRAND_CHECK(Supports(params), "the caller asks before");
  BERTRAND_RETURN_IF_ERROR(Prepare(params, algorithm));
  return params.x.dtype() == DType::kFloat16
             ? LaunchAs<simt::Half, simt::Half, true>(params, stream)
             : LaunchAs<simt::BFloat16, simt::BFloat16, true>(params, stream);
}

}  // namespace bertrand::gpu::inline SIMT_TARGET

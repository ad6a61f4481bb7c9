// What the emulator's steps cost (docs/emulator.md has the figures): a switch between fibres,
// checked accesses, collectives, and a kernel as a whole.

#include <benchmark/benchmark.h>

#include <vector>

#include "kernels/layer_norm/layer_norm.h"
#include "kernels/simt/runtime.h"

namespace bertrand::simt {
namespace {

constexpr int kRepeats = 1000;

struct Base {
  static constexpr const char* kName = "benchmark";
  static constexpr int kThreads = 128;
  struct Params {
    Global<const float> x;
    Global<float> y;
  };
  struct Layout {
    alignas(16) float floats[1024];
    alignas(16) Half halves[64 * 64];
  };
};

struct SyncWarpKernel : Base {
  SIMT_FN static void Run(const Params&) {
    for (int i = 0; i < kRepeats; ++i) SyncWarp();
  }
};

struct SyncThreadsKernel : Base {
  SIMT_FN static void Run(const Params&) {
    for (int i = 0; i < kRepeats; ++i) SyncThreads();
  }
};

struct ShuffleKernel : Base {
  SIMT_FN static void Run(const Params& p) {
    float value = 0;
    for (int i = 0; i < kRepeats; ++i) value += ShuffleXor(value, 1);
    Store(p.y + ThreadIndex(), value);
  }
};

template <int kFloats>
struct GlobalLoadKernel : Base {
  SIMT_FN static void Run(const Params& p) {
    float sum = 0;
    for (int i = 0; i < kRepeats; ++i) {
      sum += LoadVector<kFloats>(p.x + (ThreadIndex() + i) * kFloats % 1024)[0];
    }
    Store(p.y + ThreadIndex(), sum);
  }
};

template <int kFloats>
struct SharedStoreLoadKernel : Base {
  SIMT_FN static void Run(const Params& p) {
    const auto mine = SharedArray<&Layout::floats>() + kFloats * ThreadIndex();
    Vector<float, kFloats> value = {};
    for (int i = 0; i < kRepeats; ++i) {
      StoreVector(mine, value);
      value = LoadVector<kFloats>(mine);
    }
    Store(p.y + ThreadIndex(), value[0]);
  }
};

struct MmaKernel : Base {
  SIMT_FN static void Run(const Params& p) {
    MmaA a = {};
    MmaB b = {};
    MmaC c = {};
    for (int i = 0; i < kRepeats; ++i) Mma<Half>(c, a, b);
    Store(p.y + ThreadIndex(), c.v[0]);
  }
};

struct LoadMatrixKernel : Base {
  SIMT_FN static void Run(const Params& p) {
    const auto rows = SharedArray<&Layout::halves>();
    for (int i = ThreadIndex(); i < 64 * 64; i += kThreads) Store(rows + i, Half{0});
    SyncThreads();
    uint32_t r[4] = {};
    for (int i = 0; i < kRepeats; ++i) LoadMatrix(r, rows + 64 * LaneIndex() + 8 * (i % 8));
    Store(p.y + ThreadIndex(), static_cast<float>(r[0]));
  }
};

// `per_block`: how many of the thing that is measured a repeat has.
template <typename Kernel>
void Measure(benchmark::State& state, int per_block) {
  const auto device = Device::Emulated(ProfileH100());
  const auto stream = std::move(device->CreateStream()).value();
  const Memory x = std::move(device->Allocate(4096)).value();
  const Memory y = std::move(device->Allocate(4096)).value();
  if (!stream->Fill(x.data(), 0, 4096).ok()) return state.SkipWithError("no memory");
  const typename Kernel::Params params = {
      Global<const float>(static_cast<const float*>(x.data()), 1024),
      Global<float>(static_cast<float*>(y.data()), 1024)};
  for (auto _ : state) {
    if (!Launch<Kernel>(*stream, {.grid = {1}}, params).ok()) state.SkipWithError("a violation");
  }
  state.counters["each"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * kRepeats * per_block,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

void LayerNorm(benchmark::State& state) {
  const auto device = Device::Emulated(ProfileH100());
  device->set_emulation({.count_requests = state.range(1) != 0});
  const auto stream = std::move(device->CreateStream()).value();
  const int64_t rows = state.range(0), hidden = 768;
  const size_t bytes = static_cast<size_t>(rows * hidden) * 2;
  const Memory x = std::move(device->Allocate(bytes)).value();
  const Memory y = std::move(device->Allocate(bytes)).value();
  if (!stream->Fill(x.data(), 0, bytes).ok()) return state.SkipWithError("no memory");
  const TensorView gamma(x.data(), DType::kFloat16, {hidden});
  gpu::LayerNormParams params;
  params.x = TensorView(x.data(), DType::kFloat16, {rows, hidden});
  params.y = TensorView(y.data(), DType::kFloat16, {rows, hidden});
  params.gamma = params.beta = gamma;
  params.eps = 1e-5f;
  for (auto _ : state) {
    if (!gpu::LayerNorm(params, *stream).ok()) state.SkipWithError("a violation");
  }
}

void Register() {
  using benchmark::RegisterBenchmark;
  RegisterBenchmark("sync_warp_a_switch", Measure<SyncWarpKernel>, 128);
  RegisterBenchmark("sync_threads_a_switch", Measure<SyncThreadsKernel>, 128);
  RegisterBenchmark("shuffle_a_lane", Measure<ShuffleKernel>, 128);
  RegisterBenchmark("global_load_4_bytes", Measure<GlobalLoadKernel<1>>, 128);
  RegisterBenchmark("global_load_16_bytes", Measure<GlobalLoadKernel<4>>, 128);
  RegisterBenchmark("shared_store_and_load_4_bytes", Measure<SharedStoreLoadKernel<1>>, 128);
  RegisterBenchmark("shared_store_and_load_16_bytes", Measure<SharedStoreLoadKernel<4>>, 128);
  RegisterBenchmark("mma_a_warp", Measure<MmaKernel>, 4);
  RegisterBenchmark("ldmatrix_x4_a_warp", Measure<LoadMatrixKernel>, 4);
  RegisterBenchmark("layer_norm", LayerNorm)
      ->Args({128, 0})
      ->Args({128, 1})
      ->Unit(benchmark::kMillisecond);
}

}  // namespace
}  // namespace bertrand::simt

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  bertrand::simt::Register();
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}

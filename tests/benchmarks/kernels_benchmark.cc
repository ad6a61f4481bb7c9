// Speed of the CPU backend's operations at encoder shapes: GFLOP/s where multiplications count,
// GB/s where memory does, milliseconds for whole encoders. The last argument of each benchmark is
// the number of the pool's threads. The CPU column is the process's, all threads together: on a
// machine with other work, compare that of one thread, or take minima of repetitions.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <future>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "kernels/status.h"

namespace bertrand {
namespace {

struct Device {
  explicit Device(int64_t num_threads) : pool(static_cast<int>(num_threads)) {
    auto created = CreateBackend("cpu", pool);
    BERTRAND_CHECK(created.ok(), Message(created.status()));
    backend = *std::move(created);
    stream = *backend->CreateStream(1 << 15);
  }
  TensorView Random(std::initializer_list<int64_t> shape) {
    const TensorView sized(nullptr, DType::kFloat32, shape);
    buffers.push_back(*backend->Allocate(sized.size_bytes()));
    const TensorView view(buffers.back()->data(), DType::kFloat32, shape);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t i = 0; i < view.num_elements(); ++i) view.as<float>()[i] = uniform(random);
    return view;
  }
  std::unique_ptr<PackedLinear> RandomLinear(int64_t in, int64_t out) {
    std::vector<float> weight(static_cast<size_t>(in * out)), bias(static_cast<size_t>(out));
    std::uniform_real_distribution<float> uniform(-0.05f, 0.05f);
    for (float& value : weight) value = uniform(random);
    return *backend->PackLinear(weight, bias, out, in);
  }
  // Runs `body` on a thread of the pool, as the server does, so that the pool's threads are all
  // that work.
  template <typename Body>
  void Measure(benchmark::State& state, const Body& body) {
    std::promise<void> done;
    pool.Submit(TaskPriority::kBatch, [&] {
      body();
      for (auto _ : state) body();
      done.set_value();
    });
    done.get_future().wait();
  }

  ThreadPool pool;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<Stream> stream;
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::mt19937 random{7};
};

void Check(const absl::Status& status) { BERTRAND_CHECK(status.ok(), Message(status)); }

void Rate(benchmark::State& state, const char* name, double amount) {
  state.counters[name] =
      benchmark::Counter(amount / 1e9, benchmark::Counter::kIsIterationInvariantRate);
}

// rows, in, out, threads.
void Linear(benchmark::State& state) {
  const int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  Device device(state.range(3));
  const auto weight = device.RandomLinear(in, out);
  const LinearParams params{device.Random({rows, in}),
                            weight.get(),
                            out > in ? Activation::kGeluErf : Activation::kNone,
                            {},
                            device.Random({rows, out})};
  device.Measure(state, [&] { Check(device.backend->Linear(*device.stream, params)); });
  Rate(state, "GFLOP/s", 2.0 * static_cast<double>(rows * in * out));
}

void LinearShapes(benchmark::internal::Benchmark* benchmark) {
  constexpr int64_t kShapes[][2] = {{384, 384}, {384, 1536}, {1536, 384}, {768, 3072}, {3072, 768}};
  for (const auto& [in, out] : kShapes) {
    for (const int64_t rows : {1, 16, 128, 1024}) {
      for (const int64_t threads : {1, 2}) benchmark->Args({rows, in, out, threads});
    }
  }
  benchmark->ArgNames({"M", "K", "N", "threads"})->MeasureProcessCPUTime()->UseRealTime();
}
BENCHMARK(Linear)->Apply(LinearShapes);

// in, out: weights of a checkpoint into panels, on one thread; bytes read.
void PackLinear(benchmark::State& state) {
  const int64_t in = state.range(0), out = state.range(1);
  Device device(1);
  const std::vector<float> weight(static_cast<size_t>(in * out), 0.5f);
  device.Measure(state, [&] { Check(device.backend->PackLinear(weight, {}, out, in).status()); });
  Rate(state, "GB/s", sizeof(float) * static_cast<double>(in * out));
}
BENCHMARK(PackLinear)
    ->ArgNames({"K", "N"})
    ->Args({768, 3072})
    ->Args({1024, 1024})
    ->MeasureProcessCPUTime()
    ->UseRealTime();

struct Sequences {
  Sequences(int64_t count, int64_t length) {
    for (int64_t s = 0; s <= count; ++s) cu_seqlens.push_back(static_cast<int32_t>(s * length));
  }
  TensorView view() {
    return {cu_seqlens.data(), DType::kInt32, {static_cast<int64_t>(cu_seqlens.size())}};
  }
  std::vector<int32_t> cu_seqlens;
};

// sequences, length, heads, head_size, threads.
void Attention(benchmark::State& state) {
  const int64_t count = state.range(0), length = state.range(1), heads = state.range(2),
                head_size = state.range(3), tokens = count * length;
  Device device(state.range(4));
  Sequences sequences(count, length);
  const AttentionParams params{device.Random({tokens, 3, heads, head_size}), sequences.view(),
                               sequences.cu_seqlens, 0.125f,
                               device.Random({tokens, heads, head_size})};
  device.Measure(state, [&] { Check(device.backend->Attention(*device.stream, params)); });
  Rate(state, "GFLOP/s", 4.0 * static_cast<double>(tokens * length * heads * head_size));
}

void AttentionShapes(benchmark::internal::Benchmark* benchmark) {
  for (const int64_t head_size : {32, 64}) {
    for (const int64_t length : {16, 32, 128, 256, 512}) {
      benchmark->Args({std::max<int64_t>(1, 128 / length), length, 12, head_size, 1});
    }
  }
  benchmark->Args({1, 128, 12, 32, 2})->Args({1, 512, 12, 64, 2});
  benchmark->ArgNames({"sequences", "length", "heads", "head_size", "threads"})
      ->MeasureProcessCPUTime()
      ->UseRealTime();
}
BENCHMARK(Attention)->Apply(AttentionShapes);

// sequences, length, memory, heads, head_size, threads. With a memory, each sequence has one. The
// rate is that of plain attention's products, to be compared with Attention's.
void RelativeAttention(benchmark::State& state) {
  const int64_t count = state.range(0), length = state.range(1), memory = state.range(2),
                heads = state.range(3), head_size = state.range(4), tokens = count * length;
  Device device(state.range(5));
  Sequences sequences(count, length);
  std::vector<int32_t> types(static_cast<size_t>(tokens), 0);
  for (size_t t = 0; t < types.size(); t += static_cast<size_t>(length)) types[t] = 2;
  RelativeAttentionParams params;
  params.qkv = device.Random({tokens, 3, heads, head_size});
  params.content_bias = device.Random({heads, head_size});
  params.position_bias = device.Random({heads, head_size});
  params.segment_bias = device.Random({heads, head_size});
  params.positions = device.Random({2 * length + memory, heads, head_size});
  params.center = length + memory;
  params.segments = device.Random({2, heads, head_size});
  params.type_ids = {types.data(), DType::kInt32, {tokens}};
  params.cu_seqlens = sequences.view();
  params.cu_seqlens_host = sequences.cu_seqlens;
  std::vector<AttentionMemory> memories;
  for (int64_t i = 0; memory > 0 && i < count; ++i) {
    const TensorView rows = device.Random({memory, heads, head_size});
    memories.push_back({rows, rows, memory / 2, memory});
  }
  params.memory = memories;
  params.scale = 0.125f;
  params.out = device.Random({tokens, heads, head_size});
  device.Measure(state, [&] { Check(device.backend->RelativeAttention(*device.stream, params)); });
  Rate(state, "GFLOP/s", 4.0 * static_cast<double>(tokens * (length + memory) * heads * head_size));
}
BENCHMARK(RelativeAttention)
    ->ArgNames({"sequences", "length", "memory", "heads", "head_size", "threads"})
    ->Args({8, 16, 0, 12, 64, 1})
    ->Args({4, 32, 0, 12, 64, 1})
    ->Args({1, 128, 0, 12, 64, 1})
    ->Args({1, 256, 0, 12, 64, 1})
    ->Args({1, 512, 0, 12, 64, 1})
    ->Args({1, 512, 512, 12, 64, 1})
    ->Args({1, 128, 0, 12, 64, 2})
    ->Args({1, 512, 0, 12, 64, 2})
    ->MeasureProcessCPUTime()
    ->UseRealTime();

// tokens, hidden, threads.
void ResidualLayerNorm(benchmark::State& state) {
  const int64_t tokens = state.range(0), hidden = state.range(1);
  Device device(state.range(2));
  const LayerNormParams params{device.Random({tokens, hidden}),
                               device.Random({tokens, hidden}),
                               device.Random({hidden}),
                               device.Random({hidden}),
                               1e-12f,
                               device.Random({tokens, hidden})};
  device.Measure(state, [&] { Check(device.backend->LayerNorm(*device.stream, params)); });
  Rate(state, "GB/s", 3.0 * sizeof(float) * static_cast<double>(tokens * hidden));
}
BENCHMARK(ResidualLayerNorm)
    ->ArgNames({"tokens", "hidden", "threads"})
    ->ArgsProduct({{16, 128, 1024, 16384}, {384, 768}, {1}})
    ->MeasureProcessCPUTime()
    ->UseRealTime();

// An encoder as models/ calls it: every layer with weights of its own, so that they come from where
// a model's weights come from.
class Encoder {
 public:
  Encoder(Device& device, int64_t num_layers, int64_t hidden, int64_t heads, int64_t count,
          int64_t length)
      : device_(device), heads_(heads), sequences_(count, length), tokens_(count * length) {
    for (int64_t layer = 0; layer < num_layers; ++layer) {
      layers_.push_back(
          {device.RandomLinear(hidden, 3 * hidden), device.RandomLinear(hidden, hidden),
           device.RandomLinear(hidden, 4 * hidden), device.RandomLinear(4 * hidden, hidden)});
    }
    gamma_ = device.Random({hidden});
    x_ = device.Random({tokens_, hidden});
    y_ = device.Random({tokens_, hidden});
    qkv_ = device.Random({tokens_, 3 * hidden});
    inner_ = device.Random({tokens_, 4 * hidden});
  }

  void Forward() {
    Backend& backend = *device_.backend;
    Stream& stream = *device_.stream;
    const int64_t hidden = x_.dim(1), size = hidden / heads_;
    const TensorView heads_in(qkv_.data(), DType::kFloat32, {tokens_, 3, heads_, size});
    const TensorView heads_out(y_.data(), DType::kFloat32, {tokens_, heads_, size});
    for (const Layer& layer : layers_) {
      Check(backend.Linear(stream, {x_, layer.qkv.get(), Activation::kNone, {}, qkv_}));
      Check(backend.Attention(
          stream, {heads_in, sequences_.view(), sequences_.cu_seqlens, 0.125f, heads_out}));
      Check(backend.Linear(stream, {y_, layer.out.get(), Activation::kNone, x_, x_}));
      Check(backend.LayerNorm(stream, {x_, {}, gamma_, gamma_, 1e-12f, x_}));
      Check(backend.Linear(stream, {x_, layer.up.get(), Activation::kGeluErf, {}, inner_}));
      Check(backend.Linear(stream, {inner_, layer.down.get(), Activation::kNone, x_, x_}));
      Check(backend.LayerNorm(stream, {x_, {}, gamma_, gamma_, 1e-12f, x_}));
    }
  }

  // Of the matrix multiplications, attention's included.
  double Flops() const {
    const double hidden = static_cast<double>(x_.dim(1)), tokens = static_cast<double>(tokens_);
    const double length = static_cast<double>(sequences_.cu_seqlens[1]);
    return static_cast<double>(layers_.size()) * tokens *
           (24 * hidden * hidden + 4 * hidden * length);
  }

 private:
  struct Layer {
    std::unique_ptr<PackedLinear> qkv, out, up, down;
  };
  Device& device_;
  int64_t heads_;
  Sequences sequences_;
  int64_t tokens_;
  std::vector<Layer> layers_;
  TensorView gamma_, x_, y_, qkv_, inner_;
};

// layers, hidden, heads, sequences, length, threads.
void EncoderLayers(benchmark::State& state) {
  Device device(state.range(5));
  Encoder encoder(device, state.range(0), state.range(1), state.range(2), state.range(3),
                  state.range(4));
  device.Measure(state, [&] { encoder.Forward(); });
  Rate(state, "GFLOP/s", encoder.Flops());
}
BENCHMARK(EncoderLayers)
    ->ArgNames({"layers", "hidden", "heads", "sequences", "length", "threads"})
    ->ArgsProduct({{6}, {384}, {12}, {1}, {16, 32, 128, 512}, {1, 2}})
    ->ArgsProduct({{6}, {384}, {12}, {8}, {16, 128}, {1, 2}})
    ->ArgsProduct({{12}, {768}, {12}, {1}, {16, 128, 512}, {1, 2}})
    ->Unit(benchmark::kMillisecond)
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace
}  // namespace bertrand

BENCHMARK_MAIN();

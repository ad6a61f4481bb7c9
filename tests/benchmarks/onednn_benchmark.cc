// The peer of Linear in kernels_benchmark.cc: oneDNN's matmul with bias, weights in the layout it
// likes best, one thread. Written for the interfaces of 2.x and 3.x.

#include <benchmark/benchmark.h>
#include <omp.h>

#include <algorithm>
#include <dnnl.hpp>
#include <unordered_map>

namespace bertrand {
namespace {

using dnnl::memory;

dnnl::matmul::primitive_desc Describe(const dnnl::engine& engine, int64_t rows, int64_t in,
                                      int64_t out) {
  using Tag = memory::format_tag;
  const memory::desc x({rows, in}, memory::data_type::f32, Tag::ab);
  const memory::desc weight({in, out}, memory::data_type::f32, Tag::any);
  const memory::desc bias({1, out}, memory::data_type::f32, Tag::ab);
  const memory::desc y({rows, out}, memory::data_type::f32, Tag::ab);
#if DNNL_VERSION_MAJOR >= 3
  return {engine, x, weight, bias, y};
#else
  return {dnnl::matmul::desc(x, weight, bias, y), engine};
#endif
}

void OneDnnLinear(benchmark::State& state) {
  omp_set_num_threads(1);
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto description = Describe(engine, state.range(0), state.range(1), state.range(2));
  const dnnl::matmul matmul(description);
  // Zeros everywhere: these units take no longer or shorter for them.
  const auto zeros = [&](const memory::desc& shape) {
    memory result(shape, engine);
    std::fill_n(static_cast<char*>(result.get_data_handle()), shape.get_size(), 0);
    return result;
  };
  const std::unordered_map<int, memory> arguments = {
      {DNNL_ARG_SRC, zeros(description.src_desc())},
      {DNNL_ARG_WEIGHTS, zeros(description.weights_desc())},
      {DNNL_ARG_BIAS, zeros(description.bias_desc())},
      {DNNL_ARG_DST, zeros(description.dst_desc())}};
  matmul.execute(stream, arguments);
  for (auto _ : state) matmul.execute(stream, arguments);
  const double flops = 2e-9 * static_cast<double>(state.range(0) * state.range(1) * state.range(2));
  state.counters["GFLOP/s"] =
      benchmark::Counter(flops, benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(OneDnnLinear)
    ->ArgNames({"M", "K", "N"})
    ->ArgsProduct({{1, 16, 128, 1024}, {384}, {384, 1536}})
    ->ArgsProduct({{1, 16, 128, 1024}, {1536}, {384}})
    ->ArgsProduct({{1, 16, 128, 1024}, {768}, {3072}})
    ->ArgsProduct({{1, 16, 128, 1024}, {3072}, {768}})
    ->UseRealTime();

}  // namespace
}  // namespace bertrand

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>
#include <utility>

#include "kernels/gemm/gemm.h"
#include "kernels/status.h"
#include "tests/gpu/kernel_benchmark.h"
#include "tests/gpu/multiply_add.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

// Nodes of a graph; instantiating more takes longer than it saves.
constexpr int kMostNodes = 256;
constexpr int kMostCopies = 64;

using Graph = std::unique_ptr<simt::Graph>;

absl::StatusOr<Graph> Capture(simt::Stream& stream, const std::function<absl::Status()>& work) {
  BERTRAND_RETURN_IF_ERROR(stream.BeginCapture());
  const absl::Status status = work();
  // Ends the capture whatever happened.
  absl::StatusOr<Graph> graph = stream.EndCapture();
  BERTRAND_RETURN_IF_ERROR(status);
  return graph;
}

absl::StatusOr<double> TimeUs(const simt::Graph& graph, int times, simt::Stream& stream) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < times; ++i) BERTRAND_RETURN_IF_ERROR(stream.Run(graph));
  BERTRAND_RETURN_IF_ERROR(stream.Synchronize());
  const std::chrono::duration<double, std::micro> us = std::chrono::steady_clock::now() - start;
  return us.count();
}

// Microseconds of the whole graph in each round, in rising order.
absl::StatusOr<std::vector<double>> Rounds(const simt::Graph& graph,
                                           const BenchmarkOptions& options, simt::Stream& stream) {
  // Twice: the first run loads code and fills caches.
  BERTRAND_RETURN_IF_ERROR(TimeUs(graph, 1, stream).status());
  BERTRAND_ASSIGN_OR_RETURN(const double once, TimeUs(graph, 1, stream));
  const int times = std::clamp(static_cast<int>(std::ceil(options.round_us / once)), 1, 1000);
  std::vector<double> rounds;
  for (int i = 0; i < options.rounds; ++i) {
    BERTRAND_ASSIGN_OR_RETURN(const double us, TimeUs(graph, times, stream));
    rounds.push_back(us / times);
  }
  std::sort(rounds.begin(), rounds.end());
  return rounds;
}

absl::StatusOr<double> MedianUs(const BenchmarkOptions& options, simt::Stream& stream,
                                const std::function<absl::Status()>& work) {
  BERTRAND_ASSIGN_OR_RETURN(const Graph graph, Capture(stream, work));
  BERTRAND_ASSIGN_OR_RETURN(const std::vector<double> rounds, Rounds(*graph, options, stream));
  return rounds[rounds.size() / 2];
}

absl::Status MeasureCopy(const BenchmarkOptions& options, simt::Stream& stream,
                         Ceilings& ceilings) {
  Operands operands(stream);
  const auto count = static_cast<int64_t>(options.ceiling_bytes / sizeof(float));
  const TensorView from = operands.Random(DType::kFloat32, {count});
  void* const to = operands.Workspace(options.ceiling_bytes);
  BERTRAND_RETURN_IF_ERROR(operands.status());
  BERTRAND_RETURN_IF_ERROR(stream.Synchronize());
  BERTRAND_ASSIGN_OR_RETURN(const double us, MedianUs(options, stream, [&] {
                              return stream.CopyOnDevice(to, from.data(), from.size_bytes());
                            }));
  ceilings.copy_gb_s = 2e-3 * static_cast<double>(from.size_bytes()) / us;
  return absl::OkStatus();
}

absl::Status MeasureProduct(const BenchmarkOptions& options, simt::Stream& stream,
                            Ceilings& ceilings) {
  BERTRAND_ASSIGN_OR_RETURN(const std::unique_ptr<Gemm> gemm, Gemm::Create(stream.device(), {}));
  Operands operands(stream);
  const int64_t size = options.ceiling_size;
  GemmParams p;
  p.x = operands.Random(DType::kFloat16, {size, size});
  p.weight = operands.Random(DType::kFloat16, {size, size}, -8);
  p.y = operands.Output(DType::kFloat16, {size, size});
  void* const workspace = operands.Workspace(gemm->workspace_bytes());
  BERTRAND_RETURN_IF_ERROR(operands.status());
  BERTRAND_RETURN_IF_ERROR(stream.Synchronize());
  BERTRAND_ASSIGN_OR_RETURN(
      const double us, MedianUs(options, stream, [&] { return gemm->Run(p, workspace, stream); }));
  ceilings.tensor_tflop_s = 2e-6 * std::pow(static_cast<double>(size), 3) / us;
  ceilings.tensor_by =
      gemm->Choice(p).kind == GemmChoice::Kind::kLibrary ? "library" : "small_gemm";
  return operands.CheckOutputs();
}

absl::Status MeasureMultiplyAdd(const BenchmarkOptions& options, simt::Stream& stream,
                                Ceilings& ceilings) {
  using Kernel = MultiplyAddKernel;
  const int blocks = stream.device().info().multiprocessors * 8;
  const int64_t threads = int64_t{blocks} * Kernel::kThreads;
  // As long as the product that is measured, about.
  const int repeats = std::max(1, options.ceiling_size / 2);
  Operands operands(stream);
  const TensorView y = operands.Output(DType::kFloat32, {threads});
  BERTRAND_RETURN_IF_ERROR(operands.status());
  BERTRAND_ASSIGN_OR_RETURN(
      const double us, MedianUs(options, stream, [&] {
        return simt::Launch<Kernel>(stream, {{blocks}}, {simt::AsGlobal<float>(y), repeats, 0.5f});
      }));
  ceilings.float_tflop_s =
      1e-6 * Kernel::FlopsOfThread(repeats) * static_cast<double>(threads) / us;
  return operands.CheckOutputs();
}

// The launches of a case, with as many copies of its operands as the working set wants.
struct CaseCopies {
  std::vector<std::unique_ptr<Operands>> operands;
  std::vector<CaseLaunch> launches;
  size_t size_bytes = 0;
};

absl::StatusOr<CaseCopies> MakeCopies(const KernelCase& test, size_t working_set_bytes,
                                      simt::Stream& stream) {
  CaseCopies copies;
  do {
    copies.operands.push_back(std::make_unique<Operands>(stream));
    copies.launches.push_back(test.make(*copies.operands.back()));
    BERTRAND_RETURN_IF_ERROR(copies.operands.back()->status());
    copies.size_bytes += copies.operands.back()->size_bytes();
  } while (copies.size_bytes < working_set_bytes && copies.operands.size() < size_t{kMostCopies});
  BERTRAND_RETURN_IF_ERROR(stream.Synchronize());
  return copies;
}

absl::StatusOr<CaseResult> Measure(const KernelCase& test, const BenchmarkOptions& options,
                                   simt::Stream& stream) {
  BERTRAND_ASSIGN_OR_RETURN(const CaseCopies copies,
                            MakeCopies(test, options.working_set_bytes, stream));
  // Outside a graph first: what a launcher refuses is not a broken capture then.
  BERTRAND_RETURN_IF_ERROR(copies.launches[0](stream));
  BERTRAND_RETURN_IF_ERROR(copies.operands[0]->CheckOutputs());
  const auto turn = [&]() -> absl::Status {
    for (const CaseLaunch& launch : copies.launches) BERTRAND_RETURN_IF_ERROR(launch(stream));
    return absl::OkStatus();
  };
  BERTRAND_ASSIGN_OR_RETURN(const Graph one_turn, Capture(stream, turn));
  BERTRAND_RETURN_IF_ERROR(TimeUs(*one_turn, 1, stream).status());
  BERTRAND_ASSIGN_OR_RETURN(const double turn_us, TimeUs(*one_turn, 1, stream));
  const auto num_copies = static_cast<int>(copies.launches.size());
  const int turns = std::clamp(static_cast<int>(std::ceil(options.round_us / turn_us)), 1,
                               std::max(1, kMostNodes / num_copies));
  BERTRAND_ASSIGN_OR_RETURN(const Graph graph, Capture(stream, [&]() -> absl::Status {
                              for (int i = 0; i < turns; ++i) BERTRAND_RETURN_IF_ERROR(turn());
                              return absl::OkStatus();
                            }));
  BERTRAND_ASSIGN_OR_RETURN(const std::vector<double> rounds, Rounds(*graph, options, stream));
  const double launches = double{1} * turns * num_copies;
  BERTRAND_RETURN_IF_ERROR(copies.operands[0]->CheckOutputs());
  CaseResult result;
  result.us = rounds[rounds.size() / 2] / launches;
  result.us_min = rounds.front() / launches;
  result.us_max = rounds.back() / launches;
  result.copies = num_copies;
  result.working_set_bytes = copies.size_bytes;
  return result;
}

}  // namespace

absl::StatusOr<Ceilings> MeasureCeilings(const BenchmarkOptions& options, simt::Stream& stream) {
  Ceilings ceilings;
  BERTRAND_RETURN_IF_ERROR(MeasureCopy(options, stream, ceilings));
  BERTRAND_RETURN_IF_ERROR(MeasureProduct(options, stream, ceilings));
  BERTRAND_RETURN_IF_ERROR(MeasureMultiplyAdd(options, stream, ceilings));
  return ceilings;
}

CaseResult MeasureCase(const KernelCase& test, const BenchmarkOptions& options,
                       simt::Stream& stream) {
  const absl::StatusOr<CaseResult> measured = Measure(test, options, stream);
  if (measured.ok()) return *measured;
  CaseResult failed;
  failed.status = measured.status();
  return failed;
}

}  // namespace bertrand::gpu::inline SIMT_TARGET

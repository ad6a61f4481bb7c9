#include <algorithm>
#include <utility>

#include "kernels/bias_activation/bias_activation.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/hopper_gemm.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

constexpr int kMostOwnCandidates = 6, kMostLibraryCandidates = 16, kMostGraphCandidates = 4;
// Up to half a tile of hopper_gemm.h, the small tiles are at least as full.
constexpr int kMostRowsWithoutHopper = 64;
// Partial sums of our own kernels: 8 splits of 256 x 3072 are 24 MiB. In the emulator a workspace
// is overwritten whenever it is given out, which costs time.
#ifdef __CUDACC__
constexpr size_t kOwnWorkspaceBytes = size_t{16} << 20;
#else
constexpr size_t kOwnWorkspaceBytes = size_t{1} << 20;
#endif

bool AlignedForLibrary(const GemmParams& params) {
  for (const TensorView* view :
       {&params.x, &params.weight, &params.bias, &params.residual, &params.y}) {
    if (reinterpret_cast<uintptr_t>(view->data()) % 16 != 0) return false;
  }
  return true;
}

std::string DescribeDevice(const simt::DeviceInfo& info) {
  return info.name + ", " + std::to_string(info.major) + "." + std::to_string(info.minor) + ", " +
         std::to_string(info.multiprocessors) + " multiprocessors";
}

// What the library is asked for: all of it, or the sums alone.
GemmParams ForLibrary(const GemmParams& params) {
  if (LibraryFuses(params)) return params;
  GemmParams sums;
  sums.x = params.x;
  sums.weight = params.weight;
  sums.y = params.y;
  sums.x_scale = params.x_scale;
  sums.weight_scale = params.weight_scale;
  return sums;
}

// Of a key's shape, for questions that don't read addresses.
GemmParams ShapeOf(const GemmKey& key) {
  alignas(16) static char nowhere[16];
  GemmParams params;
  const DType factor = key.float8 ? DType::kFloat8 : key.dtype;
  params.x = {nowhere, factor, {key.m, key.k}};
  params.weight = {nowhere, factor, {key.n, key.k}};
  if (key.float8) {
    params.x_scale = params.weight_scale = {nowhere, DType::kFloat32, {1}};
  }
  if (key.bias) params.bias = {nowhere, key.dtype, {key.n}};
  params.activation = key.activation;
  if (key.residual) params.residual = {nowhere, key.dtype, {key.m, key.n}};
  // Not the residual's memory.
  params.y = {nowhere + sizeof(nowhere), key.dtype, {key.m, key.n}};
  return params;
}

GemmChoice FromPlan(const SmallGemmPlan& plan) {
  return {GemmChoice::Kind::kSmall, plan.tile, plan.splits, {}, 0};
}

}  // namespace

Gemm::Gemm(const simt::Device& device, GemmOptions options)
    : device_(device), options_(std::move(options)) {}

absl::StatusOr<std::unique_ptr<Gemm>> Gemm::Create(const simt::Device& device,
                                                   GemmOptions options) {
  std::unique_ptr<Gemm> gemm(new Gemm(device, std::move(options)));
  if (gemm->options_.own_kernels != GemmOptions::OwnKernels::kAlways) {
    absl::StatusOr<std::unique_ptr<LibraryGemm>> library = LibraryGemm::Create(device);
    gemm->library_status_ = library.status();
    if (library.ok()) gemm->library_ = *std::move(library);
  }
  gemm->workspace_bytes_ = kOwnWorkspaceBytes;
  gemm->origin_ = {DescribeDevice(device.info()), "none"};
  if (gemm->library_ != nullptr) {
    gemm->workspace_bytes_ = std::max(kOwnWorkspaceBytes, gemm->library_->workspace_bytes());
    gemm->origin_.library = gemm->library_->name();
  }
  if (gemm->options_.own_kernels != GemmOptions::OwnKernels::kAlways) {
    auto graph = GraphGemm::Create(device, gemm->workspace_bytes_);
    gemm->graph_status_ = graph.status();
    if (graph.ok()) {
      gemm->graph_ = *std::move(graph);
      gemm->origin_.library += ", " + gemm->graph_->name();
    }
  }
  if (!gemm->options_.cache_folder.empty()) {
    gemm->path_ = gemm->options_.cache_folder + "/" + GemmTableName(gemm->origin_);
    if (auto table = LoadGemmTable(gemm->path_, gemm->origin_)) gemm->file_ = *std::move(table);
  }
  return gemm;
}

std::vector<std::string> Gemm::Absent() const {
  std::vector<std::string> lines;
  if (!library_status_.ok()) {
    lines.push_back("gemm: our own kernels alone, cuBLASLt is absent: " + Message(library_status_));
  }
  if (!graph_status_.ok()) {
    lines.push_back("gemm: cuDNN's graph does not compete, it is absent: " +
                    Message(graph_status_));
  }
  return lines;
}

GemmKey Gemm::Key(const GemmParams& params) {
  return {GemmBucket(params.m()),
          params.n(),
          params.k(),
          params.y.dtype(),
          params.activation,
          static_cast<bool>(params.bias),
          static_cast<bool>(params.residual),
          params.float8()};
}

bool Gemm::LibraryServes(const GemmParams& params) const {
  if (library_ == nullptr || !AlignedForLibrary(params)) return false;
  if (params.float8() && !LibraryTakesFloat8(device_.info(), params.n(), params.k())) return false;
  // The sums would overwrite the residual before it is added.
  return LibraryFuses(params) || !params.residual || params.residual.data() != params.y.data();
}

GemmChoice Gemm::Untuned(const GemmParams& params) const {
  const bool library = LibraryServes(params);
  const bool rarely = options_.own_kernels == GemmOptions::OwnKernels::kRarely;
  if (library && (rarely || params.m() > kMaxSmallGemmRows || !SmallGemmSupports(params))) {
    return {GemmChoice::Kind::kLibrary};
  }
  if (!SmallGemmSupports(params)) return {GemmChoice::Kind::kFloat};
  return FromPlan(PlanSmallGemm(params.m(), params.n(), params.k(), device_.info().multiprocessors,
                                static_cast<int64_t>(workspace_bytes_)));
}

bool Gemm::Serves(const GemmParams& params, const GemmChoice& choice) const {
  switch (choice.kind) {
    case GemmChoice::Kind::kSmall:
      return SmallGemmSupports(params);
    case GemmChoice::Kind::kLibrary:
      return LibraryServes(params);
    case GemmChoice::Kind::kHopper:
      return has_hopper_ && HopperGemmSupports(device_.info(), params);
    case GemmChoice::Kind::kGraph:
      return graph_ != nullptr && GraphGemm::Supports(params) && AlignedForLibrary(params);
    case GemmChoice::Kind::kFloat:
      break;
  }
  return true;
}

GemmChoice Gemm::Choice(const GemmParams& params) const {
  {
    const MutexLock lock(mutex_);
    const auto tuned = table_.find(Key(params));
    // A key says nothing about addresses.
    if (tuned != table_.end() && Serves(params, tuned->second)) return tuned->second;
  }
  return Untuned(params);
}

absl::Status Gemm::Run(const GemmParams& params, void* workspace, simt::Stream& stream) const {
  BERTRAND_RETURN_IF_ERROR(CheckGemm(params));
  if (params.m() == 0) return absl::OkStatus();
  const GemmChoice choice = Choice(params);
  const absl::Status status = RunChoice(params, choice, workspace, stream);
  // What another library can no longer do, this one can.
  if (status.ok() || choice.kind != GemmChoice::Kind::kGraph) return status;
  return RunChoice(params, Untuned(params), workspace, stream);
}

absl::StatusOr<TensorView> Gemm::RunSplits(const GemmParams& params, void* workspace,
                                           simt::Stream& stream) const {
  BERTRAND_RETURN_IF_ERROR(CheckGemm(params));
  const GemmChoice choice = Choice(params);
  if (choice.kind != GemmChoice::Kind::kSmall || params.activation != Activation::kNone ||
      params.m() == 0 || params.n() % 4 != 0) {
    return TensorView();
  }
  const SmallGemmPlan plan = PlanOf(params, choice);
  if (plan.splits == 1) return TensorView();
  return SmallGemmSplits(params, plan, workspace, stream);
}

absl::Status Gemm::RunChoice(const GemmParams& params, const GemmChoice& choice, void* workspace,
                             simt::Stream& stream) const {
  switch (choice.kind) {
    case GemmChoice::Kind::kFloat:
      return FloatGemm(params, stream);
    case GemmChoice::Kind::kLibrary:
      return RunLibrary(params, choice.algorithm, workspace, stream);
    case GemmChoice::Kind::kHopper:
      return HopperGemm(params, choice.tile, stream);
    case GemmChoice::Kind::kGraph:
      return graph_->Run(params, choice.algorithm, workspace, stream);
    case GemmChoice::Kind::kSmall:
      break;
  }
  return SmallGemm(params, PlanOf(params, choice), workspace, stream);
}

// Of a choice of our own kernel. A choice for the bucket's rows has splits whose sums fit for these
// too, unless m exceeds all buckets.
SmallGemmPlan Gemm::PlanOf(const GemmParams& params, const GemmChoice& choice) const {
  int splits = choice.splits;
  if (SmallGemmWorkspaceBytes(params.m(), params.n(), splits) >
      static_cast<int64_t>(workspace_bytes_)) {
    splits = 1;
  }
  return CutSmallGemm(params.m(), params.n(), params.k(), choice.tile, splits,
                      device_.info().multiprocessors);
}

absl::Status Gemm::RunLibrary(const GemmParams& params, const LibraryAlgorithm& algorithm,
                              void* workspace, simt::Stream& stream) const {
  if (!LibraryServes(params)) {
    return FailedPrecondition("Gemm: the library cannot compute x " + params.x.ToString());
  }
  BERTRAND_RETURN_IF_ERROR(library_->Run(ForLibrary(params), algorithm, workspace, stream));
  if (LibraryFuses(params)) return absl::OkStatus();
  return BiasActivation({params.y, params.bias, params.activation, params.residual, params.y},
                        stream);
}

std::vector<GemmChoice> Gemm::Candidates(const GemmParams& params) const {
  std::vector<SmallGemmPlan> plans;
  if (params.m() <= kMaxSmallGemmRows && SmallGemmSupports(params)) {
    for (int tile = 0; tile < kNumGemmTiles; ++tile) {
      for (int splits = 1; splits <= kMaxGemmSplits; ++splits) {
        const SmallGemmPlan plan = CutSmallGemm(params.m(), params.n(), params.k(), tile, splits,
                                                device_.info().multiprocessors);
        if (plan.splits == splits && SmallGemmWorkspaceBytes(params.m(), params.n(), splits) <=
                                         static_cast<int64_t>(workspace_bytes_)) {
          plans.push_back(plan);
        }
      }
    }
  }
  std::stable_sort(plans.begin(), plans.end(), [](const SmallGemmPlan& a, const SmallGemmPlan& b) {
    return a.time_us < b.time_us;
  });
  std::vector<GemmChoice> choices;
  for (size_t i = 0; i < plans.size() && i < size_t{kMostOwnCandidates}; ++i) {
    choices.push_back(FromPlan(plans[i]));
  }
  if (LibraryServes(params)) {
    const auto algorithms = library_->Candidates(ForLibrary(params), kMostLibraryCandidates);
    for (const LibraryAlgorithm& algorithm :
         algorithms.ok() ? *algorithms : std::vector<LibraryAlgorithm>()) {
      choices.push_back({GemmChoice::Kind::kLibrary, 0, 1, algorithm, 0});
    }
  }
  if (choices.empty()) choices.push_back(Untuned(params));
  if (params.m() > kMostRowsWithoutHopper && Serves(params, {GemmChoice::Kind::kHopper})) {
    for (int tile = 0; tile < kNumHopperTiles; ++tile) {
      choices.push_back({GemmChoice::Kind::kHopper, tile});
    }
  }
  if (Serves(params, {GemmChoice::Kind::kGraph})) {
    const auto algorithms = graph_->Candidates(params, kMostGraphCandidates);
    for (const LibraryAlgorithm& algorithm :
         algorithms.ok() ? *algorithms : std::vector<LibraryAlgorithm>()) {
      choices.push_back({GemmChoice::Kind::kGraph, 0, 1, algorithm, 0});
    }
  }
  return choices;
}

// The choice in the file, if it is one here.
std::optional<GemmChoice> Gemm::Remembered(const GemmKey& bucket) const {
  const auto found = file_.find(bucket);
  if (found == file_.end()) return {};
  const GemmParams shape = ShapeOf(bucket);
  const GemmChoice& choice = found->second;
  if (!Serves(shape, choice)) return {};
  if (choice.kind == GemmChoice::Kind::kLibrary &&
      !library_->Takes(ForLibrary(shape), choice.algorithm)) {
    return {};
  }
  if (choice.kind == GemmChoice::Kind::kGraph && !graph_->Prepare(shape, choice.algorithm).ok()) {
    return {};
  }
  return choice;
}

// Candidates with their times, the fastest first. One that cannot run is left out; a lost device is
// an error.
absl::StatusOr<std::vector<GemmChoice>> Gemm::Time(const GemmTrial& trial,
                                                   simt::Stream& stream) const {
  std::vector<GemmChoice> timed;
  for (GemmChoice choice : Candidates(trial.params())) {
    const auto run = [&] { return RunChoice(trial.params(), choice, trial.workspace(), stream); };
    const absl::StatusOr<double> time_us = options_.measure_us
                                               ? options_.measure_us(choice, run)
                                               : LibraryGemm::MeasureUs(stream, run);
    if (time_us.ok()) {
      choice.time_us = static_cast<float>(*time_us);
      timed.push_back(choice);
    } else if (time_us.status().code() == absl::StatusCode::kInternal) {
      return time_us.status();
    }
  }
  std::stable_sort(timed.begin(), timed.end(),
                   [](const GemmChoice& a, const GemmChoice& b) { return a.time_us < b.time_us; });
  return timed;
}

absl::Status Gemm::Tune(const GemmKey& key, simt::Stream& stream) {
  if (!options_.measure_us && !LibraryGemm::Measures()) return absl::OkStatus();
  GemmKey bucket = key;
  bucket.m = GemmBucket(key.m);
  const auto keep = [&](const GemmChoice& choice) {
    const MutexLock lock(mutex_);
    table_[bucket] = choice;
  };
  {
    const MutexLock lock(mutex_);
    if (table_.contains(bucket)) return absl::OkStatus();
  }
  if (const auto remembered = Remembered(bucket)) {
    keep(*remembered);
    return absl::OkStatus();
  }
  BERTRAND_ASSIGN_OR_RETURN(GemmTrial trial, GemmTrial::Create(bucket, workspace_bytes_, stream));
  BERTRAND_ASSIGN_OR_RETURN(const std::vector<GemmChoice> timed, Time(trial, stream));
  for (const GemmChoice& choice : timed) {
    BERTRAND_RETURN_IF_ERROR(RunChoice(trial.params(), choice, trial.workspace(), stream));
    BERTRAND_ASSIGN_OR_RETURN(const bool right, trial.IsRight(stream));
    if (!right) continue;
    keep(choice);
    changed_ = true;
    break;
  }
  return absl::OkStatus();
}

std::optional<GemmChoice> Gemm::Tuned(const GemmKey& key) const {
  GemmKey bucket = key;
  bucket.m = GemmBucket(key.m);
  const MutexLock lock(mutex_);
  const auto found = table_.find(bucket);
  return found == table_.end() ? std::nullopt : std::optional(found->second);
}

bool Gemm::Remembers(const GemmKey& key) const {
  GemmKey bucket = key;
  bucket.m = GemmBucket(key.m);
  return Remembered(bucket).has_value();
}

absl::Status Gemm::Save() {
  if (path_.empty() || !changed_) return absl::OkStatus();
  // What is in the file and was not asked for this time stays: other models' shapes, and those of
  // another type, which another Gemm may have written since.
  GemmTable table = LoadGemmTable(path_, origin_).value_or(file_);
  {
    const MutexLock lock(mutex_);
    for (const auto& [key, choice] : table_) table[key] = choice;
  }
  BERTRAND_RETURN_IF_ERROR(SaveGemmTable(path_, origin_, table));
  changed_ = false;
  return absl::OkStatus();
}

}  // namespace bertrand::gpu::inline SIMT_TARGET

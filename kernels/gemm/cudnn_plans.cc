#include "kernels/gemm/cudnn_plans.h"

#include <dlfcn.h>

#include <algorithm>
#include <iterator>
#include <list>
#include <map>
#include <tuple>
#include <utility>

#include "kernels/mutex.h"
#include "kernels/status.h"

namespace bertrand::gpu {
namespace cudnn {

absl::StatusOr<Functions> LoadCudnn() {
  constexpr char kFile[] = "libcudnn.so.9";
  void* const library = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return FailedPrecondition(dlerror());
  Functions functions;
  bool complete = true;
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(library, name));
    complete = complete && function != nullptr;
  };
#define BERTRAND_FIND(name) find(functions.name, #name)
  BERTRAND_FIND(cudnnGetVersion);
  BERTRAND_FIND(cudnnGetErrorString);
  BERTRAND_FIND(cudnnGetLastErrorString);
  BERTRAND_FIND(cudnnCreate);
  BERTRAND_FIND(cudnnDestroy);
  BERTRAND_FIND(cudnnSetStream);
  BERTRAND_FIND(cudnnBackendCreateDescriptor);
  BERTRAND_FIND(cudnnBackendDestroyDescriptor);
  BERTRAND_FIND(cudnnBackendFinalize);
  BERTRAND_FIND(cudnnBackendSetAttribute);
  BERTRAND_FIND(cudnnBackendGetAttribute);
  BERTRAND_FIND(cudnnBackendExecute);
#undef BERTRAND_FIND
  if (!complete) return FailedPrecondition(std::string(kFile) + " lacks functions of cuDNN 9");
  return functions;
}

}  // namespace cudnn

namespace {

using cudnn::Attribute;
using cudnn::AttributeType;
using cudnn::Descriptor;
using cudnn::DescriptorType;

// Graphs of dynamic shape, and a kernel cache that is told of its graph.
constexpr size_t kOldestVersion = 90500;
// Operands' names in a graph.
enum TensorId : int64_t { kX = 1, kWeight, kBias, kY, kSums, kBiased };
// An algorithm's first word is the engine's number and this, so that none is all zero; the others
// are knobs, the number of one above its value.
constexpr uint64_t kIsEngine = uint64_t{1} << 63;
constexpr uint64_t kIsKnob = uint64_t{1} << 63;
constexpr int kMostKnobs = std::tuple_size_v<LibraryAlgorithm> - 1;

// A descriptor, destroyed with this.
class Owned {
 public:
  Owned() = default;
  Owned(const cudnn::Functions& functions, Descriptor descriptor)
      : destroy_(functions.cudnnBackendDestroyDescriptor), descriptor_(descriptor) {}
  Owned(Owned&& other) noexcept { *this = std::move(other); }
  Owned& operator=(Owned&& other) noexcept {
    std::swap(destroy_, other.destroy_);
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~Owned() {
    if (descriptor_ != nullptr) destroy_(descriptor_);
  }
  Descriptor get() const { return descriptor_; }

 private:
  cudnn::Status (*destroy_)(Descriptor) = nullptr;
  Descriptor descriptor_ = nullptr;
};

// A graph and all that it is made of: cuDNN does not say what may go before it.
struct Graph {
  std::vector<Owned> parts;
  Owned graph;
};

struct Plan {
  Graph graph;
  Owned engine, config, plan;
};

using Key = std::tuple<CudnnShape, LibraryAlgorithm>;

struct Kept {
  absl::StatusOr<Plan> plan = Unimplemented("not made yet");
  bool passing = false;
  std::list<Key>::iterator at;  // in the list of passing ones
};

}  // namespace

struct CudnnPlans::Impl {
  cudnn::Functions functions;
  int64_t workspace_bytes = 0;
  cudnn::Handle handle = nullptr;
  Owned device;  // instead of a handle
  mutable Mutex mutex;
  std::map<DType, Owned> caches ABSL_GUARDED_BY(mutex);  // of kernels
  std::map<Key, Kept> plans ABSL_GUARDED_BY(mutex);
  std::list<Key> passing ABSL_GUARDED_BY(mutex);  // the latest first

  ~Impl() {
    {
      const MutexLock lock(mutex);
      plans.clear();
      caches.clear();
    }
    device = Owned();
    if (handle != nullptr) functions.cudnnDestroy(handle);
  }

  absl::Status Check(cudnn::Status status, const char* what) const {
    if (status == cudnn::kSuccess) return absl::OkStatus();
    char message[256] = "";
    functions.cudnnGetLastErrorString(message, sizeof(message));
    message[sizeof(message) - 1] = '\0';
    return FailedPrecondition(std::string(what) + ": " + functions.cudnnGetErrorString(status) +
                              (message[0] == '\0' ? "" : ", ") + message);
  }

  // ---- Descriptors ----

  absl::StatusOr<Owned> New(DescriptorType type) const {
    Descriptor descriptor = nullptr;
    BERTRAND_RETURN_IF_ERROR(Check(functions.cudnnBackendCreateDescriptor(type, &descriptor),
                                   "cudnnBackendCreateDescriptor"));
    return Owned(functions, descriptor);
  }

  template <typename Value>
  absl::Status Set(const Owned& owned, Attribute name, AttributeType type, const Value* values,
                   int64_t count = 1) const {
    return Check(functions.cudnnBackendSetAttribute(owned.get(), name, type, count, values),
                 "cudnnBackendSetAttribute");
  }

  absl::Status Set(const Owned& owned, Attribute name, const Owned& value) const {
    const Descriptor descriptor = value.get();
    return Set(owned, name, cudnn::kTypeDescriptor, &descriptor);
  }

  absl::Status Finalize(const Owned& owned, const char* what) const {
    return Check(functions.cudnnBackendFinalize(owned.get()), what);
  }

  // The handle or the device that is described, whichever this has.
  absl::Status SetTarget(const Owned& owned, Attribute with_handle, Attribute with_device) const {
    if (device.get() != nullptr) return Set(owned, with_device, device);
    return Set(owned, with_handle, cudnn::kTypeHandle, &handle);
  }

  // ---- The graph ----

  // dimensions = strides of a [1, rows, columns] tensor whose element (r, c) is at
  // r * row_stride + c * column_stride.
  absl::StatusOr<Owned> Tensor(TensorId id, DType dtype, int64_t rows, int64_t columns,
                               int64_t row_stride, int64_t column_stride) const {
    BERTRAND_ASSIGN_OR_RETURN(Owned tensor, New(cudnn::kTensor));
    const bool is_virtual = id == kSums || id == kBiased;
    const int64_t unique_id = id, alignment = 16;
    const int64_t dimensions[3] = {1, rows, columns};
    const int64_t strides[3] = {rows * columns, row_stride, column_stride};
    const cudnn::DataType type = is_virtual                  ? cudnn::kFloat
                                 : dtype == DType::kBFloat16 ? cudnn::kBFloat16
                                                             : cudnn::kHalf;
    BERTRAND_RETURN_IF_ERROR(Set(tensor, cudnn::kTensorId, cudnn::kTypeInt64, &unique_id));
    BERTRAND_RETURN_IF_ERROR(Set(tensor, cudnn::kTensorDataType, cudnn::kTypeDataType, &type));
    BERTRAND_RETURN_IF_ERROR(
        Set(tensor, cudnn::kTensorDimensions, cudnn::kTypeInt64, dimensions, 3));
    BERTRAND_RETURN_IF_ERROR(Set(tensor, cudnn::kTensorStrides, cudnn::kTypeInt64, strides, 3));
    BERTRAND_RETURN_IF_ERROR(Set(tensor, cudnn::kTensorAlignment, cudnn::kTypeInt64, &alignment));
    BERTRAND_RETURN_IF_ERROR(Set(tensor, cudnn::kTensorVirtual, cudnn::kTypeBoolean, &is_virtual));
    BERTRAND_RETURN_IF_ERROR(Finalize(tensor, "a tensor"));
    return tensor;
  }

  absl::Status AddMatmul(Graph& graph, const Owned& x, const Owned& weight, const Owned& y) const {
    constexpr cudnn::DataType kPrecision = cudnn::kFloat;
    BERTRAND_ASSIGN_OR_RETURN(Owned matmul, New(cudnn::kMatmul));
    BERTRAND_RETURN_IF_ERROR(
        Set(matmul, cudnn::kMatmulPrecision, cudnn::kTypeDataType, &kPrecision));
    BERTRAND_RETURN_IF_ERROR(Finalize(matmul, "a matmul"));
    BERTRAND_ASSIGN_OR_RETURN(Owned operation, New(cudnn::kOperationMatmul));
    BERTRAND_RETURN_IF_ERROR(Set(operation, cudnn::kOperationMatmulA, x));
    BERTRAND_RETURN_IF_ERROR(Set(operation, cudnn::kOperationMatmulB, weight));
    BERTRAND_RETURN_IF_ERROR(Set(operation, cudnn::kOperationMatmulC, y));
    BERTRAND_RETURN_IF_ERROR(Set(operation, cudnn::kOperationMatmulDescriptor, matmul));
    BERTRAND_RETURN_IF_ERROR(Finalize(operation, "the matmul operation"));
    graph.parts.push_back(std::move(matmul));
    graph.parts.push_back(std::move(operation));
    return absl::OkStatus();
  }

  // y = mode(x, b); b may be null.
  absl::Status AddPointwise(Graph& graph, cudnn::PointwiseMode mode, const Owned& x, const Owned* b,
                            const Owned& y) const {
    constexpr cudnn::DataType kPrecision = cudnn::kFloat;
    BERTRAND_ASSIGN_OR_RETURN(Owned pointwise, New(cudnn::kPointwise));
    BERTRAND_RETURN_IF_ERROR(
        Set(pointwise, cudnn::kPointwiseMode, cudnn::kTypePointwiseMode, &mode));
    BERTRAND_RETURN_IF_ERROR(
        Set(pointwise, cudnn::kPointwisePrecision, cudnn::kTypeDataType, &kPrecision));
    BERTRAND_RETURN_IF_ERROR(Finalize(pointwise, "a pointwise"));
    BERTRAND_ASSIGN_OR_RETURN(Owned operation, New(cudnn::kOperationPointwise));
    BERTRAND_RETURN_IF_ERROR(Set(operation, cudnn::kOperationPointwiseDescriptor, pointwise));
    BERTRAND_RETURN_IF_ERROR(Set(operation, cudnn::kOperationPointwiseX, x));
    if (b != nullptr) BERTRAND_RETURN_IF_ERROR(Set(operation, cudnn::kOperationPointwiseB, *b));
    BERTRAND_RETURN_IF_ERROR(Set(operation, cudnn::kOperationPointwiseY, y));
    BERTRAND_RETURN_IF_ERROR(Finalize(operation, "a pointwise operation"));
    graph.parts.push_back(std::move(pointwise));
    graph.parts.push_back(std::move(operation));
    return absl::OkStatus();
  }

  absl::StatusOr<Graph> MakeGraph(const CudnnShape& shape) const {
    const int64_t m = shape.m, n = shape.n, k = shape.k;
    BERTRAND_ASSIGN_OR_RETURN(Owned x, Tensor(kX, shape.dtype, m, k, k, 1));
    BERTRAND_ASSIGN_OR_RETURN(Owned weight, Tensor(kWeight, shape.dtype, k, n, 1, k));
    BERTRAND_ASSIGN_OR_RETURN(Owned sums, Tensor(kSums, shape.dtype, m, n, n, 1));
    BERTRAND_ASSIGN_OR_RETURN(Owned bias, Tensor(kBias, shape.dtype, 1, n, n, 1));
    BERTRAND_ASSIGN_OR_RETURN(Owned biased, Tensor(kBiased, shape.dtype, m, n, n, 1));
    BERTRAND_ASSIGN_OR_RETURN(Owned y, Tensor(kY, shape.dtype, m, n, n, 1));
    Graph made;
    BERTRAND_RETURN_IF_ERROR(AddMatmul(made, x, weight, sums));
    BERTRAND_RETURN_IF_ERROR(AddPointwise(made, cudnn::kAdd, sums, &bias, biased));
    BERTRAND_RETURN_IF_ERROR(AddPointwise(made, cudnn::kGeluErf, biased, nullptr, y));
    // Every other part is an operation.
    const Descriptor operations[3] = {made.parts[1].get(), made.parts[3].get(),
                                      made.parts[5].get()};
    BERTRAND_ASSIGN_OR_RETURN(made.graph, New(cudnn::kOperationGraph));
    if (handle != nullptr) {
      BERTRAND_RETURN_IF_ERROR(Set(made.graph, cudnn::kGraphHandle, cudnn::kTypeHandle, &handle));
    }
    BERTRAND_RETURN_IF_ERROR(
        Set(made.graph, cudnn::kGraphOperations, cudnn::kTypeDescriptor, operations, 3));
    const bool dynamic = true;
    BERTRAND_RETURN_IF_ERROR(
        Set(made.graph, cudnn::kGraphDynamicShape, cudnn::kTypeBoolean, &dynamic));
    BERTRAND_RETURN_IF_ERROR(Finalize(made.graph, "the graph"));
    for (Owned* tensor : {&x, &weight, &sums, &bias, &biased, &y}) {
      made.parts.push_back(std::move(*tensor));
    }
    return made;
  }

  // ---- Engines ----

  // What is of no use: the algorithm has no room for it, or the engine rounds more than it has to
  // or gives other bits at every run.
  absl::StatusOr<LibraryAlgorithm> AlgorithmOf(const Owned& config) const {
    BERTRAND_ASSIGN_OR_RETURN(const Owned engine, New(cudnn::kEngine));
    Descriptor descriptor = engine.get();
    int64_t count = 0, index = 0;
    const auto get = [&](Descriptor of, Attribute name, AttributeType type, int64_t most,
                         void* values) {
      return Check(functions.cudnnBackendGetAttribute(of, name, type, most, &count, values),
                   "cudnnBackendGetAttribute");
    };
    BERTRAND_RETURN_IF_ERROR(
        get(config.get(), cudnn::kConfigEngine, cudnn::kTypeDescriptor, 1, &descriptor));
    BERTRAND_RETURN_IF_ERROR(get(descriptor, cudnn::kEngineIndex, cudnn::kTypeInt64, 1, &index));
    int notes[cudnn::kNumNumericalNotes];
    BERTRAND_RETURN_IF_ERROR(get(descriptor, cudnn::kEngineNumericalNotes,
                                 cudnn::kTypeNumericalNote, cudnn::kNumNumericalNotes, notes));
    for (int64_t i = 0; i < std::min<int64_t>(count, cudnn::kNumNumericalNotes); ++i) {
      for (const int bad :
           {cudnn::kDownConvertInputs, cudnn::kReducedReduction, cudnn::kNondeterministic}) {
        if (notes[i] == bad) return Unimplemented("an engine of other numerics");
      }
    }
    LibraryAlgorithm algorithm{kIsEngine | static_cast<uint64_t>(index)};
    Owned knobs[kMostKnobs + 1];
    Descriptor knob_descriptors[kMostKnobs + 1];
    for (int i = 0; i <= kMostKnobs; ++i) {
      BERTRAND_ASSIGN_OR_RETURN(knobs[i], New(cudnn::kKnobChoice));
      knob_descriptors[i] = knobs[i].get();
    }
    BERTRAND_RETURN_IF_ERROR(get(config.get(), cudnn::kConfigKnobChoices, cudnn::kTypeDescriptor,
                                 kMostKnobs + 1, knob_descriptors));
    const int64_t num_knobs = count;
    if (num_knobs > kMostKnobs) return Unimplemented("an engine of many knobs");
    for (int64_t i = 0; i < num_knobs; ++i) {
      int type = 0;
      int64_t value = 0;
      BERTRAND_RETURN_IF_ERROR(
          get(knob_descriptors[i], cudnn::kKnobType, cudnn::kTypeKnob, 1, &type));
      BERTRAND_RETURN_IF_ERROR(
          get(knob_descriptors[i], cudnn::kKnobValue, cudnn::kTypeInt64, 1, &value));
      if (value < 0 || value > UINT32_MAX) return Unimplemented("a knob's value is large");
      algorithm[static_cast<size_t>(i) + 1] =
          kIsKnob | static_cast<uint64_t>(type) << 32 | static_cast<uint64_t>(value);
    }
    return algorithm;
  }

  absl::Status MakeConfig(const LibraryAlgorithm& algorithm, Plan& plan) const {
    if ((algorithm[0] & kIsEngine) == 0) return Unimplemented("no engine of cuDNN");
    const auto index = static_cast<int64_t>(algorithm[0] & ~kIsEngine);
    BERTRAND_ASSIGN_OR_RETURN(plan.engine, New(cudnn::kEngine));
    BERTRAND_RETURN_IF_ERROR(Set(plan.engine, cudnn::kEngineGraph, plan.graph.graph));
    BERTRAND_RETURN_IF_ERROR(Set(plan.engine, cudnn::kEngineIndex, cudnn::kTypeInt64, &index));
    if (device.get() != nullptr) {
      BERTRAND_RETURN_IF_ERROR(Set(plan.engine, cudnn::kEngineDevice, device));
    }
    BERTRAND_RETURN_IF_ERROR(Finalize(plan.engine, "an engine"));
    std::vector<Descriptor> knobs;
    for (size_t i = 1; i < algorithm.size() && algorithm[i] != 0; ++i) {
      const auto type = static_cast<int>(algorithm[i] >> 32 & 0x7fffffff);
      const auto value = static_cast<int64_t>(algorithm[i] & UINT32_MAX);
      BERTRAND_ASSIGN_OR_RETURN(Owned knob, New(cudnn::kKnobChoice));
      BERTRAND_RETURN_IF_ERROR(Set(knob, cudnn::kKnobType, cudnn::kTypeKnob, &type));
      BERTRAND_RETURN_IF_ERROR(Set(knob, cudnn::kKnobValue, cudnn::kTypeInt64, &value));
      BERTRAND_RETURN_IF_ERROR(Finalize(knob, "a knob"));
      knobs.push_back(knob.get());
      plan.graph.parts.push_back(std::move(knob));
    }
    BERTRAND_ASSIGN_OR_RETURN(plan.config, New(cudnn::kEngineConfig));
    BERTRAND_RETURN_IF_ERROR(Set(plan.config, cudnn::kConfigEngine, plan.engine));
    if (!knobs.empty()) {
      BERTRAND_RETURN_IF_ERROR(Set(plan.config, cudnn::kConfigKnobChoices, cudnn::kTypeDescriptor,
                                   knobs.data(), static_cast<int64_t>(knobs.size())));
    }
    return Finalize(plan.config, "an engine's settings");
  }

  absl::StatusOr<std::vector<Owned>> Heuristics(const Owned& graph,
                                                cudnn::HeuristicsMode mode) const {
    BERTRAND_ASSIGN_OR_RETURN(Owned heuristics, New(cudnn::kEngineHeuristics));
    BERTRAND_RETURN_IF_ERROR(Set(heuristics, cudnn::kHeuristicsGraph, graph));
    BERTRAND_RETURN_IF_ERROR(
        Set(heuristics, cudnn::kHeuristicsMode, cudnn::kTypeHeuristicsMode, &mode));
    if (device.get() != nullptr) {
      BERTRAND_RETURN_IF_ERROR(Set(heuristics, cudnn::kHeuristicsDevice, device));
    }
    BERTRAND_RETURN_IF_ERROR(Finalize(heuristics, "heuristics"));
    int64_t count = 0;
    const auto get = [&](int64_t most, void* values) {
      return Check(functions.cudnnBackendGetAttribute(heuristics.get(), cudnn::kHeuristicsResults,
                                                      cudnn::kTypeDescriptor, most, &count, values),
                   "cudnnBackendGetAttribute");
    };
    BERTRAND_RETURN_IF_ERROR(get(0, nullptr));
    std::vector<Owned> configs(static_cast<size_t>(std::clamp<int64_t>(count, 0, 64)));
    std::vector<Descriptor> descriptors;
    for (Owned& config : configs) {
      BERTRAND_ASSIGN_OR_RETURN(config, New(cudnn::kEngineConfig));
      descriptors.push_back(config.get());
    }
    BERTRAND_RETURN_IF_ERROR(get(static_cast<int64_t>(configs.size()), descriptors.data()));
    // (Fewer than there were said to be, with graphs of dynamic shape.)
    configs.resize(
        static_cast<size_t>(std::clamp<int64_t>(count, 0, static_cast<int64_t>(configs.size()))));
    return configs;
  }

  // ---- Plans ----

  absl::StatusOr<Descriptor> KernelCache(DType dtype, const Owned& graph)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const auto found = caches.find(dtype);
    if (found != caches.end()) return found->second.get();
    BERTRAND_ASSIGN_OR_RETURN(Owned cache, New(cudnn::kKernelCache));
    BERTRAND_RETURN_IF_ERROR(Set(cache, cudnn::kKernelCacheGraph, graph));
    BERTRAND_RETURN_IF_ERROR(Finalize(cache, "a kernel cache"));
    return caches.emplace(dtype, std::move(cache)).first->second.get();
  }

  absl::StatusOr<Plan> MakePlan(const CudnnShape& shape, const LibraryAlgorithm& algorithm)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    Plan made;
    BERTRAND_ASSIGN_OR_RETURN(made.graph, MakeGraph(shape));
    BERTRAND_RETURN_IF_ERROR(MakeConfig(algorithm, made));
    BERTRAND_ASSIGN_OR_RETURN(const Descriptor cache, KernelCache(shape.dtype, made.graph.graph));
    BERTRAND_ASSIGN_OR_RETURN(made.plan, New(cudnn::kExecutionPlan));
    BERTRAND_RETURN_IF_ERROR(SetTarget(made.plan, cudnn::kPlanHandle, cudnn::kPlanDevice));
    BERTRAND_RETURN_IF_ERROR(Set(made.plan, cudnn::kPlanConfig, made.config));
    BERTRAND_RETURN_IF_ERROR(
        Set(made.plan, cudnn::kPlanKernelCache, cudnn::kTypeDescriptor, &cache));
    BERTRAND_RETURN_IF_ERROR(Finalize(made.plan, "a plan"));
    int64_t count = 0, wanted_bytes = 0;
    BERTRAND_RETURN_IF_ERROR(
        Check(functions.cudnnBackendGetAttribute(made.plan.get(), cudnn::kPlanWorkspaceBytes,
                                                 cudnn::kTypeInt64, 1, &count, &wanted_bytes),
              "cudnnBackendGetAttribute"));
    if (wanted_bytes > workspace_bytes) {
      return Unimplemented("a plan wants a workspace of " + std::to_string(wanted_bytes) +
                           " bytes, expected at most " + std::to_string(workspace_bytes));
    }
    return made;
  }

  // The plan, made if need be. `keep`: for good.
  absl::StatusOr<Descriptor> Find(const Key& key, bool keep) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    const auto [entry, is_new] = plans.try_emplace(key);
    Kept& kept = entry->second;
    if (is_new) {
      kept.plan = MakePlan(std::get<0>(key), std::get<1>(key));
      kept.passing = true;
      kept.at = passing.insert(passing.begin(), key);
    }
    if (kept.passing && keep) {
      passing.erase(kept.at);
      kept.passing = false;
    }
    if (kept.passing) passing.splice(passing.begin(), passing, kept.at);
    while (passing.size() > size_t{kMostPassing}) {
      plans.erase(passing.back());
      passing.pop_back();
    }
    BERTRAND_RETURN_IF_ERROR(kept.plan.status());
    return kept.plan->plan.get();
  }

  absl::Status Execute(Descriptor plan, const CudnnOperands& operands, void* stream) const {
    if (handle == nullptr) return Unimplemented("plans of a device that is not there");
    const int64_t ids[4] = {kX, kWeight, kBias, kY};
    void* const pointers[4] = {operands.x, operands.weight, operands.bias, operands.y};
    BERTRAND_ASSIGN_OR_RETURN(const Owned pack, New(cudnn::kVariantPack));
    BERTRAND_RETURN_IF_ERROR(Set(pack, cudnn::kPackIds, cudnn::kTypeInt64, ids, 4));
    BERTRAND_RETURN_IF_ERROR(Set(pack, cudnn::kPackPointers, cudnn::kTypePointer, pointers, 4));
    BERTRAND_RETURN_IF_ERROR(
        Set(pack, cudnn::kPackWorkspace, cudnn::kTypePointer, &operands.workspace));
    BERTRAND_RETURN_IF_ERROR(Finalize(pack, "a variant pack"));
    BERTRAND_RETURN_IF_ERROR(Check(functions.cudnnSetStream(handle, stream), "cudnnSetStream"));
    return Check(functions.cudnnBackendExecute(handle, plan, pack.get()), "cudnnBackendExecute");
  }
};

CudnnPlans::CudnnPlans(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CudnnPlans::~CudnnPlans() = default;

absl::StatusOr<std::unique_ptr<CudnnPlans>> CudnnPlans::Create(const cudnn::Functions& functions,
                                                               size_t workspace_bytes) {
  auto impl = std::make_unique<Impl>();
  impl->functions = functions;
  impl->workspace_bytes = static_cast<int64_t>(workspace_bytes);
  const size_t version = functions.cudnnGetVersion();
  if (version < kOldestVersion) {
    return FailedPrecondition("cuDNN " + std::to_string(version) + ", expected at least " +
                              std::to_string(kOldestVersion));
  }
  BERTRAND_RETURN_IF_ERROR(impl->Check(functions.cudnnCreate(&impl->handle), "cudnnCreate"));
  return std::unique_ptr<CudnnPlans>(new CudnnPlans(std::move(impl)));
}

absl::StatusOr<std::unique_ptr<CudnnPlans>> CudnnPlans::CreateFor(const cudnn::Functions& functions,
                                                                  const std::string& device_json,
                                                                  size_t workspace_bytes) {
  auto impl = std::make_unique<Impl>();
  impl->functions = functions;
  impl->workspace_bytes = static_cast<int64_t>(workspace_bytes);
  BERTRAND_ASSIGN_OR_RETURN(impl->device, impl->New(cudnn::kDeviceProperties));
  BERTRAND_RETURN_IF_ERROR(impl->Set(impl->device, cudnn::kDeviceJson, cudnn::kTypeChar,
                                     device_json.data(), static_cast<int64_t>(device_json.size())));
  BERTRAND_RETURN_IF_ERROR(impl->Finalize(impl->device, "a device's description"));
  return std::unique_ptr<CudnnPlans>(new CudnnPlans(std::move(impl)));
}

std::string CudnnPlans::name() const {
  return "cuDNN " + std::to_string(impl_->functions.cudnnGetVersion());
}

absl::StatusOr<std::vector<LibraryAlgorithm>> CudnnPlans::Candidates(const CudnnShape& shape,
                                                                     int most) {
  const MutexLock lock(impl_->mutex);
  BERTRAND_ASSIGN_OR_RETURN(const Graph graph, impl_->MakeGraph(shape));
  std::vector<LibraryAlgorithm> algorithms;
  for (const auto mode : {cudnn::kModeA, cudnn::kFallback}) {
    const auto configs = impl_->Heuristics(graph.graph, mode);
    if (!configs.ok()) continue;
    for (const Owned& config : *configs) {
      if (algorithms.size() >= static_cast<size_t>(most)) return algorithms;
      const auto algorithm = impl_->AlgorithmOf(config);
      if (!algorithm.ok()) continue;
      if (std::find(algorithms.begin(), algorithms.end(), *algorithm) == algorithms.end()) {
        algorithms.push_back(*algorithm);
      }
    }
  }
  if (algorithms.empty()) return Unimplemented("cuDNN has no engine for this graph");
  return algorithms;
}

absl::Status CudnnPlans::Prepare(const CudnnShape& shape, const LibraryAlgorithm& algorithm) {
  const MutexLock lock(impl_->mutex);
  return impl_->Find({shape, algorithm}, true).status();
}

absl::Status CudnnPlans::Run(const CudnnShape& shape, const LibraryAlgorithm& algorithm,
                             const CudnnOperands& operands, void* stream, bool captured) {
  const MutexLock lock(impl_->mutex);
  BERTRAND_ASSIGN_OR_RETURN(const Descriptor plan, impl_->Find({shape, algorithm}, captured));
  const absl::Status status = impl_->Execute(plan, operands, stream);
  if (!status.ok()) impl_->plans[{shape, algorithm}].plan = status;
  return status;
}

int CudnnPlans::num_plans() const {
  const MutexLock lock(impl_->mutex);
  return static_cast<int>(impl_->plans.size());
}

}  // namespace bertrand::gpu

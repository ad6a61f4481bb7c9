// The CUDA half's LibraryGemm: cuBLASLt, by dlopen.
//
// Row-major y = x W^T is column-major y^T = W x^T: A is W (rows of k values: op T), B is x (op N),
// D is y; cuBLASLt's m is our n, and its bias runs along it. "TN" is also what FP8 demands.

#include <cublasLt.h>
#include <cuda_runtime.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstring>

#include "kernels/gemm/library_gemm.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

#define BERTRAND_CUBLASLT_FUNCTIONS(apply)                                                     \
  apply(cublasLtCreate) apply(cublasLtDestroy) apply(cublasLtGetVersion)                       \
      apply(cublasLtGetStatusName) apply(cublasLtMatmul) apply(cublasLtMatmulAlgoGetHeuristic) \
          apply(cublasLtMatmulAlgoCheck) apply(cublasLtMatmulDescInit_internal)                \
              apply(cublasLtMatmulDescSetAttribute) apply(cublasLtMatrixLayoutInit_internal)   \
                  apply(cublasLtMatmulPreferenceInit_internal)                                 \
                      apply(cublasLtMatmulPreferenceSetAttribute)

// The library's functions. The ..._internal ones are what its header's inline Init functions call.
struct Functions {
#define BERTRAND_DECLARE(name) decltype(&::name) name = nullptr;
  BERTRAND_CUBLASLT_FUNCTIONS(BERTRAND_DECLARE)
#undef BERTRAND_DECLARE
};

// Of two majors either serves: functions, the numbers below and the sizes of structures are the
// same in 12.8's header and in 13.0's (compared), and a machine's PyTorch may bring the other one.
constexpr int kMajors[] = {CUBLAS_VER_MAJOR, CUBLAS_VER_MAJOR == 12 ? 13 : 12};
constexpr size_t kOldestVersion = 120800, kFirstUnknownVersion = 140000;
static_assert(CUBLAS_VER_MAJOR == 12 || CUBLAS_VER_MAJOR == 13);
static_assert(CUBLAS_OP_T == 1 && CUBLAS_COMPUTE_32F == 68 && CUDA_R_32F == 0 && CUDA_R_16F == 2 &&
              CUDA_R_16BF == 14 && CUDA_R_8F_E4M3 == 28);
static_assert(CUBLASLT_EPILOGUE_DEFAULT == 1 && CUBLASLT_EPILOGUE_RELU == 2 &&
              CUBLASLT_EPILOGUE_BIAS == 4 && CUBLASLT_EPILOGUE_RELU_BIAS == 6 &&
              CUBLASLT_EPILOGUE_GELU == 32 && CUBLASLT_EPILOGUE_GELU_BIAS == 36);
static_assert(CUBLASLT_MATMUL_DESC_TRANSA == 3 && CUBLASLT_MATMUL_DESC_EPILOGUE == 7 &&
              CUBLASLT_MATMUL_DESC_BIAS_POINTER == 8 &&
              CUBLASLT_MATMUL_DESC_A_SCALE_POINTER == 17 &&
              CUBLASLT_MATMUL_DESC_B_SCALE_POINTER == 18 && CUBLASLT_MATMUL_DESC_FAST_ACCUM == 25);
static_assert(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES == 1 &&
              CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK == 3 &&
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES == 5 &&
              CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES == 8 &&
              CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE == 2);
static_assert(CUBLAS_STATUS_NOT_SUPPORTED == 15 && CUBLAS_STATUS_INVALID_VALUE == 7);
static_assert(sizeof(cublasLtMatmulDescOpaque_t) == 256 &&
              sizeof(cublasLtMatrixLayoutOpaque_t) == 64 &&
              sizeof(cublasLtMatmulPreferenceOpaque_t) == 64 &&
              sizeof(cublasLtMatmulHeuristicResult_t) == 96);

absl::StatusOr<Functions> LoadFunctionsOf(int major) {
  const std::string file = "libcublasLt.so." + std::to_string(major);
  void* const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return FailedPrecondition(dlerror());
  Functions functions;
  bool complete = true;
#define BERTRAND_FIND(name)                                                           \
  functions.name = reinterpret_cast<decltype(functions.name)>(dlsym(library, #name)); \
  complete = complete && functions.name != nullptr;
  BERTRAND_CUBLASLT_FUNCTIONS(BERTRAND_FIND)
#undef BERTRAND_FIND
  if (!complete) return FailedPrecondition(file + " lacks functions that its header has");
  const size_t version = functions.cublasLtGetVersion();
  if (version < kOldestVersion || version >= kFirstUnknownVersion) {
    return FailedPrecondition(file + " is version " + std::to_string(version) +
                              ", expected 12.8 to 13");
  }
  return functions;
}

absl::StatusOr<Functions> LoadFunctions() {
  absl::StatusOr<Functions> functions = LoadFunctionsOf(kMajors[0]);
  if (functions.ok()) return functions;
  absl::StatusOr<Functions> others = LoadFunctionsOf(kMajors[1]);
  if (others.ok()) return others;
  return FailedPrecondition(Message(functions.status()) + "; " + Message(others.status()));
}

cudaDataType_t CudaType(DType dtype) {
  return dtype == DType::kFloat8     ? CUDA_R_8F_E4M3
         : dtype == DType::kFloat16  ? CUDA_R_16F
         : dtype == DType::kBFloat16 ? CUDA_R_16BF
                                     : CUDA_R_32F;
}

cublasLtEpilogue_t EpilogueOf(const GemmParams& params) {
  const bool bias = static_cast<bool>(params.bias);
  switch (params.activation) {
    case Activation::kRelu:
      return bias ? CUBLASLT_EPILOGUE_RELU_BIAS : CUBLASLT_EPILOGUE_RELU;
    case Activation::kGeluTanh:
      return bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    default:
      return bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
  }
}

// The descriptors of one product; they live in this object.
struct Descriptors {
  cublasLtMatmulDescOpaque_t operation;
  cublasLtMatrixLayoutOpaque_t weight, x, y;
};

absl::Status CheckCuda(cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return Internal(std::string("while timing: ") + cudaGetErrorString(error));
}

// What MeasureUs holds on to.
struct Timer {
  cudaEvent_t begin = nullptr, end = nullptr;
  ~Timer() {
    if (begin != nullptr) cudaEventDestroy(begin);
    if (end != nullptr) cudaEventDestroy(end);
  }
};

// More than any second-level cache.
constexpr size_t kFlushBytes = size_t{192} << 20;
constexpr int kTimedRuns = 5;
constexpr int kMostAlgorithms = 16;

}  // namespace

struct LibraryGemm::Impl {
  const simt::Device* device = nullptr;
  Functions functions;
  cublasLtHandle_t handle = nullptr;
  size_t workspace_bytes = 0;

  ~Impl() {
    if (handle != nullptr) functions.cublasLtDestroy(handle);
  }

  absl::Status Check(cublasStatus_t status, const char* what) const {
    if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
    const std::string text = std::string(what) + ": " + functions.cublasLtGetStatusName(status);
    // These say that the shape is not for it; the device is well.
    if (status == CUBLAS_STATUS_NOT_SUPPORTED || status == CUBLAS_STATUS_INVALID_VALUE) {
      return Unimplemented(text);
    }
    return Internal(text);
  }

  template <typename Value>
  absl::Status Set(Descriptors& descriptors, cublasLtMatmulDescAttributes_t attribute,
                   const Value& value) const {
    return Check(functions.cublasLtMatmulDescSetAttribute(&descriptors.operation, attribute, &value,
                                                          sizeof(value)),
                 "cublasLtMatmulDescSetAttribute");
  }

  absl::Status Layout(cublasLtMatrixLayoutOpaque_t& layout, const TensorView& view) const {
    const auto rows = static_cast<uint64_t>(view.dim(0)),
               columns = static_cast<uint64_t>(view.dim(1));
    return Check(functions.cublasLtMatrixLayoutInit_internal(
                     &layout, sizeof(layout), CudaType(view.dtype()), columns, rows, view.dim(1)),
                 "cublasLtMatrixLayoutInit");
  }

  // Scales, and sums that stay in the tensor cores (docs/fp8.md).
  absl::Status SetFloat8(Descriptors& descriptors, const GemmParams& params) const {
    const void *const weight_scale = params.weight_scale.data(), *const x_scale =
                                                                     params.x_scale.data();
    const int8_t fast = 1;
    BERTRAND_RETURN_IF_ERROR(Set(descriptors, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, weight_scale));
    BERTRAND_RETURN_IF_ERROR(Set(descriptors, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, x_scale));
    return Set(descriptors, CUBLASLT_MATMUL_DESC_FAST_ACCUM, fast);
  }

  absl::StatusOr<Descriptors> Describe(const GemmParams& params) const {
    Descriptors descriptors;
    BERTRAND_RETURN_IF_ERROR(Check(
        functions.cublasLtMatmulDescInit_internal(
            &descriptors.operation, sizeof(descriptors.operation), CUBLAS_COMPUTE_32F, CUDA_R_32F),
        "cublasLtMatmulDescInit"));
    BERTRAND_RETURN_IF_ERROR(Set(descriptors, CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T));
    BERTRAND_RETURN_IF_ERROR(Set(descriptors, CUBLASLT_MATMUL_DESC_EPILOGUE, EpilogueOf(params)));
    if (params.bias) {
      const void* const bias = params.bias.data();
      BERTRAND_RETURN_IF_ERROR(Set(descriptors, CUBLASLT_MATMUL_DESC_BIAS_POINTER, bias));
    }
    if (params.float8()) BERTRAND_RETURN_IF_ERROR(SetFloat8(descriptors, params));
    BERTRAND_RETURN_IF_ERROR(Layout(descriptors.weight, params.weight));
    BERTRAND_RETURN_IF_ERROR(Layout(descriptors.x, params.x));
    BERTRAND_RETURN_IF_ERROR(Layout(descriptors.y, params.y));
    return descriptors;
  }

  absl::Status Prefer(cublasLtMatmulPreferenceOpaque_t& preference) const {
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      return Check(functions.cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value,
                                                                  sizeof(value)),
                   "cublasLtMatmulPreferenceSetAttribute");
    };
    BERTRAND_RETURN_IF_ERROR(
        Check(functions.cublasLtMatmulPreferenceInit_internal(&preference, sizeof(preference)),
              "cublasLtMatmulPreferenceInit"));
    const uint64_t workspace = workspace_bytes;
    BERTRAND_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace));
    // Splits of k are added up in float.
    const uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    BERTRAND_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions));
    const uint32_t alignment = 16;
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      BERTRAND_RETURN_IF_ERROR(set(attribute, alignment));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<LibraryAlgorithm>> Heuristics(Descriptors& descriptors,
                                                           int most) const {
    cublasLtMatmulPreferenceOpaque_t preference;
    BERTRAND_RETURN_IF_ERROR(Prefer(preference));
    cublasLtMatmulHeuristicResult_t
        results[kMostAlgorithms];  // (nvcc 13.0 dies of a vector of them)
    int count = 0;
    BERTRAND_RETURN_IF_ERROR(Check(
        functions.cublasLtMatmulAlgoGetHeuristic(
            handle, &descriptors.operation, &descriptors.weight, &descriptors.x, &descriptors.y,
            &descriptors.y, &preference, std::min(most, kMostAlgorithms), results, &count),
        "cublasLtMatmulAlgoGetHeuristic"));
    std::vector<LibraryAlgorithm> algorithms;
    for (int i = 0; i < count; ++i) {
      if (results[i].state != CUBLAS_STATUS_SUCCESS) continue;
      LibraryAlgorithm& algorithm = algorithms.emplace_back();
      static_assert(sizeof(algorithm) == sizeof(results[i].algo));
      std::memcpy(&algorithm, &results[i].algo, sizeof(algorithm));
    }
    if (algorithms.empty()) return Unimplemented("cuBLASLt has no algorithm for this product");
    return algorithms;
  }

  bool Takes(Descriptors& descriptors, const LibraryAlgorithm& words) const {
    cublasLtMatmulAlgo_t algorithm;
    std::memcpy(&algorithm, &words, sizeof(algorithm));
    cublasLtMatmulHeuristicResult_t result{};
    return functions.cublasLtMatmulAlgoCheck(handle, &descriptors.operation, &descriptors.weight,
                                             &descriptors.x, &descriptors.y, &descriptors.y,
                                             &algorithm, &result) == CUBLAS_STATUS_SUCCESS &&
           result.workspaceSize <= workspace_bytes;
  }
};

LibraryGemm::LibraryGemm(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LibraryGemm::~LibraryGemm() = default;

absl::StatusOr<std::unique_ptr<LibraryGemm>> LibraryGemm::Create(const simt::Device& device) {
  // Loaded once; it stays.
  static const absl::StatusOr<Functions> functions = LoadFunctions();
  BERTRAND_RETURN_IF_ERROR(functions.status());
  BERTRAND_RETURN_IF_ERROR(device.MakeCurrent());  // the handle's own, at its making and at use
  auto impl = std::make_unique<Impl>();
  impl->device = &device;
  impl->functions = *functions;
  // What NVIDIA recommends; more only costs memory, one for each slot in flight.
  impl->workspace_bytes = size_t{device.info().major >= 9 ? 32u : 16u} << 20;
  BERTRAND_RETURN_IF_ERROR(
      impl->Check(impl->functions.cublasLtCreate(&impl->handle), "cublasLtCreate"));
  return std::unique_ptr<LibraryGemm>(new LibraryGemm(std::move(impl)));
}

std::string LibraryGemm::name() const {
  return "cuBLASLt " + std::to_string(impl_->functions.cublasLtGetVersion());
}
size_t LibraryGemm::workspace_bytes() const { return impl_->workspace_bytes; }

absl::StatusOr<std::vector<LibraryAlgorithm>> LibraryGemm::Candidates(const GemmParams& params,
                                                                      int most) const {
  BERTRAND_RETURN_IF_ERROR(impl_->device->MakeCurrent());
  BERTRAND_ASSIGN_OR_RETURN(Descriptors descriptors, impl_->Describe(params));
  return impl_->Heuristics(descriptors, most);
}

bool LibraryGemm::Takes(const GemmParams& params, const LibraryAlgorithm& algorithm) const {
  absl::StatusOr<Descriptors> descriptors = impl_->Describe(params);
  return descriptors.ok() && impl_->device->MakeCurrent().ok() &&
         impl_->Takes(*descriptors, algorithm);
}

absl::Status LibraryGemm::Run(const GemmParams& params, const LibraryAlgorithm& algorithm,
                              void* workspace, simt::Stream& stream) const {
  BERTRAND_CHECK(LibraryFuses(params), "the caller splits what cuBLASLt does not fuse");
  BERTRAND_RETURN_IF_ERROR(impl_->device->MakeCurrent());
  BERTRAND_ASSIGN_OR_RETURN(Descriptors descriptors, impl_->Describe(params));
  LibraryAlgorithm chosen = algorithm;
  if (chosen == LibraryAlgorithm{} || !impl_->Takes(descriptors, chosen)) {
    BERTRAND_ASSIGN_OR_RETURN(const std::vector<LibraryAlgorithm> guesses,
                              impl_->Heuristics(descriptors, 1));
    chosen = guesses.front();
  }
  cublasLtMatmulAlgo_t algo;
  std::memcpy(&algo, &chosen, sizeof(algo));
  const float alpha = 1, beta = params.residual ? 1 : 0;
  const void* const c = params.residual ? params.residual.data() : params.y.data();
  return impl_->Check(impl_->functions.cublasLtMatmul(
                          impl_->handle, &descriptors.operation, &alpha, params.weight.data(),
                          &descriptors.weight, params.x.data(), &descriptors.x, &beta, c,
                          &descriptors.y, params.y.data(), &descriptors.y, &algo, workspace,
                          impl_->workspace_bytes, static_cast<cudaStream_t>(stream.handle())),
                      "cublasLtMatmul");
}

bool LibraryGemm::Measures() { return true; }

absl::StatusOr<double> LibraryGemm::MeasureUs(simt::Stream& stream,
                                              const std::function<absl::Status()>& run) {
  const auto handle = static_cast<cudaStream_t>(stream.handle());
  BERTRAND_RETURN_IF_ERROR(run());  // loads what is loaded lazily, and shows errors
  BERTRAND_RETURN_IF_ERROR(stream.Synchronize());
  BERTRAND_RETURN_IF_ERROR(stream.BeginCapture());
  const absl::Status captured = run();
  absl::StatusOr<std::unique_ptr<simt::Graph>> graph = stream.EndCapture();
  BERTRAND_RETURN_IF_ERROR(captured);
  BERTRAND_RETURN_IF_ERROR(graph.status());

  BERTRAND_ASSIGN_OR_RETURN(const simt::Memory flush, stream.device().Allocate(kFlushBytes));
  Timer timer;
  BERTRAND_RETURN_IF_ERROR(CheckCuda(cudaEventCreate(&timer.begin)));
  BERTRAND_RETURN_IF_ERROR(CheckCuda(cudaEventCreate(&timer.end)));
  float times_ms[kTimedRuns];
  for (float& time_ms : times_ms) {
    // The fill takes longer than it takes to ask for all that follows it: no gap is timed.
    BERTRAND_RETURN_IF_ERROR(stream.Fill(flush.data(), 0, kFlushBytes));
    BERTRAND_RETURN_IF_ERROR(CheckCuda(cudaEventRecord(timer.begin, handle)));
    BERTRAND_RETURN_IF_ERROR(stream.Run(**graph));
    BERTRAND_RETURN_IF_ERROR(CheckCuda(cudaEventRecord(timer.end, handle)));
    BERTRAND_RETURN_IF_ERROR(stream.Synchronize());
    BERTRAND_RETURN_IF_ERROR(CheckCuda(cudaEventElapsedTime(&time_ms, timer.begin, timer.end)));
  }
  std::sort(times_ms, times_ms + kTimedRuns);
  return 1e3 * times_ms[kTimedRuns / 2];
}

}  // namespace bertrand::gpu::inline SIMT_TARGET

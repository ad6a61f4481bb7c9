#pragma once

// The part of cuDNN 9's graph API (cudnn_graph.h) that cudnn_plans.h needs, declared here: its
// headers are beside few compilers, and all of version 9 keeps these numbers. Where the headers are
// at hand, tests/kernels/cudnn_plans_test.cc compares every one of them.
//
// Functions are plain pointers: LoadCudnn takes them from the library, a test gives its own.

#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>

namespace bertrand::gpu::cudnn {

using Handle = void*;
using Descriptor = void*;
using Status = int;

inline constexpr Status kSuccess = 0;

enum DescriptorType : int {
  kPointwise = 0,
  kEngine = 2,
  kEngineConfig = 3,
  kEngineHeuristics = 4,
  kExecutionPlan = 5,
  kKnobChoice = 7,
  kOperationPointwise = 13,
  kOperationGraph = 15,
  kVariantPack = 16,
  kTensor = 17,
  kMatmul = 18,
  kOperationMatmul = 19,
  kKernelCache = 34,
  kDeviceProperties = 38,
};

enum Attribute : int {
  kPointwiseMode = 0,
  kPointwisePrecision = 1,
  kHeuristicsMode = 200,
  kHeuristicsGraph = 201,
  kHeuristicsResults = 202,
  kHeuristicsDevice = 204,
  kConfigEngine = 300,
  kConfigKnobChoices = 302,
  kPlanHandle = 400,
  kPlanConfig = 401,
  kPlanWorkspaceBytes = 402,
  kPlanKernelCache = 406,
  kPlanDevice = 407,
  kKnobType = 600,
  kKnobValue = 601,
  kOperationPointwiseDescriptor = 750,
  kOperationPointwiseX = 751,
  kOperationPointwiseB = 752,
  kOperationPointwiseY = 753,
  kGraphHandle = 800,
  kGraphOperations = 801,
  kGraphDynamicShape = 803,
  kTensorAlignment = 900,
  kTensorDataType = 901,
  kTensorDimensions = 902,
  kTensorStrides = 903,
  kTensorId = 906,
  kTensorVirtual = 907,
  kPackIds = 1000,
  kPackPointers = 1001,
  kPackWorkspace = 1003,
  kEngineGraph = 1300,
  kEngineIndex = 1301,
  kEngineNumericalNotes = 1303,
  kEngineDevice = 1307,
  kMatmulPrecision = 1500,
  kOperationMatmulA = 1520,
  kOperationMatmulB = 1521,
  kOperationMatmulC = 1522,
  kOperationMatmulDescriptor = 1523,
  kKernelCacheGraph = 2400,
  kDeviceJson = 2702,
};

enum AttributeType : int {
  kTypeHandle = 0,
  kTypeDataType = 1,
  kTypeBoolean = 2,
  kTypeInt64 = 3,
  kTypePointer = 6,
  kTypeHeuristicsMode = 8,
  kTypeKnob = 9,
  kTypeNumericalNote = 11,
  kTypePointwiseMode = 14,
  kTypeDescriptor = 15,
  kTypeChar = 24,
};

enum DataType : int { kFloat = 0, kHalf = 2, kBFloat16 = 9 };
enum PointwiseMode : int { kAdd = 0, kGeluErf = 104 };
enum HeuristicsMode : int { kFallback = 2, kModeA = 3 };
enum NumericalNote : int { kDownConvertInputs = 1, kReducedReduction = 2, kNondeterministic = 4 };
inline constexpr int kNumNumericalNotes = 16;  // more than any version has

struct Functions {
  size_t (*cudnnGetVersion)() = nullptr;
  const char* (*cudnnGetErrorString)(Status) = nullptr;
  void (*cudnnGetLastErrorString)(char* message, size_t max_size) = nullptr;
  Status (*cudnnCreate)(Handle*) = nullptr;
  Status (*cudnnDestroy)(Handle) = nullptr;
  Status (*cudnnSetStream)(Handle, void* stream) = nullptr;
  Status (*cudnnBackendCreateDescriptor)(int type, Descriptor*) = nullptr;
  Status (*cudnnBackendDestroyDescriptor)(Descriptor) = nullptr;
  Status (*cudnnBackendFinalize)(Descriptor) = nullptr;
  Status (*cudnnBackendSetAttribute)(Descriptor, int name, int type, int64_t count,
                                     const void* values) = nullptr;
  Status (*cudnnBackendGetAttribute)(Descriptor, int name, int type, int64_t most, int64_t* count,
                                     void* values) = nullptr;
  Status (*cudnnBackendExecute)(Handle, Descriptor plan, Descriptor pack) = nullptr;
};

// From libcudnn.so.9, which stays loaded. FailedPrecondition when it is absent or lacks a function.
absl::StatusOr<Functions> LoadCudnn();

}  // namespace bertrand::gpu::cudnn

#include <cuda_runtime.h>
#include <nvtx3/nvToolsExt.h>

#include <atomic>

#include "kernels/simt/launch_checks.h"
#include "kernels/simt/runtime.h"
#include "kernels/status.h"

namespace bertrand::simt::inline SIMT_TARGET {
namespace {

absl::Status FromCuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const std::string text = std::string(what) + ": " + cudaGetErrorString(error);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky
    return ResourceExhausted(text);
  }
  return Internal(text);
}

// What the kernels beside it were compiled for, which the device does not say: PTX serves all later
// ones.
struct CodeKind {
  bool waits;   // for the kernels before (simt.h, WaitForEarlierKernels)
  bool hopper;  // hopper.h
};
__global__ void DescribeCode(CodeKind* kind) {
#if __CUDA_ARCH__ >= 900
  kind->waits = true;
#else
  kind->waits = false;
#endif
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  kind->hopper = true;
#else
  kind->hopper = false;
#endif
}

}  // namespace

#define SIMT_RETURN_IF_CUDA_ERROR(expression) \
  BERTRAND_RETURN_IF_ERROR(FromCuda((expression), #expression))

struct Device::Impl {
  int index;
  DeviceInfo info;
  bool kernels_wait = false;  // so that they may begin before the ones in front have ended
};

struct Graph::Impl {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
};

struct Stream::Impl {
  int device_index;
  cudaStream_t stream;

  // Does `call` with the stream's device as the thread's current one: a thread may serve several,
  // and not every function of CUDA asks the stream.
  template <typename Call>
  absl::Status Do(const char* what, const Call& call) const {
    const cudaError_t error = cudaSetDevice(device_index);
    return FromCuda(error == cudaSuccess ? call() : error, what);
  }
};

namespace {

// On the current device.
absl::StatusOr<CodeKind> FindCodeKind(const cudaDeviceProp& properties) {
  CodeKind* on_device = nullptr;
  CodeKind kind{};
  SIMT_RETURN_IF_CUDA_ERROR(cudaMalloc(&on_device, sizeof(kind)));
  DescribeCode<<<1, 1>>>(on_device);
  cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) {
    error = cudaMemcpy(&kind, on_device, sizeof(kind), cudaMemcpyDeviceToHost);
  }
  cudaFree(on_device);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorUnsupportedPtxVersion) {
    return FailedPrecondition(std::string(properties.name) + ", compute capability " +
                              std::to_string(properties.major) + "." +
                              std::to_string(properties.minor) + ": " + cudaGetErrorString(error) +
                              " (CMAKE_CUDA_ARCHITECTURES names what a build has code for)");
  }
  BERTRAND_RETURN_IF_ERROR(FromCuda(error, "the first kernel"));
  return kind;
}

}  // namespace

Device::Device(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Device::~Device() = default;
Graph::Graph(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Graph::~Graph() {
  if (impl_->executable != nullptr) cudaGraphExecDestroy(impl_->executable);
  if (impl_->graph != nullptr) cudaGraphDestroy(impl_->graph);
}
Event::~Event() { cudaEventDestroy(static_cast<cudaEvent_t>(handle_)); }
Stream::Stream(const Device& device, std::unique_ptr<Impl> impl)
    : device_(device), impl_(std::move(impl)) {}
Stream::~Stream() { cudaStreamDestroy(impl_->stream); }
void* Stream::handle() const { return impl_->stream; }

absl::StatusOr<std::unique_ptr<Device>> Device::Open(int index) {
  int driver_version = 0;
  SIMT_RETURN_IF_CUDA_ERROR(cudaDriverGetVersion(&driver_version));
  // CUDA's own message speaks of an old one.
  if (driver_version == 0) return FailedPrecondition("no CUDA driver (libcuda.so.1) is installed");
  cudaDeviceProp properties{};
  SIMT_RETURN_IF_CUDA_ERROR(cudaGetDeviceProperties(&properties, index));
  SIMT_RETURN_IF_CUDA_ERROR(cudaSetDevice(index));
  BERTRAND_ASSIGN_OR_RETURN(const CodeKind kind, FindCodeKind(properties));
  auto impl = std::make_unique<Impl>();
  impl->index = index;
  impl->info = {properties.name,
                properties.major,
                properties.minor,
                properties.multiProcessorCount,
                properties.sharedMemPerBlockOptin,
                properties.sharedMemPerMultiprocessor,
                properties.totalGlobalMem,
                kind.hopper};
  impl->kernels_wait = kind.waits;
  return std::unique_ptr<Device>(new Device(std::move(impl)));
}

const DeviceInfo& Device::info() const { return impl_->info; }

absl::Status Device::MakeCurrent() const {
  return FromCuda(cudaSetDevice(impl_->index), "cudaSetDevice");
}

absl::StatusOr<Memory> Device::Allocate(size_t size_bytes) const {
  SIMT_RETURN_IF_CUDA_ERROR(cudaSetDevice(impl_->index));
  void* data = nullptr;
  SIMT_RETURN_IF_CUDA_ERROR(cudaMalloc(&data, size_bytes > 0 ? size_bytes : 1));
  return Memory(data, size_bytes, [](void* memory) { cudaFree(memory); });
}

absl::StatusOr<Memory> Device::AllocatePinned(size_t size_bytes) const {
  SIMT_RETURN_IF_CUDA_ERROR(cudaSetDevice(impl_->index));
  void* data = nullptr;
  SIMT_RETURN_IF_CUDA_ERROR(cudaMallocHost(&data, size_bytes > 0 ? size_bytes : 1));
  return Memory(data, size_bytes, [](void* memory) { cudaFreeHost(memory); });
}

absl::StatusOr<std::unique_ptr<Stream>> Device::CreateStream() const {
  SIMT_RETURN_IF_CUDA_ERROR(cudaSetDevice(impl_->index));
  cudaStream_t stream = nullptr;
  SIMT_RETURN_IF_CUDA_ERROR(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  auto impl = std::make_unique<Stream::Impl>(Stream::Impl{impl_->index, stream});
  return std::unique_ptr<Stream>(new Stream(*this, std::move(impl)));
}

absl::StatusOr<std::unique_ptr<Event>> Device::CreateEvent() const {
  SIMT_RETURN_IF_CUDA_ERROR(cudaSetDevice(impl_->index));
  cudaEvent_t event = nullptr;
  SIMT_RETURN_IF_CUDA_ERROR(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return std::unique_ptr<Event>(new Event(event));
}

absl::Status Stream::CopyToDevice(void* device, const void* host, size_t size_bytes) {
  return impl_->Do("a copy to the device", [&] {
    return cudaMemcpyAsync(device, host, size_bytes, cudaMemcpyHostToDevice, impl_->stream);
  });
}

absl::Status Stream::CopyToHost(void* host, const void* device, size_t size_bytes) {
  return impl_->Do("a copy to the host", [&] {
    return cudaMemcpyAsync(host, device, size_bytes, cudaMemcpyDeviceToHost, impl_->stream);
  });
}

absl::Status Stream::CopyOnDevice(void* to, const void* from, size_t size_bytes) {
  return impl_->Do("a copy on the device", [&] {
    return cudaMemcpyAsync(to, from, size_bytes, cudaMemcpyDeviceToDevice, impl_->stream);
  });
}

absl::Status Stream::Fill(void* device, uint8_t value, size_t size_bytes) {
  return impl_->Do("a fill",
                   [&] { return cudaMemsetAsync(device, value, size_bytes, impl_->stream); });
}

absl::Status Stream::Synchronize() {
  return impl_->Do("the stream", [&] { return cudaStreamSynchronize(impl_->stream); });
}

absl::Status Stream::Record(Event& event) {
  return impl_->Do("an event", [&] {
    return cudaEventRecord(static_cast<cudaEvent_t>(event.handle_), impl_->stream);
  });
}

absl::Status Stream::Wait(const Event& event) {
  return impl_->Do("an event", [&] {
    return cudaStreamWaitEvent(impl_->stream, static_cast<cudaEvent_t>(event.handle_), 0);
  });
}

absl::Status Stream::BeginCapture() {
  return impl_->Do("the begin of a capture", [&] {
    return cudaStreamBeginCapture(impl_->stream, cudaStreamCaptureModeRelaxed);
  });
}

absl::StatusOr<std::unique_ptr<Graph>> Stream::EndCapture() {
  auto impl = std::make_unique<Graph::Impl>();
  Graph::Impl& made = *impl;
  std::unique_ptr<Graph> graph(new Graph(std::move(impl)));
  BERTRAND_RETURN_IF_ERROR(impl_->Do(
      "the end of a capture", [&] { return cudaStreamEndCapture(impl_->stream, &made.graph); }));
  SIMT_RETURN_IF_CUDA_ERROR(cudaGraphInstantiate(&made.executable, made.graph, 0));
  return graph;
}

absl::Status Stream::Run(const Graph& graph) {
  return impl_->Do("a graph",
                   [&] { return cudaGraphLaunch(graph.impl_->executable, impl_->stream); });
}

absl::Status Stream::LaunchKernel(const KernelEntry& kernel, const LaunchShape& shape,
                                  const void* params) {
  BERTRAND_RETURN_IF_ERROR(CheckLaunch(device_.info(), kernel, shape));
  const size_t shared_bytes = SharedBytes(kernel, shape);
  nvtxRangePushA(kernel.name);
  cudaError_t error = cudaSetDevice(impl_->device_index);
  // More than 48 KiB has to be asked for; the driver remembers, and asking again is cheap.
  if (error == cudaSuccess && shared_bytes > (size_t{48} << 10)) {
    error = cudaFuncSetAttribute(kernel.function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes));
  }
  if (error == cudaSuccess) {
    void* arguments[] = {const_cast<void*>(params)};
    const dim3 grid(static_cast<unsigned>(shape.grid.x), static_cast<unsigned>(shape.grid.y),
                    static_cast<unsigned>(shape.grid.z));
    // The kernel may begin before the one in front of it has ended (simt.h, WaitForEarlierKernels),
    // if it was compiled to wait: sm_80's code does not, on whatever device.
    cudaLaunchAttribute overlap{};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = dim3(static_cast<unsigned>(kernel.threads));
    config.dynamicSmemBytes = shared_bytes;
    config.stream = impl_->stream;
    config.attrs = &overlap;
    config.numAttrs = device_.impl_->kernels_wait ? 1 : 0;
    error = cudaLaunchKernelExC(&config, kernel.function, arguments);
  }
  nvtxRangePop();
  return FromCuda(error, kernel.name);
}

absl::Status Stream::BeginSlice(void*, size_t) { return absl::OkStatus(); }
absl::Status Stream::EndSlice(void*, size_t) { return absl::OkStatus(); }

}  // namespace bertrand::simt::inline SIMT_TARGET

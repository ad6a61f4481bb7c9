#pragma once

// The device runtime: memory, copies, streams, events, graphs and launches, with one interface over
// CUDA (device/runtime.cu, in libbertrand_cuda.so) and over the emulator (host/runtime.cc). Code
// above it (launchers, GpuBackend) is written once and compiled by nvcc and by the C++ compiler.
//
// A Device outlives what it made. Device is thread-safe; a Stream, a Graph and a Workspace are used
// by one thread at a time. Work on a stream is asynchronous and in order; host memory of copies
// stays untouched until Synchronize. The emulator works before it returns, so its errors come at
// once: Internal with the kernel's violation (docs/emulator.md). On CUDA, Synchronize brings errors
// of earlier work, and an Internal one is final: the device's context is lost.
//
// Errors: ResourceExhausted when there is no memory; InvalidArgument for geometry that the device
// does not take (also in the emulator, by its profile); Internal for all that CUDA says.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <typeinfo>
#include <utility>

#include "kernels/simt/types.h"
#include "kernels/status.h"
#include "kernels/tensor.h"
#ifndef __CUDACC__
#include "kernels/simt/host/emulator.h"
#endif
#include "kernels/simt/simt.h"

namespace bertrand::simt::inline SIMT_TARGET {

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;  // compute capability
  int multiprocessors = 0;
  size_t shared_bytes_per_block = 0;  // the most that a kernel may ask for
  size_t shared_bytes_per_multiprocessor = 0;
  size_t memory_bytes = 0;
  // False where kernels were compiled without sm_90a's instructions: for sm_90, or from PTX.
  bool has_hopper_code = true;
  // Whether the words of hopper.h work.
  bool runs_hopper() const { return major == 9 && minor == 0 && has_hopper_code; }
};

class Device;
class Stream;

// Memory on the device, or pinned on the host; freed with the object. Aligned to 256 bytes. What
// was not written is undefined, and in the emulator unreadable.
class Memory {
 public:
  Memory() = default;
  Memory(Memory&& other) noexcept { *this = std::move(other); }
  Memory& operator=(Memory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_bytes_, other.size_bytes_);
    std::swap(release_, other.release_);
    return *this;
  }
  ~Memory() {
    if (release_ != nullptr) release_(data_);
  }
  void* data() const { return data_; }
  size_t size_bytes() const { return size_bytes_; }

 private:
  friend class Device;
  Memory(void* data, size_t size_bytes, void (*release)(void*))
      : data_(data), size_bytes_(size_bytes), release_(release) {}
  void* data_ = nullptr;
  size_t size_bytes_ = 0;
  void (*release_)(void*) = nullptr;
};

// A point of a stream, to wait for.
class Event {
 public:
  ~Event();

 private:
  friend class Device;
  friend class Stream;
  explicit Event(void* handle) : handle_(handle) {}
  void* handle_;
};

// What a stream was asked for between BeginCapture and EndCapture, with its pointers and
// parameters.
class Graph {
 public:
  ~Graph();

 private:
  friend class Stream;
  struct Impl;
  explicit Graph(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct LaunchShape {
  Grid grid;
  int tail_bytes = 0;  // shared memory after the kernel's Layout (SharedTail)
};

// A kernel as the runtime sees it; Launch makes it.
struct KernelEntry {
  const char* name;
  int threads;
  size_t shared_bytes;
#ifdef __CUDACC__
  const void* function;  // of a __global__ function
#else
  void (*function)(const void* params);
#endif
  size_t params_bytes;
#ifndef __CUDACC__
  const char* type;  // as typeid names it
#endif
};

class Stream {
 public:
  ~Stream();

  absl::Status CopyToDevice(void* device, const void* host, size_t size_bytes);
  // The emulator refuses bytes that nobody wrote.
  absl::Status CopyToHost(void* host, const void* device, size_t size_bytes);
  absl::Status CopyOnDevice(void* to, const void* from, size_t size_bytes);
  absl::Status Fill(void* device, uint8_t value, size_t size_bytes);
  absl::Status Synchronize();

  absl::Status Record(Event& event);
  // What is asked of this stream from now on waits for what was recorded.
  absl::Status Wait(const Event& event);

  // Between the two, work is remembered and not done. EndCapture gives it; Run does it, again and
  // again. Synchronize, and copies to or from host memory that is not pinned, are not captured.
  absl::Status BeginCapture();
  absl::StatusOr<std::unique_ptr<Graph>> EndCapture();
  absl::Status Run(const Graph& graph);

  // Launch below is what to call. A grid of 0 is an error: callers return early.
  absl::Status LaunchKernel(const KernelEntry& kernel, const LaunchShape& shape,
                            const void* params);

  // For Workspace: the emulator makes the range uninitialised (unreachable); CUDA does nothing.
  absl::Status BeginSlice(void* slice, size_t size_bytes);
  absl::Status EndSlice(void* slice, size_t size_bytes);

  const Device& device() const { return device_; }
  // CUDA's cudaStream_t, for libraries; null in the emulator.
  void* handle() const;

 private:
  friend class Device;
  struct Impl;
  Stream(const Device& device, std::unique_ptr<Impl> impl);
  const Device& device_;
  std::unique_ptr<Impl> impl_;
};

class Device {
 public:
  // CUDA's device `index`. (The emulator: the profile of an H100, whatever the index.)
  // FailedPrecondition: no driver, or kernels were compiled for other devices.
  static absl::StatusOr<std::unique_ptr<Device>> Open(int index);
  ~Device();

  const DeviceInfo& info() const;
  // Makes it the calling thread's current device, which libraries go by. What is here does so
  // itself.
  absl::Status MakeCurrent() const;
  absl::StatusOr<Memory> Allocate(size_t size_bytes) const;
  absl::StatusOr<Memory> AllocatePinned(size_t size_bytes) const;
  absl::StatusOr<std::unique_ptr<Stream>> CreateStream() const;
  absl::StatusOr<std::unique_ptr<Event>> CreateEvent() const;

#ifndef __CUDACC__
  // An emulated device with these limits.
  static std::unique_ptr<Device> Emulated(const DeviceInfo& profile);
  // For launches from now on. Not while another thread launches.
  void set_emulation(const emulator::EmulationOptions& options);
  // What the launches of each kernel did since the last call, in the order of their names.
  std::vector<std::pair<std::string, emulator::LaunchReport>> TakeReports();
#endif

 private:
  friend class Stream;
  struct Impl;
  explicit Device(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Limits of real devices, for Device::Emulated and tests.
inline DeviceInfo ProfileA100() {
  return {"emulated A100", 8, 0, 108, size_t{163} << 10, size_t{164} << 10, size_t{80} << 30};
}
inline DeviceInfo ProfileL4() {
  return {"emulated L4", 8, 9, 58, size_t{99} << 10, size_t{100} << 10, size_t{24} << 30};
}
inline DeviceInfo ProfileH100() {
  return {"emulated H100", 9, 0, 132, size_t{227} << 10, size_t{228} << 10, size_t{80} << 30};
}

// Slices of one block of memory, given out in order and all taken back at once: what one forward
// needs beyond its operands. The emulator puts unreachable bytes behind each slice and forgets its
// contents whenever it is given out, in the stream's order, so also when a graph runs.
class Workspace {
 public:
  // What a slice of `size_bytes` takes up.
  static constexpr size_t SliceBytes(size_t size_bytes) {
    return (size_bytes + kAlignment - 1) / kAlignment * kAlignment + kAlignment;
  }

  Workspace() = default;
  explicit Workspace(Memory memory) : memory_(std::move(memory)) {}
  size_t size_bytes() const { return memory_.size_bytes(); }
  size_t used_bytes() const { return used_bytes_; }

  // Takes all slices back.
  absl::Status Reset(Stream& stream) {
    used_bytes_ = 0;
    return stream.EndSlice(memory_.data(), memory_.size_bytes());
  }
  // Aligned to 256 bytes. ResourceExhausted when the block is too small.
  absl::StatusOr<void*> Take(Stream& stream, size_t size_bytes) {
    const size_t taken = SliceBytes(size_bytes), left = memory_.size_bytes() - used_bytes_;
    if (taken > left) {
      return ResourceExhausted("a workspace slice of " + std::to_string(size_bytes) + " bytes; " +
                               std::to_string(left) + " of " +
                               std::to_string(memory_.size_bytes()) + " are left");
    }
    void* const slice = static_cast<char*>(memory_.data()) + used_bytes_;
    used_bytes_ += taken;
    BERTRAND_RETURN_IF_ERROR(stream.EndSlice(slice, taken));
    BERTRAND_RETURN_IF_ERROR(stream.BeginSlice(slice, size_bytes));
    return slice;
  }

 private:
  static constexpr size_t kAlignment = 256;
  Memory memory_;
  size_t used_bytes_ = 0;
};

// A tensor's elements as a view for kernels; absent operands stay absent. The caller has checked
// the type.
template <typename T>
Global<T> AsGlobal(const TensorView& view) {
  if (!view) return {};
  return Global<T>(view.as<T>(), view.num_elements());
}

// ---- Launch ----

template <typename Kernel>
constexpr size_t LayoutBytes() {
  if constexpr (requires { sizeof(typename Kernel::Layout); }) {
    return sizeof(typename Kernel::Layout);
  } else {
    return 0;
  }
}

template <typename Kernel>
constexpr int MinBlocks() {
  if constexpr (requires { Kernel::kMinBlocks; }) {
    return Kernel::kMinBlocks;
  } else {
    return 1;
  }
}

template <typename Kernel>
concept WaitsItself = requires {
  requires Kernel::kWaitsItself;
};

#ifdef __CUDACC__
// The next kernel begins as soon as all blocks of this one have: it takes no place from them.
template <typename Kernel>
__global__ void __launch_bounds__(Kernel::kThreads, MinBlocks<Kernel>())
    Entry(const __grid_constant__ typename Kernel::Params params) {
  LetNextKernelBegin();
  if constexpr (!WaitsItself<Kernel>) WaitForEarlierKernels();
  Kernel::Run(params);
}
#else
template <typename Kernel>
void Entry(const void* params) {
  if constexpr (!WaitsItself<Kernel>) WaitForEarlierKernels();
  Kernel::Run(*static_cast<const typename Kernel::Params*>(params));
}
#endif

template <typename Kernel>
absl::Status Launch(Stream& stream, const LaunchShape& shape,
                    const typename Kernel::Params& params) {
  static_assert(Kernel::kThreads % 32 == 0 && Kernel::kThreads >= 32 && Kernel::kThreads <= 1024);
  static_assert(std::is_trivially_copyable_v<typename Kernel::Params>);
#ifdef __CUDACC__
  const void* const function = reinterpret_cast<const void*>(&Entry<Kernel>);
#else
  void (*const function)(const void*) = &Entry<Kernel>;
#endif
  const KernelEntry entry = {
      Kernel::kName,
      Kernel::kThreads,
      LayoutBytes<Kernel>(),
      function,
      sizeof(typename Kernel::Params),
#ifndef __CUDACC__
      typeid(Kernel).name(),
#endif
  };
  return stream.LaunchKernel(entry, shape, &params);
}

}  // namespace bertrand::simt::inline SIMT_TARGET

#include "kernels/simt/runtime.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <vector>

#include "kernels/simt/launch_checks.h"
#include "kernels/status.h"

namespace bertrand::simt::emulator {
namespace {

std::atomic<uint64_t> num_graph_runs = 0;

}  // namespace

uint64_t NumGraphRuns() { return num_graph_runs; }

}  // namespace bertrand::simt::emulator

namespace bertrand::simt::inline SIMT_TARGET {

using emulator::arena;
using Work = std::function<absl::Status()>;

struct Device::Impl {
  DeviceInfo info;
  emulator::EmulationOptions options;
  std::mutex mutex;
  std::map<std::string, emulator::LaunchReport> reports;
};

struct Graph::Impl {
  std::vector<Work> works;
};

struct Stream::Impl {
  std::unique_ptr<Graph::Impl> capture;  // while capturing

  // Does the work now, or remembers it.
  absl::Status Do(Work work) {
    if (capture == nullptr) return work();
    capture->works.push_back(std::move(work));
    return absl::OkStatus();
  }
};

namespace {

absl::Status CheckReachable(const void* memory, size_t size_bytes, emulator::ByteState at_least,
                            const char* what) {
  if (size_bytes == 0) return absl::OkStatus();
  const size_t first = emulator::FirstBelow(memory, size_bytes, at_least);
  if (first == size_bytes) return absl::OkStatus();
  const bool outside = emulator::FirstBelow(memory, size_bytes, emulator::kUninitialised) == first;
  return Internal(std::string(what) + " of " + std::to_string(size_bytes) + " bytes: byte " +
                  std::to_string(first) +
                  (outside ? " is outside of the device's memory" : " has never been written"));
}

}  // namespace

Device::Device(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Device::~Device() = default;
Graph::Graph(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Graph::~Graph() = default;
Event::~Event() = default;
Stream::Stream(const Device& device, std::unique_ptr<Impl> impl)
    : device_(device), impl_(std::move(impl)) {}
Stream::~Stream() = default;
void* Stream::handle() const { return nullptr; }

absl::StatusOr<std::unique_ptr<Device>> Device::Open(int) { return Emulated(ProfileH100()); }

std::unique_ptr<Device> Device::Emulated(const DeviceInfo& profile) {
  emulator::ReserveArena();
  auto impl = std::make_unique<Impl>();
  impl->info = profile;
  return std::unique_ptr<Device>(new Device(std::move(impl)));
}

const DeviceInfo& Device::info() const { return impl_->info; }
absl::Status Device::MakeCurrent() const { return absl::OkStatus(); }

void Device::set_emulation(const emulator::EmulationOptions& options) { impl_->options = options; }

std::vector<std::pair<std::string, emulator::LaunchReport>> Device::TakeReports() {
  const std::lock_guard<std::mutex> lock(impl_->mutex);
  std::vector<std::pair<std::string, emulator::LaunchReport>> reports(impl_->reports.begin(),
                                                                      impl_->reports.end());
  impl_->reports.clear();
  return reports;
}

absl::StatusOr<Memory> Device::Allocate(size_t size_bytes) const {
  void* data = emulator::AllocateInArena(size_bytes);
  if (data == nullptr) {
    return ResourceExhausted("no " + std::to_string(size_bytes) + " bytes of emulated memory");
  }
  return Memory(data, size_bytes, emulator::FreeInArena);
}

absl::StatusOr<Memory> Device::AllocatePinned(size_t size_bytes) const {
  void* data = std::aligned_alloc(256, (size_bytes + 255) / 256 * 256 + 256);
  if (data == nullptr) return ResourceExhausted("no " + std::to_string(size_bytes) + " bytes");
  return Memory(data, size_bytes, std::free);
}

absl::StatusOr<std::unique_ptr<Stream>> Device::CreateStream() const {
  return std::unique_ptr<Stream>(new Stream(*this, std::make_unique<Stream::Impl>()));
}

absl::StatusOr<std::unique_ptr<Event>> Device::CreateEvent() const {
  return std::unique_ptr<Event>(new Event(nullptr));
}

absl::Status Stream::CopyToDevice(void* device, const void* host, size_t size_bytes) {
  return impl_->Do([=]() -> absl::Status {
    BERTRAND_RETURN_IF_ERROR(
        CheckReachable(device, size_bytes, emulator::kUninitialised, "a copy to the device"));
    emulator::Settle();
    std::memcpy(device, host, size_bytes);
    if (size_bytes > 0) emulator::MarkInitialised(device, size_bytes);
    return absl::OkStatus();
  });
}

absl::Status Stream::CopyToHost(void* host, const void* device, size_t size_bytes) {
  return impl_->Do([=]() -> absl::Status {
    BERTRAND_RETURN_IF_ERROR(
        CheckReachable(device, size_bytes, emulator::kInitialised, "a copy to the host"));
    emulator::Settle();
    std::memcpy(host, device, size_bytes);
    return absl::OkStatus();
  });
}

absl::Status Stream::CopyOnDevice(void* to, const void* from, size_t size_bytes) {
  return impl_->Do([=]() -> absl::Status {
    BERTRAND_RETURN_IF_ERROR(
        CheckReachable(from, size_bytes, emulator::kInitialised, "a copy on the device"));
    BERTRAND_RETURN_IF_ERROR(
        CheckReachable(to, size_bytes, emulator::kUninitialised, "a copy on the device"));
    emulator::Settle();
    std::memmove(to, from, size_bytes);
    if (size_bytes > 0) emulator::MarkInitialised(to, size_bytes);
    return absl::OkStatus();
  });
}

absl::Status Stream::Fill(void* device, uint8_t value, size_t size_bytes) {
  return impl_->Do([=]() -> absl::Status {
    BERTRAND_RETURN_IF_ERROR(
        CheckReachable(device, size_bytes, emulator::kUninitialised, "a fill"));
    emulator::Settle();
    std::memset(device, value, size_bytes);
    if (size_bytes > 0) emulator::MarkInitialised(device, size_bytes);
    return absl::OkStatus();
  });
}

absl::Status Stream::Synchronize() {
  if (impl_->capture != nullptr) return FailedPrecondition("Synchronize while capturing");
  emulator::Settle();
  return absl::OkStatus();
}

absl::Status Stream::Record(Event&) { return absl::OkStatus(); }
absl::Status Stream::Wait(const Event&) { return absl::OkStatus(); }

absl::Status Stream::BeginCapture() {
  if (impl_->capture != nullptr) return FailedPrecondition("the stream is capturing already");
  impl_->capture = std::make_unique<Graph::Impl>();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Graph>> Stream::EndCapture() {
  if (impl_->capture == nullptr) return FailedPrecondition("the stream is not capturing");
  return std::unique_ptr<Graph>(new Graph(std::move(impl_->capture)));
}

absl::Status Stream::Run(const Graph& graph) {
  if (impl_->capture != nullptr) return FailedPrecondition("a graph runs while capturing");
  ++emulator::num_graph_runs;
  for (const Work& work : graph.impl_->works) BERTRAND_RETURN_IF_ERROR(work());
  return absl::OkStatus();
}

absl::Status Stream::LaunchKernel(const KernelEntry& kernel, const LaunchShape& shape,
                                  const void* params) {
  BERTRAND_RETURN_IF_ERROR(CheckLaunch(device_.info(), kernel, shape));
  const char* bytes = static_cast<const char*>(params);
  return impl_->Do([kernel, shape, device = device_.impl_.get(),
                    copy = std::vector<char>(bytes, bytes + kernel.params_bytes)] {
    emulator::LaunchReport report;
    const absl::Status status =
        emulator::Emulate({kernel.name, kernel.type, shape.grid, kernel.threads,
                           SharedBytes(kernel, shape), kernel.function, copy.data()},
                          device->options, &report);
    const std::lock_guard<std::mutex> lock(device->mutex);
    device->reports[kernel.name] += report;
    return status;
  });
}

absl::Status Stream::BeginSlice(void* slice, size_t size_bytes) {
  return impl_->Do([=] {
    emulator::MarkUninitialised(slice, size_bytes);
    return absl::OkStatus();
  });
}

absl::Status Stream::EndSlice(void* slice, size_t size_bytes) {
  return impl_->Do([=] {
    emulator::MarkUnallocated(slice, size_bytes);
    return absl::OkStatus();
  });
}

}  // namespace bertrand::simt::inline SIMT_TARGET

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>
#include <utility>

#include "kernels/gpu/copy.h"
#include "kernels/gpu/gpu_stream.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

// Elements [first, first + count) in a row.
TensorView Elements(const TensorView& view, int64_t first, int64_t count) {
  return {
      view.as<char>() + static_cast<size_t>(first) * SizeOf(view.dtype()), view.dtype(), {count}};
}

bool IsAligned(const TensorView& view) {
  return reinterpret_cast<uintptr_t>(view.data()) % 16 == 0;
}

// Without branches, so that compilers vectorise it. Subnormal numbers, too, are right after the
// multiplication.
float HalfToFloat(uint16_t half) {
  const uint32_t magnitude = uint32_t{half} & 0x7fffu;
  const float scaled = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  const uint32_t special = magnitude >= 0x7c00u ? 0x7f800000u : 0u;  // infinity and NaN
  const uint32_t sign = (uint32_t{half} & 0x8000u) << 16;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(scaled) | special | sign);
}

float BFloatToFloat(uint16_t bfloat) { return std::bit_cast<float>(uint32_t{bfloat} << 16); }

template <float (*kToFloat)(uint16_t)>
void Widen(const char* from, size_t count, void* to) {
  const auto* const values = reinterpret_cast<const uint16_t*>(from);
  auto* const floats = static_cast<float*>(to);
  for (size_t i = 0; i < count; ++i) floats[i] = kToFloat(values[i]);
}

void Deliver(const char* from, DType dtype, size_t count, void* to) {
  if (dtype == DType::kFloat16) {
    Widen<HalfToFloat>(from, count, to);
  } else if (dtype == DType::kBFloat16) {
    Widen<BFloatToFloat>(from, count, to);
  } else {
    std::memcpy(to, from, count * SizeOf(dtype));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<GpuStream>> GpuStream::Create(const simt::Device& device,
                                                             int64_t max_tokens,
                                                             size_t workspace_bytes) {
  auto stream = std::make_unique<GpuStream>();
  stream->max_tokens_ = max_tokens;
  stream->num_rings_ = static_cast<size_t>(max_tokens) + kMoreRings;
  const size_t rings_bytes = stream->num_rings_ * sizeof(MemoryRing);
  constexpr size_t kStagingBytes = kStagingValues * (sizeof(float) + sizeof(uint16_t));
  BERTRAND_ASSIGN_OR_RETURN(stream->stream_, device.CreateStream());
  BERTRAND_ASSIGN_OR_RETURN(stream->staging_, device.Allocate(kStagingBytes));
  BERTRAND_ASSIGN_OR_RETURN(stream->workspace_, device.Allocate(workspace_bytes));
  BERTRAND_ASSIGN_OR_RETURN(stream->rings_, device.Allocate(rings_bytes));
  BERTRAND_ASSIGN_OR_RETURN(stream->host_rings_, device.AllocatePinned(rings_bytes));
  BERTRAND_ASSIGN_OR_RETURN(stream->arrival_memory_, device.AllocatePinned(kArrivalBytes));
  stream->arrivals_.reserve(kArrivalsMax);
  stream->recorded_.reserve(kGraphsMax);
  return stream;
}

absl::Status GpuStream::WriteFloats(std::span<const float> host, const TensorView& device,
                                    float scale) {
  if (device.dtype() == DType::kFloat32) {
    return stream_->CopyToDevice(device.data(), host.data(), host.size_bytes());
  }
  char* const staging = static_cast<char*>(staging_.data());
  const auto size = static_cast<int64_t>(host.size());
  for (int64_t first = 0; first < size; first += kStagingValues) {
    const int64_t count = std::min(kStagingValues, size - first);
    const TensorView from(staging, DType::kFloat32, {count});
    const TensorView to = Elements(device, first, count);
    BERTRAND_RETURN_IF_ERROR(
        stream_->CopyToDevice(from.data(), host.data() + first, from.size_bytes()));
    if (IsAligned(to)) {
      BERTRAND_RETURN_IF_ERROR(Convert(from, to, *stream_, scale));
      continue;
    }
    const TensorView narrow(staging + kStagingValues * sizeof(float), to.dtype(), {count});
    BERTRAND_RETURN_IF_ERROR(Convert(from, narrow, *stream_, scale));
    BERTRAND_RETURN_IF_ERROR(stream_->CopyOnDevice(to.data(), narrow.data(), to.size_bytes()));
  }
  return absl::OkStatus();
}

absl::StatusOr<size_t> GpuStream::MakeRoom(size_t count, size_t element_bytes) {
  arrival_bytes_used_ = (arrival_bytes_used_ + 15) / 16 * 16;
  if (arrival_bytes_used_ + element_bytes > kArrivalBytes || arrivals_.size() == kArrivalsMax) {
    BERTRAND_RETURN_IF_ERROR(Synchronize());
  }
  return std::min(count, (kArrivalBytes - arrival_bytes_used_) / element_bytes);
}

absl::Status GpuStream::CopyToHost(const TensorView& x, std::span<const std::span<float>> parts) {
  const size_t element = SizeOf(x.dtype());
  const char* from = x.as<char>();
  auto left = static_cast<size_t>(x.num_elements());
  size_t part = 0, done = 0;  // parts that are complete, values of the next one
  while (left > 0) {
    BERTRAND_ASSIGN_OR_RETURN(const size_t room, MakeRoom(left, element));
    char* at = static_cast<char*>(arrival_memory_.data()) + arrival_bytes_used_;
    const char* const begin = at;
    size_t count = 0;
    while (count < room && arrivals_.size() < kArrivalsMax) {
      const size_t some = std::min(room - count, parts[part].size() - done);
      if (some > 0) arrivals_.push_back({at, parts[part].data() + done, some, x.dtype()});
      at += some * element;
      count += some;
      done += some;
      if (done == parts[part].size()) {
        ++part;
        done = 0;
      }
    }
    BERTRAND_RETURN_IF_ERROR(stream_->CopyToHost(const_cast<char*>(begin), from, count * element));
    arrival_bytes_used_ += count * element;
    from += count * element;
    left -= count;
  }
  return absl::OkStatus();
}

absl::Status GpuStream::CopyToHost(const TensorView& x, std::span<int32_t> host) {
  size_t first = 0;
  while (first < host.size()) {
    BERTRAND_ASSIGN_OR_RETURN(const size_t count, MakeRoom(host.size() - first, sizeof(int32_t)));
    char* const at = static_cast<char*>(arrival_memory_.data()) + arrival_bytes_used_;
    arrivals_.push_back({at, host.data() + first, count, DType::kInt32});
    BERTRAND_RETURN_IF_ERROR(
        stream_->CopyToHost(at, x.as<int32_t>() + first, count * sizeof(int32_t)));
    arrival_bytes_used_ += count * sizeof(int32_t);
    first += count;
  }
  return absl::OkStatus();
}

absl::Status GpuStream::Synchronize() {
  const absl::Status status = stream_->Synchronize();
  if (status.ok()) {
    for (const Arrival& arrival : arrivals_) {
      Deliver(arrival.from, arrival.dtype, arrival.count, arrival.to);
    }
  }
  arrivals_.clear();
  arrival_bytes_used_ = 0;
  rings_used_ = 0;
  return status;
}

GpuStream::Recorded& GpuStream::Find(uint64_t key) {
  const auto found = std::find_if(recorded_.begin(), recorded_.end(),
                                  [key](const Recorded& one) { return one.key == key; });
  if (found != recorded_.end()) return *found;
  if (recorded_.size() < kGraphsMax) return recorded_.emplace_back(Recorded{key, 0, nullptr});
  Recorded& oldest = *std::min_element(
      recorded_.begin(), recorded_.end(),
      [](const Recorded& a, const Recorded& b) { return a.last_run < b.last_run; });
  oldest = {key, 0, nullptr};
  return oldest;
}

absl::StatusOr<std::unique_ptr<simt::Graph>> GpuStream::Record(
    const std::function<absl::Status()>& work) {
  BERTRAND_RETURN_IF_ERROR(stream_->BeginCapture());
  const absl::Status status = work();
  auto graph = stream_->EndCapture();  // in any case, or the stream stays as it is
  if (!status.ok()) return status;
  return graph;
}

absl::Status GpuStream::Replay(uint64_t key, uint64_t tuning,
                               const std::function<absl::Status()>& work) {
  if (std::exchange(tuning_, tuning) != tuning) recorded_.clear();
  Recorded& recorded = Find(key);
  const bool is_first = recorded.last_run == 0;
  recorded.last_run = ++num_runs_;
  if (is_first) return work();
  if (recorded.graph == nullptr) {
    BERTRAND_ASSIGN_OR_RETURN(recorded.graph, Record(work));
  }
  return stream_->Run(*recorded.graph);
}

absl::StatusOr<std::span<MemoryRing>> GpuStream::TakeRings(size_t count) {
  if (count > num_rings_) {
    return InvalidArgument("RelativeAttention: " + std::to_string(count) +
                           " sequences on a stream with room for " + std::to_string(num_rings_));
  }
  if (count > num_rings_ - rings_used_) BERTRAND_RETURN_IF_ERROR(Synchronize());
  MemoryRing* const rings = static_cast<MemoryRing*>(host_rings_.data()) + rings_used_;
  rings_used_ += count;
  return std::span<MemoryRing>(rings, count);
}

absl::StatusOr<const MemoryRing*> GpuStream::CopyRings(std::span<const MemoryRing> rings) {
  BERTRAND_RETURN_IF_ERROR(stream_->CopyToDevice(rings_.data(), rings.data(), rings.size_bytes()));
  return static_cast<const MemoryRing*>(rings_.data());
}

}  // namespace bertrand::gpu::inline SIMT_TARGET

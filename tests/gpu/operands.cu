#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "kernels/status.h"
#include "tests/gpu/operands.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

// A floating type's bits.
struct Format {
  int exponent_bits, mantissa_bits;
  int width() const { return 1 + exponent_bits + mantissa_bits; }
  uint32_t exponent_mask() const { return ((1u << exponent_bits) - 1) << mantissa_bits; }
};

Format FormatOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat16:
      return {5, 10};
    case DType::kBFloat16:
      return {8, 7};
    case DType::kFloat8:
      return {4, 3};
    default:
      return {8, 23};
  }
}

uint64_t Next(uint64_t& state) {
  state = state * 6364136223846793005u + 1442695040888963407u;
  return state >> 33;
}

// What tensors are filled with, again and again: numbers of either sign.
constexpr size_t kBlockValues = size_t{1} << 20;

const std::vector<char>& RandomBlock(DType dtype, int exponent) {
  static std::map<std::pair<DType, int>, std::vector<char>> blocks;
  std::vector<char>& block = blocks[{dtype, exponent}];
  if (!block.empty()) return block;
  const Format format = FormatOf(dtype);
  const int bias = (1 << (format.exponent_bits - 1)) - 1;
  block.resize(kBlockValues * SizeOf(dtype));
  uint64_t state = 1;
  for (size_t i = 0; i < kBlockValues; ++i) {
    const auto random = static_cast<uint32_t>(Next(state));
    const uint32_t bits = (random & ((1u << format.mantissa_bits) - 1)) |
                          static_cast<uint32_t>(exponent + bias) << format.mantissa_bits |
                          (random >> 30) << (format.width() - 1);
    std::memcpy(&block[i * SizeOf(dtype)], &bits, SizeOf(dtype));
  }
  return block;
}

// Whether the little-endian value is a finite number, or an index.
bool IsProper(DType dtype, const char* bytes) {
  uint32_t bits = 0;
  std::memcpy(&bits, bytes, SizeOf(dtype));
  if (dtype == DType::kInt32) return static_cast<int32_t>(bits) >= 0;
  if (dtype == DType::kFloat8) return (bits & 0x7f) != 0x7f;
  const uint32_t mask = FormatOf(dtype).exponent_mask();
  return (bits & mask) != mask;
}

TensorView View(void* data, DType dtype, std::initializer_list<int64_t> shape) {
  return data == nullptr ? TensorView() : TensorView(data, dtype, shape);
}

size_t BytesOf(DType dtype, std::initializer_list<int64_t> shape) {
  size_t count = 1;
  for (const int64_t dim : shape) count *= static_cast<size_t>(dim);
  return count * SizeOf(dtype);
}

}  // namespace

void Operands::Keep(const absl::Status& status) {
  if (status_.ok()) status_ = status;
}

void* Operands::Allocate(size_t size_bytes) {
  if (!status_.ok()) return nullptr;
  absl::StatusOr<simt::Memory> memory = stream_.device().Allocate(size_bytes);
  Keep(memory.status());
  if (!memory.ok()) return nullptr;
  size_bytes_ += size_bytes;
  memory_.push_back(*std::move(memory));
  return memory_.back().data();
}

TensorView Operands::Random(DType dtype, std::initializer_list<int64_t> shape, int exponent) {
  const size_t size_bytes = BytesOf(dtype, shape);
  char* const data = static_cast<char*>(Allocate(size_bytes));
  if (data == nullptr) return {};
  const std::vector<char>& block = RandomBlock(dtype, exponent);
  // Every tensor begins elsewhere in the block.
  size_t from = Next(seed_) % (kBlockValues / 2) * SizeOf(dtype);
  for (size_t done = 0; done < size_bytes;) {
    const size_t part = std::min(size_bytes - done, block.size() - from);
    Keep(stream_.CopyToDevice(data + done, &block[from], part));
    done += part;
    from = 0;
  }
  return View(data, dtype, shape);
}

void* Operands::Bytes(std::vector<char> host) {
  void* const data = Allocate(host.size());
  if (data == nullptr) return nullptr;
  host_.push_back(std::make_unique<std::vector<char>>(std::move(host)));
  Keep(stream_.CopyToDevice(data, host_.back()->data(), host_.back()->size()));
  return data;
}

TensorView Operands::Ints(std::vector<int32_t> values) {
  std::vector<char> bytes(values.size() * sizeof(int32_t));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return View(Bytes(std::move(bytes)), DType::kInt32, {static_cast<int64_t>(values.size())});
}

TensorView Operands::Ids(int64_t count, int64_t below) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(Next(seed_) % static_cast<uint64_t>(below));
  }
  return Ints(std::move(ids));
}

TensorView Operands::Scalar(float value) {
  const auto bytes = std::bit_cast<std::array<char, sizeof(float)>>(value);
  return View(Bytes({bytes.begin(), bytes.end()}), DType::kFloat32, {1});
}

TensorView Operands::Output(DType dtype, std::initializer_list<int64_t> shape) {
  const TensorView view = View(Workspace(BytesOf(dtype, shape)), dtype, shape);
  if (view) outputs_.push_back(view);
  return view;
}

TensorView Operands::Zeros(DType dtype, std::initializer_list<int64_t> shape) {
  const size_t size_bytes = BytesOf(dtype, shape);
  void* const data = Allocate(size_bytes);
  if (data != nullptr) Keep(stream_.Fill(data, 0, size_bytes));
  return View(data, dtype, shape);
}

void* Operands::Workspace(size_t size_bytes) {
  void* const data = Allocate(size_bytes);
  if (data != nullptr) Keep(stream_.Fill(data, 0xff, size_bytes));
  return data;
}

absl::Status Operands::CheckOutputs() {
  for (const TensorView& view : outputs_) {
    std::vector<char> bytes(view.size_bytes());
    BERTRAND_RETURN_IF_ERROR(stream_.CopyToHost(bytes.data(), view.data(), bytes.size()));
    BERTRAND_RETURN_IF_ERROR(stream_.Synchronize());
    const size_t size = SizeOf(view.dtype());
    for (size_t i = 0; i < bytes.size(); i += size) {
      if (IsProper(view.dtype(), &bytes[i])) continue;
      return Internal("element " + std::to_string(i / size) + " of the output " + view.ToString() +
                      " was not written, or is no finite number");
    }
  }
  return absl::OkStatus();
}

}  // namespace bertrand::gpu::inline SIMT_TARGET

#include "models/checkpoint/safetensors.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "kernels/status.h"
#include "models/checkpoint/json.h"

namespace bertrand {
namespace {

absl::StatusOr<StoredTensor> ParseTensor(const std::string& name, const Json& entry,
                                         uint64_t data_begin, uint64_t data_bytes) {
  StoredTensor tensor;
  tensor.name = name;
  const Json* dtype = entry.Find("dtype");
  const Json* shape = entry.Find("shape");
  const Json* offsets = entry.Find("data_offsets");
  if (dtype == nullptr || dtype->as_string() == nullptr || shape == nullptr || !shape->is_array() ||
      offsets == nullptr || !offsets->is_array() || offsets->elements().size() != 2) {
    return InvalidArgument(
        "expected an object with dtype (a string), shape (an array) and "
        "data_offsets (two integers)");
  }
  tensor.dtype = *dtype->as_string();
  const std::optional<uint64_t> bits = ElementBits(tensor.dtype);
  if (!bits) return InvalidArgument("unknown dtype \"" + tensor.dtype + "\"");
  if (shape->elements().size() > kTensorRankMax) {
    return InvalidArgument("shape has " + std::to_string(shape->elements().size()) +
                           " dimensions, expected at most " + std::to_string(kTensorRankMax));
  }
  for (const Json& dim : shape->elements()) {
    const std::optional<int64_t> value = dim.as_int();
    if (!value) return InvalidArgument("shape has a value that is no integer");
    tensor.shape.push_back(*value);
  }
  const std::optional<int64_t> begin = offsets->elements()[0].as_int();
  const std::optional<int64_t> end = offsets->elements()[1].as_int();
  if (!begin || !end || *begin < 0 || *end < *begin) {
    return InvalidArgument("data_offsets are no two integers with 0 <= begin <= end");
  }
  if (static_cast<uint64_t>(*end) > data_bytes) {
    return InvalidArgument("data_offsets end at " + std::to_string(*end) + ", the file has " +
                           std::to_string(data_bytes) + " bytes of data: it is truncated");
  }
  const std::optional<uint64_t> bytes = TensorBytes(tensor.shape, *bits);
  if (!bytes || *bytes != static_cast<uint64_t>(*end - *begin)) {
    return InvalidArgument(tensor.ToString() + " takes " +
                           (bytes ? std::to_string(*bytes) : "too many") +
                           " bytes, data_offsets give " + std::to_string(*end - *begin));
  }
  tensor.begin = data_begin + static_cast<uint64_t>(*begin);
  tensor.end = data_begin + static_cast<uint64_t>(*end);
  return tensor;
}

absl::Status CheckMetadata(const Json& metadata) {
  if (!metadata.is_object()) {
    return InvalidArgument(std::string("__metadata__ is ") + metadata.KindName() +
                           ", expected an object");
  }
  for (const auto& [key, value] : metadata.members()) {
    if (!value.is_string()) {
      return InvalidArgument("__metadata__: \"" + key + "\" is " + value.KindName() +
                             ", expected a string");
    }
  }
  return absl::OkStatus();
}

// The tensors, which are sorted by offset here, must follow one another from the first byte to the
// last.
absl::Status CheckCoverage(std::vector<StoredTensor>& tensors, uint64_t data_begin,
                           uint64_t file_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t expected = data_begin;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.begin != expected) {
      return InvalidArgument("tensor \"" + tensor.name + "\" begins at byte " +
                             std::to_string(tensor.begin - data_begin) + " of the data, expected " +
                             std::to_string(expected - data_begin) +
                             (tensor.begin < expected ? ": it overlaps another" : ": a hole"));
    }
    expected = tensor.end;
  }
  if (expected != file_bytes) {
    return InvalidArgument("tensors end at byte " + std::to_string(expected) + ", the file has " +
                           std::to_string(file_bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> ReadHeaderLength(const File& file) {
  const uint64_t file_bytes = file.size_bytes();
  BERTRAND_RETURN_IF_ERROR(CheckNoLfsPointer(file));
  if (file_bytes < 8) {
    return InvalidArgument("has " + std::to_string(file_bytes) +
                           " bytes, expected at least 8: it is truncated or no safetensors file");
  }
  uint64_t header_bytes = 0;
  BERTRAND_RETURN_IF_ERROR(file.ReadAt(0, &header_bytes, sizeof header_bytes));
  if (header_bytes > SafetensorsFile::kHeaderBytesMax) {
    return InvalidArgument("gives a header of " + std::to_string(header_bytes) +
                           " bytes, expected at most " +
                           std::to_string(SafetensorsFile::kHeaderBytesMax) +
                           ": it is no safetensors file or damaged");
  }
  if (header_bytes > file_bytes - 8) {
    return InvalidArgument("has " + std::to_string(file_bytes) +
                           " bytes, its header alone ends at " + std::to_string(header_bytes + 8) +
                           ": it is truncated");
  }
  return header_bytes;
}

absl::StatusOr<std::vector<StoredTensor>> ReadTensors(const File& file) {
  BERTRAND_ASSIGN_OR_RETURN(const uint64_t header_bytes, ReadHeaderLength(file));
  std::string text(header_bytes, '\0');
  BERTRAND_RETURN_IF_ERROR(file.ReadAt(8, text.data(), text.size()));
  if (!text.starts_with('{')) return InvalidArgument("has a header that does not begin with '{'");
  BERTRAND_ASSIGN_OR_RETURN(const Json header, Json::ParseOwned(std::move(text), "header"));
  const uint64_t data_begin = 8 + header_bytes;
  std::vector<StoredTensor> tensors;
  tensors.reserve(header.members().size());
  for (const auto& [name, entry] : header.members()) {
    if (name == "__metadata__") {
      BERTRAND_RETURN_IF_ERROR(CheckMetadata(entry));
      continue;
    }
    absl::StatusOr<StoredTensor> tensor =
        ParseTensor(name, entry, data_begin, file.size_bytes() - data_begin);
    if (!tensor.ok()) return Annotate(tensor.status(), "tensor \"" + name + "\"");
    tensors.push_back(*std::move(tensor));
  }
  BERTRAND_RETURN_IF_ERROR(CheckCoverage(tensors, data_begin, file.size_bytes()));
  return tensors;
}

}  // namespace

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  BERTRAND_ASSIGN_OR_RETURN(File file, File::Open(path));
  absl::StatusOr<std::vector<StoredTensor>> tensors = ReadTensors(file);
  if (!tensors.ok()) return Annotate(tensors.status(), path);
  return SafetensorsFile(TensorFile(std::move(file), *std::move(tensors)));
}

}  // namespace bertrand

#include "models/checkpoint/torch_file.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/status.h"
#include "models/checkpoint/pickle.h"
#include "models/checkpoint/zip_archive.h"

namespace bertrand {
namespace {

using Kind = PickleValue::Kind;

// A storage's bytes in the file.
struct Extent {
  uint64_t begin = 0, size_bytes = 0;
};
// By key; the views are of the reader's text.
using Storages = std::map<std::string_view, Extent>;

absl::StatusOr<uint64_t> StorageBytes(const PickledStorage& storage) {
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(storage.num_elements),
                             *ElementBits(storage.dtype) / 8, &bytes)) {
    return InvalidArgument("a storage has " + std::to_string(storage.num_elements) + " elements");
  }
  return bytes;
}

// One past the last element that the tensor reaches, counted from its first; empty on overflow.
std::optional<uint64_t> Reach(const StoredTensor& tensor) {
  uint64_t reach = 1;
  for (size_t i = 0; i < tensor.shape.size(); ++i) {
    if (tensor.shape[i] == 0) return 0;
    uint64_t step = 0;
    if (__builtin_mul_overflow(static_cast<uint64_t>(tensor.shape[i] - 1),
                               static_cast<uint64_t>(tensor.strides[i]), &step) ||
        __builtin_add_overflow(reach, step, &reach)) {
      return std::nullopt;
    }
  }
  return reach;
}

absl::StatusOr<StoredTensor> MakeTensor(const PickleReader& reader, const PickledTensor& pickled,
                                        const Storages& storages) {
  const PickledStorage& storage = reader.Storage(pickled.storage_index);
  const auto shape = reader.Tuple(pickled.shape), strides = reader.Tuple(pickled.strides);
  StoredTensor tensor;
  tensor.dtype = storage.dtype;
  for (size_t i = 0; i < shape.size(); ++i) {
    tensor.shape.push_back(shape[i].integer);
    tensor.strides.push_back(strides[i].integer);
  }
  BERTRAND_ASSIGN_OR_RETURN(const uint64_t storage_bytes, StorageBytes(storage));
  const uint64_t element_bytes = *ElementBits(storage.dtype) / 8;
  const std::optional<uint64_t> bytes = TensorBytes(tensor.shape, element_bytes * 8);
  const std::optional<uint64_t> reach = Reach(tensor);
  const auto num_elements = static_cast<uint64_t>(storage.num_elements);
  const auto offset = static_cast<uint64_t>(pickled.offset);
  if (!bytes || !reach || offset > num_elements || *reach > num_elements - offset ||
      *bytes > storage_bytes) {
    return InvalidArgument(tensor.ToString() + " with strides " + ShapeString(tensor.strides) +
                           " from element " + std::to_string(pickled.offset) +
                           " does not lie in its storage of " + std::to_string(num_elements));
  }
  const std::string_view key = reader.Text(storage.key);
  const auto extent = storages.find(key);
  if (extent == storages.end() || extent->second.size_bytes != storage_bytes) {
    return InvalidArgument(
        "storage \"" + Printable(key) + "\" should have " + std::to_string(storage_bytes) +
        " bytes, the file has " +
        (extent == storages.end() ? "none of it" : std::to_string(extent->second.size_bytes)));
  }
  tensor.begin = extent->second.begin + offset * element_bytes;
  tensor.end = tensor.begin + *reach * element_bytes;
  if (IsRowMajor(tensor.shape, tensor.strides)) tensor.strides.clear();
  return tensor;
}

// What the dict has instead of tensors: for the message.
absl::Status NoTensors(const PickleReader& reader, const PickleValue& top) {
  std::string keys;
  for (const auto& [key, value] : reader.Dict(top)) {
    if (key.kind != Kind::kString || keys.size() > 100) continue;
    keys += (keys.empty() ? "" : ", ") + ("\"" + Printable(reader.Text(key)) + "\"");
  }
  return InvalidArgument("holds a dict without tensors" + (keys.empty() ? keys : ", of " + keys) +
                         "; expected the state dict itself: name -> tensor");
}

absl::StatusOr<std::vector<StoredTensor>> MakeTensors(PickleReader& reader, const PickleValue& top,
                                                      const Storages& storages,
                                                      uint64_t file_bytes) {
  if (top.kind != Kind::kDict) {
    return InvalidArgument("does not hold a dict of tensors, but one object");
  }
  std::vector<StoredTensor> tensors;
  uint64_t total_bytes = 0;
  for (const auto& [key, value] : reader.Dict(top)) {
    if (key.kind != Kind::kString || value.kind != Kind::kTensor) continue;
    const PickledTensor& pickled = reader.Tensor(value);
    const std::string name(reader.Text(key));
    const size_t rank = reader.Tuple(pickled.shape).size();
    if (rank > kTensorRankMax) {
      return InvalidArgument("tensor \"" + Printable(name) + "\" has " + std::to_string(rank) +
                             " dimensions, expected at most " + std::to_string(kTensorRankMax));
    }
    BERTRAND_RETURN_IF_ERROR(
        reader.Charge(sizeof(StoredTensor) + name.size() + 2 * rank * sizeof(int64_t)));
    absl::StatusOr<StoredTensor> tensor = MakeTensor(reader, pickled, storages);
    if (!tensor.ok()) return Annotate(tensor.status(), "tensor \"" + Printable(name) + "\"");
    total_bytes += *TensorBytes(tensor->shape, *ElementBits(tensor->dtype));
    if (total_bytes > kSharingMax * file_bytes) {
      return InvalidArgument("tensors share storages so that they are more than " +
                             std::to_string(kSharingMax) + " times the file's size");
    }
    tensor->name = name;
    tensors.push_back(*std::move(tensor));
  }
  if (tensors.empty()) return NoTensors(reader, top);
  return tensors;
}

absl::Status CheckDuplicates(const TensorFile& file) {
  const std::vector<StoredTensor>& tensors = file.tensors();
  for (size_t i = 1; i < tensors.size(); ++i) {
    if (tensors[i - 1].name == tensors[i].name) {
      return InvalidArgument("has two tensors \"" + Printable(tensors[i].name) + "\"");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckByteOrder(const File& file, const ZipEntry* entry) {
  if (entry == nullptr) return absl::OkStatus();
  std::string order(std::min<uint64_t>(entry->size_bytes, 16), '\0');
  BERTRAND_RETURN_IF_ERROR(file.ReadAt(entry->begin, order.data(), order.size()));
  if (order == "little") return absl::OkStatus();
  return InvalidArgument("byteorder is \"" + Printable(order) + "\", expected \"little\"");
}

absl::StatusOr<std::vector<StoredTensor>> ReadZip(const File& file) {
  BERTRAND_ASSIGN_OR_RETURN(const ZipArchive archive, ZipArchive::Read(file));
  if (archive.entries().empty()) return InvalidArgument("is an empty zip archive");
  const std::string& first = archive.entries()[0].name;
  const std::string folder = first.substr(0, first.find('/')) + "/";
  const ZipEntry* pickle = archive.Find(folder + "data.pkl");
  if (pickle == nullptr) {
    return InvalidArgument("is a zip archive without " + Printable(folder) +
                           "data.pkl: not written by torch.save");
  }
  BERTRAND_RETURN_IF_ERROR(CheckByteOrder(file, archive.Find(folder + "byteorder")));
  if (pickle->size_bytes > PickleReader::kPickleBytesMax) {
    return InvalidArgument("data.pkl has " + std::to_string(pickle->size_bytes) +
                           " bytes, expected at most " +
                           std::to_string(PickleReader::kPickleBytesMax));
  }
  BERTRAND_ASSIGN_OR_RETURN(const uint32_t crc, Crc32(file, pickle->begin, pickle->size_bytes));
  if (crc != pickle->crc32) return InvalidArgument("data.pkl is damaged: its checksum is wrong");
  PickleReader reader(file, pickle->begin, pickle->begin + pickle->size_bytes);
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue top, reader.Next());
  Storages storages;
  for (const PickledStorage& storage : reader.storages()) {
    const std::string_view key = reader.Text(storage.key);
    if (storages.contains(key)) continue;
    const ZipEntry* entry = archive.Find(folder + "data/" + std::string(key));
    if (entry != nullptr) storages[key] = {entry->begin, entry->size_bytes};
  }
  return MakeTensors(reader, top, storages, file.size_bytes());
}

// Magic number, protocol version, and sizes of the machine that wrote.
absl::Status CheckLegacyStart(PickleReader& reader) {
  constexpr std::string_view kMagic("\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", 10);
  constexpr int64_t kProtocol = 1001;
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue magic, reader.Next());
  if (magic.kind != Kind::kLong || reader.Text(magic) != kMagic) {
    return InvalidArgument("is a pickle, but not one that torch.save wrote");
  }
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue protocol, reader.Next());
  if (protocol.kind != Kind::kInt || protocol.integer != kProtocol) {
    return InvalidArgument("has an unknown version of torch.save's legacy format, expected " +
                           std::to_string(kProtocol));
  }
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue machine, reader.Next());
  if (machine.kind != Kind::kDict) return InvalidArgument("has a damaged legacy header");
  for (const auto& [key, value] : reader.Dict(machine)) {
    if (key.kind == Kind::kString && reader.Text(key) == "little_endian" &&
        (value.kind != Kind::kBool || value.integer != 1)) {
      return InvalidArgument("was written on a big-endian machine, which is not read");
    }
  }
  return absl::OkStatus();
}

// The storages in the order of their keys, from where the pickles end.
absl::StatusOr<Storages> ReadLegacyStorages(const File& file, const PickleReader& reader,
                                            const PickleValue& keys) {
  if (keys.kind != Kind::kList) return InvalidArgument("has no list of storages after its dict");
  std::map<std::string_view, uint64_t> element_bytes;
  for (const PickledStorage& storage : reader.storages()) {
    element_bytes.emplace(reader.Text(storage.key), *ElementBits(storage.dtype) / 8);
  }
  Storages storages;
  uint64_t offset = reader.position();
  for (const PickleValue& key : reader.List(keys)) {
    const auto known =
        key.kind == Kind::kString ? element_bytes.find(reader.Text(key)) : element_bytes.end();
    if (known == element_bytes.end()) {
      return InvalidArgument("lists a storage that no tensor names");
    }
    int64_t num_elements = 0;
    uint64_t bytes = 0;
    const uint64_t rest = file.size_bytes() - offset;
    if (rest < sizeof num_elements) return InvalidArgument("ends within its storages: truncated");
    BERTRAND_RETURN_IF_ERROR(file.ReadAt(offset, &num_elements, sizeof num_elements));
    if (num_elements < 0 ||
        __builtin_mul_overflow(static_cast<uint64_t>(num_elements), known->second, &bytes) ||
        bytes > rest - sizeof num_elements) {
      return InvalidArgument("storage \"" + Printable(known->first) + "\" at byte " +
                             std::to_string(offset) + " has " + std::to_string(num_elements) +
                             " elements, the file has " + std::to_string(rest) +
                             " bytes left: it is truncated or damaged");
    }
    if (!storages.emplace(known->first, Extent{offset + sizeof num_elements, bytes}).second) {
      return InvalidArgument("lists storage \"" + Printable(known->first) + "\" twice");
    }
    offset += sizeof num_elements + bytes;
  }
  return storages;
}

absl::StatusOr<std::vector<StoredTensor>> ReadLegacy(const File& file) {
  PickleReader reader(file, 0, file.size_bytes());
  BERTRAND_RETURN_IF_ERROR(CheckLegacyStart(reader));
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue top, reader.Next());
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue keys, reader.Next());
  BERTRAND_ASSIGN_OR_RETURN(const Storages storages, ReadLegacyStorages(file, reader, keys));
  return MakeTensors(reader, top, storages, file.size_bytes());
}

absl::StatusOr<std::vector<StoredTensor>> ReadTensors(const File& file) {
  BERTRAND_RETURN_IF_ERROR(CheckNoLfsPointer(file));
  std::array<char, 262> start{};
  const auto size = std::min<uint64_t>(start.size(), file.size_bytes());
  BERTRAND_RETURN_IF_ERROR(file.ReadAt(0, start.data(), size));
  const std::string_view text(start.data(), size);
  if (text.starts_with("PK\x03\x04")) return ReadZip(file);
  if (text.starts_with('\x80')) return ReadLegacy(file);
  const char* what = "neither a zip archive nor a pickle";
  if (text.ends_with("ustar")) what = "in the tar format of torch before 0.1.10";
  if (text.starts_with("\x89HDF")) what = "TensorFlow's HDF5";
  if (text.size() > 9 && text[8] == '{') what = "safetensors, to be named model.safetensors";
  return InvalidArgument("has " + std::to_string(file.size_bytes()) + " bytes and is " + what +
                         ": expected a file of torch.save");
}

}  // namespace

absl::StatusOr<TensorFile> OpenTorchFile(const std::string& path) {
  BERTRAND_ASSIGN_OR_RETURN(File file, File::Open(path));
  absl::StatusOr<std::vector<StoredTensor>> tensors = ReadTensors(file);
  if (!tensors.ok()) return Annotate(tensors.status(), path);
  TensorFile opened(std::move(file), *std::move(tensors));
  const absl::Status status = CheckDuplicates(opened);
  if (!status.ok()) return Annotate(status, path);
  return opened;
}

}  // namespace bertrand

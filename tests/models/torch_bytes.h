#pragma once

// Files of torch.save for tests, as bytes: pickles put together from opcodes, right ones and wrong
// ones, in a zip archive or in the legacy format.

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bertrand {

template <typename T>
std::string Little(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// ---- Pickles

inline std::string PickledText(std::string_view text) {
  return "X" + Little(static_cast<uint32_t>(text.size())) + std::string(text);
}
inline std::string PickledInt(int64_t value) {
  if (value >= 0 && value < 256) return std::string("K") + static_cast<char>(value);
  return std::string("\x8a\x08", 2) + Little(value);
}
inline std::string PickledInts(const std::vector<int64_t>& values) {
  std::string bytes = "(";
  for (const int64_t value : values) bytes += PickledInt(value);
  return bytes + "t";
}
inline std::string PickledGlobal(std::string_view module, std::string_view name) {
  std::string bytes = "c";
  bytes.append(module).append("\n").append(name).append("\n");
  return bytes;
}

struct TorchTensor {
  std::string name;
  std::vector<int64_t> shape, strides;
  std::string key = "0";
  int64_t numel = 0;  // of the storage
  int64_t offset = 0;
  std::string storage_class = "FloatStorage";
};

inline std::string PickledStorageId(const TorchTensor& tensor, bool legacy) {
  std::string bytes = "(" + PickledText("storage") + PickledGlobal("torch", tensor.storage_class);
  bytes += PickledText(tensor.key) + PickledText("cpu") + PickledInt(tensor.numel);
  return bytes + (legacy ? "NtQ" : "tQ");
}

// What torch.save makes of a tensor.
inline std::string PickledTensorBytes(const TorchTensor& tensor, bool legacy = false) {
  std::string bytes = PickledGlobal("torch._utils", "_rebuild_tensor_v2") + "(";
  bytes += PickledStorageId(tensor, legacy) + PickledInt(tensor.offset);
  bytes += PickledInts(tensor.shape) + PickledInts(tensor.strides) + "\x89";
  return bytes + PickledGlobal("collections", "OrderedDict") + ")RtR";
}

inline std::string PickledDict(const std::vector<TorchTensor>& tensors, bool legacy = false) {
  std::string bytes = "\x80\x02" + PickledGlobal("collections", "OrderedDict") + ")R(";
  for (const TorchTensor& tensor : tensors) {
    bytes += PickledText(tensor.name) + PickledTensorBytes(tensor, legacy);
  }
  return bytes + "u.";
}

// ---- Files

inline uint32_t Crc32Of(std::string_view bytes) {
  uint32_t crc = ~uint32_t{0};
  for (const char c : bytes) {
    crc ^= static_cast<uint8_t>(c);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0u);
  }
  return ~crc;
}

struct ZipMember {
  std::string name, bytes;
  uint16_t method = 0, flags = 0;
};

inline std::string ZipBytes(const std::vector<ZipMember>& members) {
  std::string file, directory;
  for (const ZipMember& member : members) {
    const auto size = static_cast<uint32_t>(member.bytes.size());
    const std::string common = Little<uint16_t>(0) + Little(member.flags) + Little(member.method) +
                               Little<uint32_t>(0) + Little(Crc32Of(member.bytes)) + Little(size) +
                               Little(size) + Little(static_cast<uint16_t>(member.name.size()));
    directory += "PK\x01\x02" + Little<uint16_t>(0) + common + Little<uint16_t>(0) +
                 Little<uint16_t>(0) + Little<uint16_t>(0) + Little<uint16_t>(0) +
                 Little<uint32_t>(0) + Little(static_cast<uint32_t>(file.size())) + member.name;
    // The entry's own header has an extra field of 5 bytes, as torch's padding.
    file += "PK\x03\x04" + common + Little<uint16_t>(5) + member.name + "FB\x01" +
            std::string(2, '\0') + member.bytes;
  }
  const auto count = static_cast<uint16_t>(members.size());
  return file + directory + "PK\x05\x06" + std::string(4, '\0') + Little(count) + Little(count) +
         Little(static_cast<uint32_t>(directory.size())) +
         Little(static_cast<uint32_t>(file.size())) + Little<uint16_t>(0);
}

using StorageBytesByKey = std::vector<std::pair<std::string, std::string>>;

inline std::vector<ZipMember> TorchMembers(const std::string& pickle,
                                           const StorageBytesByKey& storages) {
  std::vector<ZipMember> members = {{"model/data.pkl", pickle}, {"model/byteorder", "little"}};
  for (const auto& [key, bytes] : storages) members.push_back({"model/data/" + key, bytes});
  members.push_back({"model/version", "3\n"});
  return members;
}

inline std::string LegacyStart(bool little_endian = true) {
  return std::string("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15) +
         "\x80\x02M\xe9\x03.\x80\x02}(" + PickledText("little_endian") +
         (little_endian ? "\x88" : "\x89") + "u.";
}

inline std::string LegacyBytes(const std::string& pickle, const StorageBytesByKey& storages,
                               size_t element_bytes = 4) {
  std::string bytes = LegacyStart() + pickle + "\x80\x02](";
  for (const auto& [key, elements] : storages) bytes += PickledText(key);
  bytes += "e.";
  for (const auto& [key, elements] : storages) {
    bytes += Little(static_cast<int64_t>(elements.size() / element_bytes)) + elements;
  }
  return bytes;
}

inline std::string FloatBytes(const std::vector<float>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
}

}  // namespace bertrand

#include "tests/parity/suite_weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/status.h"
#include "models/checkpoint/tensor_file.h"
#include "tests/models/torch_bytes.h"

namespace bertrand {
namespace {

struct SuiteTensor {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

uint64_t Fnv(const std::string& name) {
  uint64_t value = 0xcbf29ce484222325;
  for (const char c : name) value = (value ^ static_cast<uint8_t>(c)) * 0x100000001b3;
  return value;
}

uint64_t SplitMix(uint64_t z) {
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

// Values that are exact in 16 bits: only the exponent changes, and zeros at the end go away.
uint16_t HalfFromFloat(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000;
  if (value == 0) return static_cast<uint16_t>(sign);
  const uint32_t magnitude = (bits & 0x7fffffff) - (uint32_t{127 - 15} << 23);
  BERTRAND_CHECK((magnitude & 0x1fff) == 0 && magnitude >= 0x800000 && magnitude < 0x0f800000,
                 "a value that float16 does not have");
  return static_cast<uint16_t>(sign | magnitude >> 13);
}

uint16_t BfloatFromFloat(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  BERTRAND_CHECK((bits & 0xffff) == 0, "a value that bfloat16 does not have");
  return static_cast<uint16_t>(bits >> 16);
}

void AppendValue(float value, const std::string& dtype, std::string* bytes) {
  if (dtype == "F32") {
    *bytes += Little(value);
  } else {
    *bytes += Little(dtype == "F16" ? HalfFromFloat(value) : BfloatFromFloat(value));
  }
}

// make_suite.py: values().
std::string ValueBytes(const SuiteTensor& tensor, const std::string& kind, uint64_t seed,
                       double scale) {
  int64_t count = 1;
  for (const int64_t dim : tensor.shape) count *= dim;
  std::string bytes;
  const int bits = tensor.dtype == "F32" ? 24 : 8;
  const auto unit = static_cast<float>(scale / std::exp2(bits - 1));
  for (int64_t i = 0; i < count; ++i) {
    if (kind == "positions") {
      bytes += Little(i);
      continue;
    }
    const uint64_t z =
        SplitMix((Fnv(tensor.name) ^ seed) + static_cast<uint64_t>(i + 1) * 0x9e3779b97f4a7c15);
    const int64_t centred = static_cast<int64_t>(z >> (64 - bits)) - (int64_t{1} << (bits - 1));
    const float value = kind == "norm" ? 1 + static_cast<float>(centred >> (bits - 5)) / 32
                                       : static_cast<float>(centred) * unit;
    AppendValue(value, tensor.dtype, &bytes);
  }
  return bytes;
}

std::string SafetensorsOf(const std::vector<SuiteTensor>& tensors) {
  std::string header = "{", data;
  for (const SuiteTensor& tensor : tensors) {
    if (header.size() > 1) header += ',';
    header.append("\"").append(tensor.name).append(R"(":{"dtype":")").append(tensor.dtype);
    header.append(R"(","shape":)").append(ShapeString(tensor.shape));
    header.append(R"(,"data_offsets":[)").append(std::to_string(data.size())).append(",");
    data += tensor.bytes;
    header.append(std::to_string(data.size())).append("]}");
  }
  header += "}";
  return Little(static_cast<uint64_t>(header.size())) + header + data;
}

std::string TorchOf(const std::vector<SuiteTensor>& tensors, bool legacy) {
  std::vector<TorchTensor> pickled;
  StorageBytesByKey storages;
  for (const SuiteTensor& tensor : tensors) {
    const auto element_bytes = static_cast<int64_t>(*ElementBits(tensor.dtype) / 8);
    TorchTensor entry{tensor.name, tensor.shape, {}, std::to_string(storages.size())};
    entry.numel = static_cast<int64_t>(tensor.bytes.size()) / element_bytes;
    entry.strides.resize(entry.shape.size(), 1);
    for (size_t dim = entry.shape.size(); dim-- > 1;) {
      entry.strides[dim - 1] = entry.strides[dim] * entry.shape[dim];
    }
    entry.storage_class = tensor.dtype == "F32"    ? "FloatStorage"
                          : tensor.dtype == "F16"  ? "HalfStorage"
                          : tensor.dtype == "BF16" ? "BFloat16Storage"
                                                   : "LongStorage";
    pickled.push_back(entry);
    storages.emplace_back(entry.key, tensor.bytes);
  }
  const std::string pickle = PickledDict(pickled, legacy);
  if (!legacy) return ZipBytes(TorchMembers(pickle, storages));
  return LegacyBytes(pickle, storages, *ElementBits(tensors[0].dtype) / 8);
}

std::vector<SuiteTensor> MakeTensors(const Json& weights) {
  const std::optional<double> scale = weights.Find("scale")->as_number();
  const uint64_t seed = Fnv(*weights.Find("name")->as_string());
  std::vector<SuiteTensor> tensors;
  for (const Json& entry : weights.Find("tensors")->elements()) {
    SuiteTensor tensor;
    tensor.name = *entry.elements()[0].as_string();
    for (const Json& dim : entry.elements()[1].elements()) tensor.shape.push_back(*dim.as_int());
    const std::string& kind = *entry.elements()[2].as_string();
    tensor.dtype = kind == "positions" ? "I64" : *weights.Find("dtype")->as_string();
    tensor.bytes = ValueBytes(tensor, kind, seed, *scale);
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace

void WriteSuiteWeights(const Json& weights, const TestFolder& folder,
                       const std::vector<std::string>& without) {
  std::vector<SuiteTensor> tensors = MakeTensors(weights);
  std::erase_if(tensors, [&](const SuiteTensor& tensor) {
    return std::any_of(without.begin(), without.end(),
                       [&](const std::string& start) { return tensor.name.starts_with(start); });
  });
  const std::string& format = *weights.Find("format")->as_string();
  const bool is_torch = format != "safetensors";
  const auto shards = static_cast<size_t>(*weights.Find("shards")->as_int());
  const std::string stem = is_torch ? "pytorch_model" : "model";
  const std::string extension = is_torch ? ".bin" : ".safetensors";
  std::string index;
  for (size_t shard = 0; shard < shards; ++shard) {
    const std::string name =
        shards == 1 ? stem + extension : stem + "-" + std::to_string(shard) + extension;
    std::vector<SuiteTensor> part;
    for (size_t i = shard; i < tensors.size(); i += shards) {
      part.push_back(tensors[i]);
      index.append(index.empty() ? "\"" : ",\"").append(tensors[i].name);
      index.append("\":\"").append(name).append("\"");
    }
    folder.Write(name, is_torch ? TorchOf(part, format == "legacy") : SafetensorsOf(part));
  }
  if (shards > 1)
    folder.Write(stem + extension + ".index.json", "{\"weight_map\":{" + index + "}}");
}

}  // namespace bertrand

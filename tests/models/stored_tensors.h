#pragma once

// safetensors files for tests, as bytes.

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace bertrand {

struct TestTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// A file with these tensors, all of one type ("F32", "I32", "F16", "BF16") and filled with zeros.
inline std::string SafetensorsBytes(const std::vector<TestTensor>& tensors,
                                    const std::string& dtype = "F32") {
  const int64_t element_bytes = dtype.find("16") == std::string::npos ? 4 : 2;
  std::string header = "{";
  int64_t offset = 0;
  for (const TestTensor& tensor : tensors) {
    int64_t count = 1;
    std::string shape;
    for (const int64_t dim : tensor.shape) {
      count *= dim;
      if (!shape.empty()) shape += ',';
      shape += std::to_string(dim);
    }
    const int64_t end = offset + count * element_bytes;
    // Appended piece by piece: for `"x" + name` g++ 12 warns of a copy that cannot overlap.
    if (header.size() > 1) header += ',';
    header.append("\"").append(tensor.name);
    header.append(R"(":{"dtype":")").append(dtype);
    header.append(R"(","shape":[)").append(shape);
    header.append(R"(],"data_offsets":[)").append(std::to_string(offset));
    header.append(",").append(std::to_string(end)).append("]}");
    offset = end;
  }
  header += "}";
  const uint64_t size = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &size, 8);
  return bytes + header + std::string(static_cast<size_t>(offset), '\0');
}

}  // namespace bertrand

#pragma once

// Reads tests/models/tokenizer/data for the tests beside it. Thread-safe.

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "models/checkpoint/json.h"

namespace bertrand {

// Tests run in the source folder.
inline std::string ReadData(const std::string& name) {
  std::ifstream file("tests/models/tokenizer/data/" + name, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << name;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline Json ReadJsonData(const std::string& name) {
  absl::StatusOr<Json> json = Json::Parse(ReadData(name), name);
  EXPECT_TRUE(json.ok()) << Message(json.status());
  return json.ok() ? *std::move(json) : Json();
}

// With padding, as tokenizer.json has a normaliser's map.
inline std::string Base64(const std::string& bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t bits = 0;
    for (size_t j = i; j < i + 3; ++j) {
      bits = bits << 8 | (j < bytes.size() ? static_cast<unsigned char>(bytes[j]) : 0u);
    }
    for (int shift = 18; shift >= 0; shift -= 6) text += kDigits[bits >> shift & 63];
    if (i + 1 == bytes.size()) text.replace(text.size() - 2, 2, "==");
    if (i + 2 == bytes.size()) text.back() = '=';
  }
  return text;
}

inline std::vector<int32_t> Integers(const Json& array) {
  std::vector<int32_t> values;
  for (const Json& element : array.elements()) {
    values.push_back(static_cast<int32_t>(*element.as_int()));
  }
  return values;
}

}  // namespace bertrand

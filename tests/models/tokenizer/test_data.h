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

inline std::vector<int32_t> Integers(const Json& array) {
  std::vector<int32_t> values;
  for (const Json& element : array.elements()) {
    values.push_back(static_cast<int32_t>(*element.as_int()));
  }
  return values;
}

}  // namespace bertrand

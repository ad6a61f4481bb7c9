#pragma once

// One call of the parity suite, made through models/task as the server makes it, and its answer in
// the shape that suite_calls.py gives the expected one.

#include <absl/status/statusor.h>

#include <string>
#include <variant>
#include <vector>

#include "models/checkpoint/json.h"
#include "models/model.h"

namespace bertrand {

// Numbers, strings, bools and lists of them.
struct SuiteValue {
  std::variant<double, std::string, bool, std::vector<SuiteValue>> value;
};

// `call` is an element of NAME.json's "calls".
absl::StatusOr<SuiteValue> MakeSuiteCall(const Model& model, const Json& call);

// Empty when equal: numbers within `tolerance`, absolute up to 1 and relative beyond, all else
// exactly. Otherwise where and how not.
std::string Difference(const SuiteValue& actual, const Json& expected, double tolerance);

}  // namespace bertrand

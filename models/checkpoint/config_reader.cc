#include "models/checkpoint/config_reader.h"

#include <optional>
#include <sstream>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

std::string NumberText(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

}  // namespace

std::string Describe(const Json& value) {
  constexpr size_t kShownBytesMax = 60;
  if (const auto boolean = value.as_bool()) return *boolean ? "true" : "false";
  if (const auto integer = value.as_int()) return std::to_string(*integer);
  if (const auto number = value.as_number()) return NumberText(*number);
  if (const std::string* text = value.as_string()) {
    return text->size() <= kShownBytesMax
               ? "\"" + *text + "\""
               : "a string of " + std::to_string(text->size()) + " bytes";
  }
  return value.KindName();
}

ConfigReader::ConfigReader(const Json& object, std::string path)
    : object_(object), path_(std::move(path)) {
  if (!object.is_object()) {
    status_ = InvalidArgument(path_ + " holds " + object.KindName() + ", expected an object");
  }
}

void ConfigReader::Fail(std::string_view key, std::string_view message) {
  if (!status_.ok()) return;
  status_ = InvalidArgument(path_ + ": " + std::string(key) + " " + std::string(message));
}

void ConfigReader::FailUnimplemented(std::string_view key, std::string_view message) {
  if (!status_.ok()) return;
  status_ = Unimplemented(path_ + ": " + std::string(key) + " " + std::string(message));
}

int64_t ConfigReader::Int(std::string_view key, int64_t fallback, int64_t min, int64_t max) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  const std::optional<int64_t> integer = value->as_int();
  if (!integer || *integer < min || *integer > max) {
    Fail(key, "is " + Describe(*value) + ", expected an integer from " + std::to_string(min) +
                  " to " + std::to_string(max));
    return fallback;
  }
  return *integer;
}

double ConfigReader::Number(std::string_view key, double fallback, double min, double max) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  const std::optional<double> number = value->as_number();
  // NaN fails both comparisons.
  if (!number || !(*number >= min && *number <= max)) {
    Fail(key, "is " + Describe(*value) + ", expected a number from " + NumberText(min) + " to " +
                  NumberText(max));
    return fallback;
  }
  return *number;
}

bool ConfigReader::Bool(std::string_view key, bool fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return fallback;
  const std::optional<bool> boolean = value->as_bool();
  if (!boolean) Fail(key, "is " + Describe(*value) + ", expected true or false");
  return boolean.value_or(fallback);
}

std::string ConfigReader::String(std::string_view key, std::string_view fallback) {
  const Json* value = Find(key);
  if (value == nullptr) return std::string(fallback);
  const std::string* text = value->as_string();
  if (text == nullptr) {
    Fail(key, "is " + Describe(*value) + ", expected a string");
    return std::string(fallback);
  }
  return *text;
}

}  // namespace bertrand

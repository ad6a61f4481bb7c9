#pragma once

// Typed access to the keys of one JSON object of a checkpoint, with the checks that an untrusted
// file needs. The first error is kept, the reads after it give defaults, and status() tells it at
// the end: so a list of keys reads as a list.

#include <absl/status/status.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "models/checkpoint/json.h"

namespace bertrand {

class ConfigReader {
 public:
  // `object` must outlive the reader. `path` goes into messages. No object: an error.
  ConfigReader(const Json& object, std::string path);

  // The key's value, or `fallback` when it is absent or null. Errors: another kind, out of range.
  int64_t Int(std::string_view key, int64_t fallback, int64_t min, int64_t max);
  double Number(std::string_view key, double fallback, double min, double max);
  bool Bool(std::string_view key, bool fallback);
  std::string String(std::string_view key, std::string_view fallback);
  const Json* Find(std::string_view key) const { return object_.FindNonNull(key); }
  // Whether the key is there, be it null: to transformers that is None and not the default.
  bool Has(std::string_view key) const { return object_.Find(key) != nullptr; }

  // Records an error about `key`, unless there is one already.
  void Fail(std::string_view key, std::string_view message);
  // The same, as Unimplemented: the file is right, this version does not do it.
  void FailUnimplemented(std::string_view key, std::string_view message);

  const std::string& path() const { return path_; }
  const absl::Status& status() const { return status_; }

 private:
  const Json& object_;
  std::string path_;
  absl::Status status_;
};

// The value as a message shows it: numbers and short strings as written, else its kind.
std::string Describe(const Json& value);

}  // namespace bertrand

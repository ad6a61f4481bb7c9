#pragma once

// What the parity tests share: expected results, folders put together for one test, and comparison.
// Tests run in the source tree's root.

#include <gtest/gtest.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.h"
#include "kernels/thread_pool.h"
#include "models/checkpoint/json.h"
#include "models/checkpoint/safetensors.h"
#include "models/config/families.h"
#include "models/encoder/encoder.h"
#include "models/model.h"
#include "models/task/embed.h"
#include "tests/models/test_folder.h"

namespace bertrand {

inline const std::string kCheckpoints = "tests/parity/checkpoints";

// A backend with threads of its own.
class TestBackend {
 public:
  explicit TestBackend(const std::string& name, DType dtype = DType::kFloat32);
  const Backend& operator*() const { return *backend_; }

 private:
  ThreadPool pool_{2, "test"};
  std::unique_ptr<Backend> backend_;
};

// The devices that parity is shown for. The emulated GPU not under sanitizers: ThreadSanitizer
// takes its fibres for one thread with a broken stack, and with AddressSanitizer whole forwards
// take minutes; the kernels' own tests run under that one.
std::vector<const char*> ParityDevices();

Json ReadJsonFile(const std::string& path);

// A tensor of expected.safetensors as float32; empty when there is none.
class Expected {
 public:
  explicit Expected(const std::string& path);
  std::vector<float> Read(const std::string& name) const;
  std::vector<int32_t> ReadIds(const std::string& name) const;
  const std::vector<StoredTensor>& tensors() const { return file_.tensors(); }

 private:
  SafetensorsFile file_;
};

// Within `tolerance`, absolute for values up to 1 and relative beyond; says where and by how much
// not.
void ExpectClose(std::span<const float> actual, std::span<const float> expected, float tolerance,
                 const std::string& what);

// All of a checkpoint but its tokenizer and heads.
struct Network {
  ModelConfig config;
  std::unique_ptr<Encoder> encoder;
  std::unique_ptr<EmbedHead> head;
};
absl::StatusOr<Network> LoadNetwork(const std::string& folder, const Backend& backend);

// The largest distance, by the same measure.
float Distance(std::span<const float> actual, std::span<const float> expected);

}  // namespace bertrand

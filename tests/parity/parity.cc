#include "tests/parity/parity.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "kernels/status.h"
#include "models/checkpoint/file.h"
#include "models/checkpoint/sentence_modules.h"
#include "models/checkpoint/weight_files.h"

namespace bertrand {
namespace {

template <typename T>
T ValueOrDie(absl::StatusOr<T> value) {
  BERTRAND_CHECK(value.ok(), Message(value.status()));
  return *std::move(value);
}

}  // namespace

TestBackend::TestBackend(const std::string& name, DType dtype)
    : backend_(ValueOrDie(CreateBackend(name, pool_, dtype))) {}

std::vector<const char*> ParityDevices() {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
  return {"reference", "cpu"};
#else
  return {"reference", "cpu", "emulated"};
#endif
}

Json ReadJsonFile(const std::string& path) {
  const std::string text = ValueOrDie(ReadTextFile(path, 100'000'000));
  return ValueOrDie(Json::Parse(text, path));
}

Expected::Expected(const std::string& path) : file_(ValueOrDie(SafetensorsFile::Open(path))) {}

std::vector<float> Expected::Read(const std::string& name) const {
  const StoredTensor* tensor = file_.Find(name);
  if (tensor == nullptr) return {};
  std::vector<float> values(static_cast<size_t>(tensor->num_elements()));
  const absl::Status status = file_.Read(*tensor, 0, values);
  BERTRAND_CHECK(status.ok(), Message(status));
  return values;
}

std::vector<int32_t> Expected::ReadIds(const std::string& name) const {
  const std::vector<float> values = Read(name);
  return {values.begin(), values.end()};
}

float Distance(std::span<const float> actual, std::span<const float> expected) {
  float largest = 0;
  for (size_t i = 0; i < std::min(actual.size(), expected.size()); ++i) {
    const float distance =
        std::abs(actual[i] - expected[i]) / std::max(1.0f, std::abs(expected[i]));
    if (!(distance <= largest)) largest = distance;
    if (std::isnan(distance)) return std::numeric_limits<float>::infinity();
  }
  return largest;
}

void ExpectClose(std::span<const float> actual, std::span<const float> expected, float tolerance,
                 const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  const float distance = Distance(actual, expected);
  if (distance <= tolerance) return;
  for (size_t i = 0; i < actual.size(); ++i) {
    if (Distance(actual.subspan(i, 1), expected.subspan(i, 1)) <= tolerance) continue;
    ADD_FAILURE() << what << ": value " << i << " of " << actual.size() << " is " << actual[i]
                  << ", expected " << expected[i] << "; the largest distance is " << distance
                  << ", expected at most " << tolerance;
    return;
  }
}

absl::StatusOr<Network> LoadNetwork(const std::string& folder, const Backend& backend) {
  Network network;
  BERTRAND_ASSIGN_OR_RETURN(const SentenceModules modules, ReadSentenceModules(folder));
  BERTRAND_ASSIGN_OR_RETURN(network.config, ReadModelConfig(folder));
  BERTRAND_ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::Open(folder));
  std::string note;
  BERTRAND_ASSIGN_OR_RETURN(
      network.encoder,
      Encoder::Load(network.config.encoder, network.config.names, files, backend, &note));
  BERTRAND_ASSIGN_OR_RETURN(network.head, EmbedHead::Load(modules, *network.encoder, backend));
  return network;
}

}  // namespace bertrand

// Every family, every head, odd sizes, files of every kind (make_suite.py): a checkpoint is put
// together in a folder, loaded as the server loads it, and asked what transformers was asked; on
// the CPU, and on the emulated GPU in float32.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/status.h"
#include "tests/parity/parity.h"
#include "tests/parity/suite_tasks.h"
#include "tests/parity/suite_weights.h"

namespace bertrand {
namespace {

const std::string kSuite = "tests/parity/suite";
// The product's promise.
constexpr double kTolerance = 1e-4;

// A checkpoint of the suite, on a device. A "folder" (random_folders.py) is there already.
class SuiteModel {
 public:
  SuiteModel(const Json& checkpoint, const std::string& device) : backend_(device) {
    if (const Json* folder = checkpoint.Find("folder")) {
      model_ = Model::Load(*folder->as_string(), *backend_, {});
      return;
    }
    folder_.CopyFrom(kSuite + "/tokenizers/" + *checkpoint.Find("tokenizer")->as_string());
    for (const auto& [file, text] : checkpoint.Find("files")->members()) {
      folder_.Write(file, *text.as_string());
    }
    WriteSuiteWeights(*checkpoint.Find("weights"), folder_);
    model_ = Model::Load(folder_.path(), *backend_, {});
  }
  const absl::StatusOr<std::unique_ptr<Model>>& model() const { return model_; }

 private:
  const TestFolder folder_;
  const TestBackend backend_;
  absl::StatusOr<std::unique_ptr<Model>> model_;
};

void ExpectAnswersEqual(const std::string& name, const std::string& device) {
  const Json checkpoint = ReadJsonFile(kSuite + "/" + name + ".json");
  const SuiteModel loaded(checkpoint, device);
  const auto& model = loaded.model();
  if (const Json* refusal = checkpoint.Find("refused")) {
    ASSERT_FALSE(model.ok());
    EXPECT_THAT(model.status().message(), testing::HasSubstr(*refusal->as_string()));
    return;
  }
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<Json>& calls = checkpoint.Find("calls")->elements();
  ASSERT_FALSE(calls.empty());
  for (size_t i = 0; i < calls.size(); ++i) {
    const std::string& task = *calls[i].Find("task")->as_string();
    const auto answer = MakeSuiteCall(**model, calls[i]);
    if (!answer.ok()) {
      ADD_FAILURE() << "call " << i << ", " << task << ": " << answer.status();
      continue;
    }
    EXPECT_EQ(Difference(*answer, *calls[i].Find("expected"), kTolerance), "")
        << "call " << i << ", " << task;
  }
}

class SuiteParity : public testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(SuiteParity, AnswersEqual) {
  ExpectAnswersEqual(std::get<1>(GetParam()), std::get<0>(GetParam()));
}

// Spans of a batch that do not fit into one call of the device's search: 40 x 2,305.
TEST(AnswerSpans, OfABatchComeInParts) {
  constexpr size_t kSequences = 40, kTokens = 48, kSpans = 1 + kTokens * kTokens;
  static_assert(kSequences * kSpans > SpanOutput::kSpansMax);
  const SuiteModel loaded(ReadJsonFile(kSuite + "/bert_answers.json"), "cpu");
  ASSERT_TRUE(loaded.model().ok()) << loaded.model().status();
  const auto runner = (*loaded.model())->NewRunner(kSequences * kTokens, kSequences);
  ASSERT_TRUE(runner.ok()) << runner.status();
  std::vector<std::vector<int32_t>> ids(kSequences);
  const std::vector<int32_t> types(kTokens, 0);
  const std::vector<uint8_t> masked(kTokens, 0);
  std::vector<std::vector<ScoredSpan>> alone(kSequences), together(kSequences);
  std::vector<SpanOutput> outputs(kSequences);
  std::vector<SequenceWork> batch(kSequences);
  for (size_t i = 0; i < kSequences; ++i) {
    for (size_t j = 0; j < kTokens; ++j) {
      ids[i].push_back(static_cast<int32_t>((7 * i + 5 * j + i * j) % 300));
    }
    alone[i].resize(kSpans);
    together[i].resize(kSpans);
    outputs[i] = {masked, 0, kTokens, alone[i]};
    batch[i].ids = ids[i];
    batch[i].type_ids = types;
    batch[i].answers = &outputs[i];
    const absl::Status status = (*runner)->Forward(std::span(batch).subspan(i, 1));
    ASSERT_TRUE(status.ok()) << status;
    outputs[i].spans = together[i];
  }
  const absl::Status status = (*runner)->Forward(batch);
  ASSERT_TRUE(status.ok()) << status;
  for (size_t i = 0; i < kSequences; ++i) {
    EXPECT_GT(alone[i][1].score, alone[i][1000].score);
    EXPECT_EQ(alone[i][1 + (kTokens - 1) * kTokens / 2].start, -1);  // beyond those without null
    for (size_t j = 0; j < kSpans; ++j) {
      ASSERT_EQ(alone[i][j].start, together[i][j].start) << i << ' ' << j;
      ASSERT_EQ(alone[i][j].end, together[i][j].end) << i << ' ' << j;
      ASSERT_EQ(alone[i][j].score, together[i][j].score) << i << ' ' << j;
    }
  }
}

std::vector<std::string> Checkpoints() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kSuite)) {
    if (entry.path().extension() == ".json") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// The reference is the encoders' (encoder_parity_test.cc).
std::vector<std::string> Devices() {
  std::vector<std::string> devices;
  for (const std::string device : ParityDevices()) {
    if (device != "reference") devices.push_back(device);
  }
  return devices;
}

INSTANTIATE_TEST_SUITE_P(Suite, SuiteParity,
                         testing::Combine(testing::ValuesIn(Devices()),
                                          testing::ValuesIn(Checkpoints())),
                         [](const auto& info) {
                           std::string name =
                               std::get<0>(info.param) + "_" + std::get<1>(info.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace bertrand

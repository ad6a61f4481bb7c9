// Whole forwards in float16 and bfloat16 through the emulated GPU, every family and head: no
// further from transformers' float32 than twice as far as transformers' own float16 and bfloat16
// are (low_precision.json, make_low_precision.py), and every decision that those make alike is
// made.

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/status.h"
#include "models/runner.h"
#include "tests/parity/parity.h"
#include "tests/parity/suite_tasks.h"
#include "tests/parity/suite_weights.h"

namespace bertrand {
namespace {

const std::string kSuite = "tests/parity/suite";
// Of the errors: theirs is one way of rounding, ours another.
constexpr double kBar = 2;

const Json& Errors() {
  static const Json errors = ReadJsonFile("tests/parity/low_precision.json");
  return errors;
}

using Case = std::tuple<std::string, DType>;  // a checkpoint's name, and what it runs in

std::vector<Case> Cases(const char* kind) {
  std::vector<Case> cases;
  for (const auto& [name, errors] : Errors().Find(kind)->members()) {
    for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
      // Without members: nothing that both decide alike.
      if (!errors.Find(Name(dtype))->members().empty()) cases.emplace_back(name, dtype);
    }
  }
  return cases;
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  std::string name = std::get<0>(info.param) + "_" + Name(std::get<1>(info.param));
  for (char& c : name) {
    if (c == '-' || c == '/') c = '_';
  }
  return name;
}

class LowPrecision : public testing::TestWithParam<Case> {
 protected:
  const Json& ErrorsOf(const char* kind) {
    return *Errors().Find(kind)->Find(std::get<0>(GetParam()))->Find(Name(std::get<1>(GetParam())));
  }

  TestBackend backend_{"emulated", std::get<1>(GetParam())};
};

class LowPrecisionSuite : public LowPrecision {};

TEST_P(LowPrecisionSuite, AnswersAreWithinTheBar) {
  const Json checkpoint = ReadJsonFile(kSuite + "/" + std::get<0>(GetParam()) + ".json");
  const Json& errors = ErrorsOf("suite");
  const TestFolder folder;
  folder.CopyFrom(kSuite + "/tokenizers/" + *checkpoint.Find("tokenizer")->as_string());
  for (const auto& [name, text] : checkpoint.Find("files")->members()) {
    folder.Write(name, *text.as_string());
  }
  WriteSuiteWeights(*checkpoint.Find("weights"), folder);
  const auto model = Model::Load(folder.path(), *backend_, {});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ((*model)->description().compute_type, Name(std::get<1>(GetParam())));
  std::map<std::string, size_t> num_calls;  // of each task, so far
  size_t num_compared = 0;
  for (const Json& call : checkpoint.Find("calls")->elements()) {
    const std::string task(*call.Find("task")->as_string());
    const size_t index = num_calls[task]++;
    const Json* const found = errors.Find(task);
    const auto error =
        found == nullptr ? std::optional<double>() : found->elements()[index].as_number();
    if (!error.has_value()) continue;  // transformers' own decisions differ
    const auto answer = MakeSuiteCall(**model, call);
    if (!answer.ok()) {
      ADD_FAILURE() << task << " " << index << ": " << answer.status();
      continue;
    }
    EXPECT_EQ(Difference(*answer, *call.Find("expected"), kBar * *error), "")
        << task << " " << index << ", transformers is " << *error << " off";
    ++num_compared;
  }
  EXPECT_GT(num_compared, 0u);
}

INSTANTIATE_TEST_SUITE_P(Suite, LowPrecisionSuite, testing::ValuesIn(Cases("suite")), CaseName);

class LowPrecisionEncoder : public LowPrecision {};

TEST_P(LowPrecisionEncoder, HiddenStatesAreWithinTheBar) {
  const std::string folder = "tests/parity/" + std::get<0>(GetParam());
  const Json& errors = ErrorsOf("encoders");
  const absl::StatusOr<Network> network = LoadNetwork(folder, *backend_);
  ASSERT_TRUE(network.ok()) << network.status();
  const Expected expected(folder + "/expected.safetensors");
  const auto width = static_cast<size_t>(network->config.encoder.hidden_size);
  const std::vector<int32_t> layers = {static_cast<int32_t>(network->config.encoder.num_layers)};
  const std::string last_name = "layer" + std::to_string(layers[0]);
  auto runner = PackedRunner::Create(*network->encoder, *network->head, *backend_, 512, 2);
  ASSERT_TRUE(runner.ok()) << runner.status();
  float last_error = 0, mean_error = 0;
  for (int index = 0;; ++index) {
    const std::string prefix = std::to_string(index) + ".";
    const std::vector<int32_t> ids = expected.ReadIds(prefix + "ids");
    const std::vector<int32_t> types = expected.ReadIds(prefix + "type_ids");
    if (ids.empty()) break;
    std::vector<float> states(ids.size() * width), mean(width);
    const TokensOutput tokens{layers, states};
    EmbedOutput embed{.pooling = PoolingChoice::kMean, .normalize = false};
    embed.vector = mean;
    const SequenceWork batch[] = {{ids, types, &embed}};
    const SequenceWork other[] = {{.ids = ids, .type_ids = types, .tokens = &tokens}};
    ASSERT_TRUE((*runner)->Forward(batch).ok());
    mean_error = std::max(mean_error, Distance(mean, expected.Read(prefix + "mean")));
    const std::vector<float> last = expected.Read(prefix + last_name);
    if (last.empty()) continue;
    ASSERT_TRUE((*runner)->Forward(other).ok());
    last_error = std::max(last_error, Distance(states, last));
  }
  EXPECT_LE(mean_error, kBar * *errors.Find("mean")->as_number());
  if (const Json* last = errors.Find("last")) {
    EXPECT_LE(last_error, kBar * *last->as_number());
  }
}

INSTANTIATE_TEST_SUITE_P(Encoders, LowPrecisionEncoder, testing::ValuesIn(Cases("encoders")),
                         CaseName);

}  // namespace
}  // namespace bertrand

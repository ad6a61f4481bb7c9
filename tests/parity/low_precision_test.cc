// Whole forwards in float16 and bfloat16 through the emulated GPU, every family and head: no
// further from transformers' float32 than twice as far as transformers' own float16 and bfloat16
// are (low_precision.json, make_low_precision.py): hidden states by the root of the mean square of
// their errors, numbers in answers by the largest. Every decision that those make alike is made.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
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

std::vector<Case> Cases(const char* kind, const std::vector<DType>& dtypes) {
  std::vector<Case> cases;
  for (const auto& [name, errors] : Errors().Find(kind)->members()) {
    for (const DType dtype : dtypes) cases.emplace_back(name, dtype);
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
  const Json& ErrorsOf(const char* kind, DType dtype) {
    return *Errors().Find(kind)->Find(std::get<0>(GetParam()))->Find(Name(dtype));
  }

  TestBackend backend_{"emulated", std::get<1>(GetParam())};
};

// The score of an answer, [text or label, score, ...]; none: it is something else.
std::optional<double> ScoreOf(const Json& answer) {
  if (!answer.is_array() || answer.elements().size() < 2) return {};
  const std::vector<Json>& parts = answer.elements();
  return parts[0].is_string() ? parts[1].as_number() : std::optional<double>();
}

// Whether some answers of a list, best first, are nearer to one another than `margin`: which of
// them comes first, or which ones become one, errors may decide.
bool IsCloseCall(const Json& expected, double margin) {
  if (!expected.is_array()) return false;
  std::optional<double> before;
  for (const Json& element : expected.elements()) {
    const std::optional<double> score = ScoreOf(element);
    if (score && before && *before - *score < margin && *before >= *score) return true;
    if (!score && IsCloseCall(element, margin)) return true;
    before = score;
  }
  return false;
}

class LowPrecisionSuite : public LowPrecision {};

TEST_P(LowPrecisionSuite, AnswersAreWithinTheBar) {
  const Json checkpoint = ReadJsonFile(kSuite + "/" + std::get<0>(GetParam()) + ".json");
  const Json& errors = ErrorsOf("suite", DType::kFloat16);
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
    // Two scores may move towards one another. (Tokens are not in the order of theirs.)
    const bool is_ranked = task != "classify_tokens" && task != "replaced_tokens";
    if (is_ranked && IsCloseCall(*call.Find("expected"), 2 * kBar * *error)) continue;
    const auto answer = MakeSuiteCall(**model, call);
    if (!answer.ok()) {
      ADD_FAILURE() << task << " " << index << ": " << answer.status();
      continue;
    }
    EXPECT_EQ(Difference(*answer, *call.Find("expected"), kBar * *error), "")
        << task << " " << index << ", transformers is " << *error << " off";
    ++num_compared;
  }
  RecordProperty("calls_compared", static_cast<int>(num_compared));
}

INSTANTIATE_TEST_SUITE_P(Suite, LowPrecisionSuite,
                         testing::ValuesIn(Cases("suite", {DType::kFloat16})), CaseName);

// Of the squares of errors.
struct ErrorSum {
  double sum = 0;
  size_t count = 0;

  void Add(const std::vector<float>& actual, const std::vector<float>& expected) {
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < actual.size(); ++i) {
      const double error = double{actual[i]} - double{expected[i]};
      sum += error * error;
    }
    count += actual.size();
  }
  double Root() const { return std::sqrt(sum / static_cast<double>(count)); }
};

class LowPrecisionEncoder : public LowPrecision {};

TEST_P(LowPrecisionEncoder, HiddenStatesAreWithinTheBar) {
  const std::string folder = "tests/parity/" + std::get<0>(GetParam());
  // bfloat16 has three bits less than float16. Where transformers' error is less than eight times
  // the other it was lucky: four times on electra_equal, where ours is 2.3 times as large as
  // theirs. It is 1.8 times as large on distilbert and 0.6 to 1.4 times elsewhere.
  const auto theirs = [&](const char* output) {
    const double half = *ErrorsOf("encoders", DType::kFloat16).Find(output)->as_number();
    if (std::get<1>(GetParam()) == DType::kFloat16) return half;
    return std::max(8 * half, *ErrorsOf("encoders", DType::kBFloat16).Find(output)->as_number());
  };
  const absl::StatusOr<Network> network = LoadNetwork(folder, *backend_);
  ASSERT_TRUE(network.ok()) << network.status();
  const Expected expected(folder + "/expected.safetensors");
  const auto width = static_cast<size_t>(network->config.encoder.hidden_size);
  const std::vector<int32_t> layers = {static_cast<int32_t>(network->config.encoder.num_layers)};
  const std::string last_name = "layer" + std::to_string(layers[0]);
  auto runner = PackedRunner::Create(*network->encoder, *network->head, *backend_, 512, 2);
  ASSERT_TRUE(runner.ok()) << runner.status();
  ErrorSum last_error, mean_error;
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
    mean_error.Add(mean, expected.Read(prefix + "mean"));
    const std::vector<float> last = expected.Read(prefix + last_name);
    if (last.empty()) continue;
    ASSERT_TRUE((*runner)->Forward(other).ok());
    last_error.Add(states, last);
  }
  EXPECT_LE(mean_error.Root(), kBar * theirs("mean"));
  if (last_error.count > 0) {
    EXPECT_LE(last_error.Root(), kBar * theirs("last"));
  }
}

INSTANTIATE_TEST_SUITE_P(Encoders, LowPrecisionEncoder,
                         testing::ValuesIn(Cases("encoders", {DType::kFloat16, DType::kBFloat16})),
                         CaseName);

}  // namespace
}  // namespace bertrand

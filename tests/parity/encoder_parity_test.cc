// The encoder and the pooling against transformers and sentence-transformers, on tiny checkpoints
// of odd sizes (make_checkpoints.py, make_family_checkpoints.py): every layer, every pooling, alone
// and in mixed batches.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/status.h"
#include "models/runner.h"
#include "tests/parity/parity.h"

namespace bertrand {
namespace {

// transformers computes in float32 too: its own rounding, through weights that amplify it, is in
// this figure. The product's promise is 1e-4.
constexpr float kTolerance = 1e-5f;
// The same sequence in another company: other tiles of the same sums at most.
constexpr float kBatchTolerance = 1e-6f;

struct NamedChoice {
  const char* name;
  PoolingChoice choice;
};
constexpr std::array kChoices = {
    NamedChoice{"cls", PoolingChoice::kCls},
    NamedChoice{"mean", PoolingChoice::kMean},
    NamedChoice{"max", PoolingChoice::kMax},
    NamedChoice{"mean_sqrt_len_tokens", PoolingChoice::kMeanSqrtLen},
    NamedChoice{"weightedmean", PoolingChoice::kWeightedMean},
    NamedChoice{"lasttoken", PoolingChoice::kLastToken},
    NamedChoice{"pooler", PoolingChoice::kPooler},
};

struct Sequence {
  std::vector<int32_t> ids, type_ids;
};

// One output of one sequence, with the memory that SequenceWork points to.
struct Wanted {
  std::string name;  // in expected.safetensors
  const Sequence* sequence = nullptr;
  std::vector<int32_t> layers;
  TokensOutput tokens;
  EmbedOutput embed;
  std::vector<float> expected, actual;

  SequenceWork Work() {
    std::fill(actual.begin(), actual.end(), std::nanf(""));
    SequenceWork work{sequence->ids, sequence->type_ids};
    if (layers.empty()) {
      embed.vector = actual;
      work.embed = &embed;
    } else {
      tokens = {layers, actual};
      work.tokens = &tokens;
    }
    return work;
  }
};

std::vector<float> Normalized(std::vector<float> vector) {
  double squares = 0;
  for (const float value : vector) squares += double{value} * value;
  for (float& value : vector) value = static_cast<float>(value / std::sqrt(squares));
  return vector;
}

class Parity : public testing::TestWithParam<std::tuple<const char*, std::string>> {
 protected:
  void SetUp() override {
    folder_ = std::get<1>(GetParam());
    absl::StatusOr<Network> network = LoadNetwork(folder_, *backend_);
    ASSERT_TRUE(network.ok()) << network.status();
    network_ = *std::move(network);
  }

  void ReadExpected() {
    const Expected expected(folder_ + "/expected.safetensors");
    for (int i = 0;; ++i) {
      const std::string prefix = std::to_string(i) + ".";
      Sequence sequence{expected.ReadIds(prefix + "ids"), expected.ReadIds(prefix + "type_ids")};
      if (sequence.ids.empty()) break;
      sequences_.push_back(std::move(sequence));
    }
    ASSERT_FALSE(sequences_.empty());
    for (size_t i = 0; i < sequences_.size(); ++i) AddWanted(expected, i);
    if (std::string(std::get<0>(GetParam())) != "cpu") Thin();
  }

  // Plain loops and emulating take milliseconds a token: where there are many, a sequence's mean
  // stands for its other outputs, which need the same forward.
  void Thin() {
    constexpr size_t kTokensMax = 1000;
    size_t num_tokens = 0;
    for (const Wanted& wanted : wanted_) num_tokens += wanted.sequence->ids.size();
    if (num_tokens <= kTokensMax) return;
    std::erase_if(wanted_, [](const Wanted& wanted) {
      return !wanted.layers.empty() || wanted.embed.pooling != PoolingChoice::kMean;
    });
  }

  void AddWanted(const Expected& expected, size_t index) {
    const std::string prefix = std::to_string(index) + ".";
    const Sequence* sequence = &sequences_[index];
    for (const auto& [name, choice] : kChoices) {
      Wanted wanted{prefix + name, sequence};
      wanted.expected = expected.Read(prefix + name);
      wanted.embed.pooling = choice;
      EXPECT_EQ(network_.head->Dimensions(choice).ok(), !wanted.expected.empty()) << wanted.name;
      if (!wanted.expected.empty()) wanted_.push_back(std::move(wanted));
    }
    Wanted all{prefix + "all layers", sequence};
    std::vector<std::vector<float>> states;
    for (int layer = 0; layer <= network_.config.encoder.num_layers; ++layer) {
      Wanted wanted{prefix + "layer" + std::to_string(layer), sequence, {layer}};
      wanted.expected = expected.Read(wanted.name);
      if (wanted.expected.empty()) return;
      states.push_back(wanted.expected);
      all.layers.push_back(layer);
      wanted_.push_back(std::move(wanted));
    }
    const auto width = static_cast<size_t>(network_.config.encoder.hidden_size);
    for (size_t token = 0; token < sequence->ids.size(); ++token) {
      for (const std::vector<float>& layer : states) {
        const auto row = layer.begin() + static_cast<std::ptrdiff_t>(token * width);
        all.expected.insert(all.expected.end(), row, row + static_cast<std::ptrdiff_t>(width));
      }
    }
    wanted_.push_back(std::move(all));
  }

  std::unique_ptr<ModelRunner> NewRunner(int64_t max_tokens, int64_t max_sequences) {
    auto runner = PackedRunner::Create(*network_.encoder, *network_.head, *backend_, max_tokens,
                                       max_sequences);
    BERTRAND_CHECK(runner.ok(), Message(runner.status()));
    return *std::move(runner);
  }

  TestBackend backend_{std::get<0>(GetParam())};
  std::string folder_;
  Network network_;
  std::vector<Sequence> sequences_;
  std::vector<Wanted> wanted_;
};

// All in one batch; then each alone, and all again in another order, normalised: with one runner,
// so that nothing of a batch may stay for the next.
TEST_P(Parity, EveryOutputInAnyBatch) {
  ReadExpected();
  int64_t num_tokens = 0;
  std::vector<SequenceWork> batch;
  for (Wanted& wanted : wanted_) {
    num_tokens += static_cast<int64_t>(wanted.sequence->ids.size());
    wanted.actual.resize(wanted.expected.size());
    batch.push_back(wanted.Work());
  }
  const auto runner = NewRunner(num_tokens, static_cast<int64_t>(batch.size()));
  ASSERT_EQ(runner->Forward(batch), absl::OkStatus());
  float largest = 0;
  for (const Wanted& wanted : wanted_) {
    ExpectClose(wanted.actual, wanted.expected, kTolerance, wanted.name);
    largest = std::max(largest, Distance(wanted.actual, wanted.expected));
  }
  RecordProperty("largest_distance", std::to_string(largest));

  for (Wanted& wanted : wanted_) {
    const std::vector<float> in_batch = wanted.actual;
    const SequenceWork work = wanted.Work();
    ASSERT_EQ(runner->Forward({&work, 1}), absl::OkStatus());
    ExpectClose(wanted.actual, in_batch, kBatchTolerance, wanted.name + " alone");
  }

  batch.clear();
  for (Wanted& wanted : wanted_) {
    wanted.embed.normalize = true;
    batch.push_back(wanted.Work());
  }
  std::reverse(batch.begin(), batch.end());
  ASSERT_EQ(runner->Forward(batch), absl::OkStatus());
  for (const Wanted& wanted : wanted_) {
    const std::vector<float> expected =
        wanted.layers.empty() ? Normalized(wanted.expected) : wanted.expected;
    ExpectClose(wanted.actual, expected, kTolerance, wanted.name + " in another order");
  }
}

TEST_P(Parity, BatchesThatBreakTheContractAreErrors) {
  const auto runner = NewRunner(4, 2);
  std::vector<float> vector(static_cast<size_t>(network_.config.encoder.hidden_size));
  EmbedOutput embed;
  embed.vector = vector;
  const std::vector<int32_t> types(5, 0);
  const auto forward = [&](std::vector<int32_t> ids, size_t copies) {
    const SequenceWork work{ids, std::span(types).first(ids.size()), &embed};
    return runner->Forward(std::vector<SequenceWork>(copies, work));
  };
  EXPECT_TRUE(forward({1, 2}, 2).ok());
  EXPECT_FALSE(forward({1, 2, 3, 4, 5}, 1).ok());
  EXPECT_FALSE(forward({1}, 3).ok());
  EXPECT_FALSE(forward({}, 1).ok());
  EXPECT_FALSE(forward({-1}, 1).ok());
  EXPECT_FALSE(forward({static_cast<int32_t>(network_.config.encoder.vocab_size)}, 1).ok());
  embed.vector = std::span(vector).first(vector.size() - 1);
  EXPECT_FALSE(forward({1}, 1).ok());
  EXPECT_TRUE(runner->Forward({}).ok());
}

std::vector<std::string> Folders() {
  std::vector<std::string> folders;
  for (const std::string& root : {kCheckpoints, std::string("tests/parity/families")}) {
    const Json cases = ReadJsonFile(root + "/cases.json");
    for (const Json& name : cases.Find("bases")->elements()) {
      folders.push_back(root + "/" + *name.as_string());
    }
  }
  return folders;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Parity,
                         testing::Combine(testing::ValuesIn(ParityDevices()),
                                          testing::ValuesIn(Folders())),
                         [](const auto& info) {
                           const std::string& folder = std::get<1>(info.param);
                           return std::string(std::get<0>(info.param)) + "_" +
                                  folder.substr(folder.rfind('/') + 1);
                         });

}  // namespace
}  // namespace bertrand

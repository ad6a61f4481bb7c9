// Documents that run as segments with a memory, against transformers' `mems`
// (make_family_checkpoints.py, expect_memory): the hidden states of every layer of every segment,
// and all poolings of the whole document.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/status.h"
#include "models/document_memory.h"
#include "models/runner.h"
#include "tests/parity/parity.h"

namespace bertrand {
namespace {

// As in encoder_parity_test.cc, where segments feed on those before.
constexpr float kTolerance = 2e-5f;

constexpr std::array kPoolings = {
    std::pair{"cls", PoolingChoice::kCls},
    std::pair{"mean", PoolingChoice::kMean},
    std::pair{"max", PoolingChoice::kMax},
    std::pair{"mean_sqrt_len_tokens", PoolingChoice::kMeanSqrtLen},
    std::pair{"weightedmean", PoolingChoice::kWeightedMean},
    std::pair{"lasttoken", PoolingChoice::kLastToken},
};

// A document on its way: a memory, and where its outputs go.
class Document {
 public:
  Document(const Network& network, const Backend& backend, int64_t memory_tokens)
      : memory_(*EncoderMemory::Create(backend, network.config.encoder, memory_tokens),
                PooledDocument(network.head->num_poolings(), network.config.encoder.hidden_size)) {}

  std::vector<float> vector;
  EmbedOutput embed;
  std::vector<int32_t> layers;
  TokensOutput tokens;
  std::vector<std::vector<float>> states;  // of each segment, all layers side by side

  SequenceWork Segment(std::span<const int32_t> ids, std::span<const int32_t> types, size_t width) {
    SequenceWork work{.ids = ids, .type_ids = types, .memory = &memory_};
    if (layers.empty()) {
      embed.vector = vector;
      work.embed = &embed;
    } else {
      states.emplace_back(ids.size() * layers.size() * width, std::nanf(""));
      tokens = {layers, states.back()};
      work.tokens = &tokens;
    }
    return work;
  }
  DocumentMemory& memory() { return memory_; }

 private:
  DocumentMemory memory_;
};

class MemoryParity : public testing::TestWithParam<std::tuple<const char*, std::string>> {
 protected:
  void SetUp() override {
    const std::string folder = "tests/parity/families/" + std::get<1>(GetParam());
    absl::StatusOr<Network> network = LoadNetwork(folder, *backend_);
    ASSERT_TRUE(network.ok()) << network.status();
    network_ = *std::move(network);
    expected_ = std::make_unique<Expected>(folder + "/memory.safetensors");
  }

  // One document of each kind of output, all in the same batches, segment by segment.
  void RunCase(const std::string& prefix);
  void ExpectStates(const Document& document, const std::string& prefix);

  TestBackend backend_{std::get<0>(GetParam())};
  Network network_;
  std::unique_ptr<Expected> expected_;
};

void MemoryParity::RunCase(const std::string& prefix) {
  const std::vector<int32_t> ids = expected_->ReadIds(prefix + "ids");
  const std::vector<int32_t> types = expected_->ReadIds(prefix + "type_ids");
  const auto window = static_cast<size_t>(expected_->Read(prefix + "window")[0]);
  const auto memory_tokens = static_cast<int64_t>(expected_->Read(prefix + "memory")[0]);
  const auto width = static_cast<size_t>(network_.config.encoder.hidden_size);
  std::vector<Document> documents;
  documents.reserve(kPoolings.size() + 1);
  for (const auto& [name, choice] : kPoolings) {
    Document& document = documents.emplace_back(network_, *backend_, memory_tokens);
    document.vector.assign(width, std::nanf(""));
    document.embed.pooling = choice;
    document.embed.normalize = false;
  }
  Document& all_layers = documents.emplace_back(network_, *backend_, memory_tokens);
  for (int32_t layer = 0; layer <= network_.config.encoder.num_layers; ++layer) {
    all_layers.layers.push_back(layer);
  }
  const auto count = static_cast<int64_t>(documents.size());
  auto runner = PackedRunner::Create(*network_.encoder, *network_.head, *backend_,
                                     count * static_cast<int64_t>(window) + memory_tokens, count);
  ASSERT_TRUE(runner.ok()) << runner.status();
  for (size_t begin = 0; begin < ids.size(); begin += window) {
    const size_t size = std::min(window, ids.size() - begin);
    std::vector<SequenceWork> batch;
    for (Document& document : documents) {
      batch.push_back(document.Segment(std::span(ids).subspan(begin, size),
                                       std::span(types).subspan(begin, size), width));
    }
    const absl::Status status = (*runner)->Forward(batch);
    ASSERT_TRUE(status.ok()) << status;
  }
  for (size_t i = 0; i < kPoolings.size(); ++i) {
    const std::string name = prefix + kPoolings[i].first;
    ExpectClose(documents[i].vector, expected_->Read(name), kTolerance, name);
  }
  ExpectStates(all_layers, prefix);
}

void MemoryParity::ExpectStates(const Document& document, const std::string& prefix) {
  const auto width = static_cast<size_t>(network_.config.encoder.hidden_size);
  const size_t num_layers = document.layers.size();
  for (size_t layer = 0; layer < num_layers; ++layer) {
    std::vector<float> actual;
    for (const std::vector<float>& segment : document.states) {
      for (size_t at = layer * width; at < segment.size(); at += num_layers * width) {
        const auto row = segment.begin() + static_cast<std::ptrdiff_t>(at);
        actual.insert(actual.end(), row, row + static_cast<std::ptrdiff_t>(width));
      }
    }
    const std::string name = prefix + "layer" + std::to_string(layer);
    ExpectClose(actual, expected_->Read(name), kTolerance, name);
  }
}

TEST_P(MemoryParity, SegmentsEqual) {
  int num_cases = 0;
  while (!expected_->Read(std::to_string(num_cases) + ".ids").empty()) {
    ASSERT_NO_FATAL_FAILURE(RunCase(std::to_string(num_cases) + "."));
    ++num_cases;
  }
  EXPECT_GT(num_cases, 0);
}

// A document that runs as segments, the first tokens of which are a prompt that is left out, and
// end in the second segment: the mean is of the others.
TEST_P(MemoryParity, PromptsAreLeftOutOfTheDocument) {
  constexpr size_t kWindow = 4, kLength = 11, kPrompt = 6;
  const std::vector<int32_t> ids(expected_->ReadIds("0.ids")), types(kLength, 0);
  const auto width = static_cast<size_t>(network_.config.encoder.hidden_size);
  Document mean(network_, *backend_, 5), states(network_, *backend_, 5);
  mean.vector.resize(width);
  mean.embed = {.pooling = PoolingChoice::kMean, .normalize = false, .num_prompt_tokens = kPrompt};
  states.layers = {static_cast<int32_t>(network_.config.encoder.num_layers)};
  auto runner = PackedRunner::Create(*network_.encoder, *network_.head, *backend_, 20, 2);
  ASSERT_TRUE(runner.ok()) << runner.status();
  for (size_t begin = 0; begin < kLength; begin += kWindow) {
    const size_t size = std::min(kWindow, kLength - begin);
    std::vector<SequenceWork> batch;
    for (Document* document : {&mean, &states}) {
      batch.push_back(document->Segment(std::span(ids).subspan(begin, size),
                                        std::span(types).subspan(begin, size), width));
    }
    ASSERT_TRUE((*runner)->Forward(batch).ok());
  }
  std::vector<float> expected(width), all;
  for (const auto& segment : states.states) all.insert(all.end(), segment.begin(), segment.end());
  for (size_t token = kPrompt; token < kLength; ++token) {
    for (size_t j = 0; j < width; ++j) expected[j] += all[token * width + j] / (kLength - kPrompt);
  }
  ExpectClose(mean.vector, expected, 1e-5f, "mean without the prompt");
}

// What a segment leaves when nobody wants anything of it: the memory.
TEST_P(MemoryParity, SegmentsWithoutOutputAreRemembered) {
  const std::vector<int32_t> ids = expected_->ReadIds("0.ids"), types(ids.size(), 0);
  const auto width = static_cast<size_t>(network_.config.encoder.hidden_size);
  std::vector<std::vector<float>> last;
  for (const bool wants_all : {true, false}) {
    Document document(network_, *backend_, 3);
    document.layers = {static_cast<int32_t>(network_.config.encoder.num_layers)};
    auto runner = PackedRunner::Create(*network_.encoder, *network_.head, *backend_, 16, 1);
    ASSERT_TRUE(runner.ok()) << runner.status();
    for (const size_t begin : {0, 5, 10}) {
      SequenceWork work = document.Segment(std::span(ids).subspan(begin, 5),
                                           std::span(types).subspan(begin, 5), width);
      if (!wants_all && begin < 10) work.tokens = nullptr;
      ASSERT_TRUE((*runner)->Forward({&work, 1}).ok());
      EXPECT_LE(document.memory().num_tokens(), 3);
    }
    last.push_back(document.states.back());
  }
  EXPECT_EQ(last[0], last[1]);
}

TEST_P(MemoryParity, MisuseIsAnError) {
  const std::vector<int32_t> ids(6, 1);
  Document document(network_, *backend_, 5);
  document.vector.resize(static_cast<size_t>(network_.config.encoder.hidden_size));
  auto runner = PackedRunner::Create(*network_.encoder, *network_.head, *backend_, 10, 4);
  ASSERT_TRUE(runner.ok()) << runner.status();
  const auto segment = [&](size_t size) {
    const auto part = std::span(ids).first(size);
    return document.Segment(part, part, 1);
  };
  const std::vector<SequenceWork> fits = {segment(5)}, longer = {segment(6)};
  const std::vector<SequenceWork> twice = {segment(2), segment(2)};
  EXPECT_TRUE((*runner)->Forward(fits).ok());
  EXPECT_FALSE((*runner)->Forward(longer).ok());
  EXPECT_FALSE((*runner)->Forward(twice).ok());
}

std::vector<std::string> Names() {
  std::vector<std::string> names;
  const Json cases = ReadJsonFile("tests/parity/families/cases.json");
  for (const Json& name : cases.Find("with_memory")->elements()) {
    names.push_back(*name.as_string());
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, MemoryParity,
                         testing::Combine(testing::ValuesIn(ParityDevices()),
                                          testing::ValuesIn(Names())),
                         [](const auto& info) {
                           return std::string(std::get<0>(info.param)) + "_" +
                                  std::get<1>(info.param);
                         });

}  // namespace
}  // namespace bertrand

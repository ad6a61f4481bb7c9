// The real all-MiniLM-L6-v2 against sentence-transformers, text to vector, on 200 sentences
// (make_minilm_expected.py).
//
// The checkpoint is in MINILM_FOLDER or .cache/models/all-MiniLM-L6-v2; without it the tests are
// skipped, unless REQUIRE_MINILM=1 makes that a failure.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "models/checkpoint/file.h"
#include "tests/parity/parity.h"

namespace bertrand {
namespace {

constexpr float kTolerance = 1e-5f;
constexpr size_t kDimensions = 384;

std::string MiniLmFolder() {
  const char* folder = std::getenv("MINILM_FOLDER");
  return folder != nullptr && *folder != 0 ? folder : ".cache/models/all-MiniLM-L6-v2";
}

class MiniLm : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string folder = MiniLmFolder();
    if (!PathExists(folder + "/model.safetensors")) {
      const char* require = std::getenv("REQUIRE_MINILM");
      ASSERT_FALSE(require != nullptr && std::strcmp(require, "1") == 0)
          << folder << " is not there, and REQUIRE_MINILM=1";
      GTEST_SKIP() << folder << " is not there: fetch all-MiniLM-L6-v2 or set MINILM_FOLDER";
    }
    auto model = Model::Load(folder, *backend_, {});
    ASSERT_TRUE(model.ok()) << model.status();
    model_ = *std::move(model);
    const Json sentences = ReadJsonFile("tests/parity/minilm/sentences.json");
    for (const Json& text : sentences.elements()) texts_.push_back(*text.as_string());
    auto bytes = ReadTextFile("tests/parity/minilm/expected.f32", 1'000'000);
    ASSERT_TRUE(bytes.ok()) << bytes.status();
    ASSERT_EQ(bytes->size(), texts_.size() * kDimensions * sizeof(float));
    // The reference backend would take minutes for all of them.
    if (std::strcmp(GetParam(), "reference") == 0) texts_.resize(40);
    expected_.resize(texts_.size() * kDimensions);
    std::memcpy(expected_.data(), bytes->data(), expected_.size() * sizeof(float));
  }

  // Vectors of all texts, `per_batch` of them at a time.
  std::vector<float> Embed(size_t per_batch) { return Embed(*model_, per_batch); }
  std::vector<float> Embed(const Model& model, size_t per_batch) {
    const int64_t max_tokens = model.description().max_tokens;
    auto runner = model.NewRunner(static_cast<int64_t>(per_batch) * max_tokens,
                                  static_cast<int64_t>(per_batch));
    BERTRAND_CHECK(runner.ok(), Message(runner.status()));
    PrepareOptions options;
    options.as_sentence = true;
    std::vector<float> vectors(texts_.size() * kDimensions, std::nanf(""));
    for (size_t first = 0; first < texts_.size(); first += per_batch) {
      const size_t count = std::min(per_batch, texts_.size() - first);
      std::vector<PreparedInput> inputs(count);
      std::vector<EmbedOutput> outputs(count);
      std::vector<SequenceWork> batch;
      for (size_t i = 0; i < count; ++i) {
        const absl::Status status = model.Prepare({texts_[first + i]}, options, &inputs[i]);
        EXPECT_TRUE(status.ok()) << status;
        outputs[i].vector = std::span(vectors).subspan((first + i) * kDimensions, kDimensions);
        batch.push_back({inputs[i].encoding.ids, inputs[i].encoding.type_ids, &outputs[i]});
      }
      const absl::Status status = (*runner)->Forward(batch);
      EXPECT_TRUE(status.ok()) << status;
    }
    return vectors;
  }

  TestBackend backend_{GetParam()};
  std::unique_ptr<Model> model_;
  std::vector<std::string> texts_;
  std::vector<float> expected_;
};

TEST_P(MiniLm, EveryComponentEqualsSentenceTransformers) {
  EXPECT_EQ(model_->description().max_tokens, 256);
  EXPECT_EQ(model_->description().num_parameters, 22713216u);
  const std::vector<float> vectors = Embed(8);
  for (size_t i = 0; i < texts_.size(); ++i) {
    ExpectClose(std::span(vectors).subspan(i * kDimensions, kDimensions),
                std::span(expected_).subspan(i * kDimensions, kDimensions), kTolerance,
                "sentence " + std::to_string(i));
  }
  RecordProperty("largest_distance", std::to_string(Distance(vectors, expected_) * 1e6) + "e-6");
}

TEST_P(MiniLm, AloneAsInABatch) {
  texts_.resize(40);
  ExpectClose(Embed(1), Embed(17), 1e-6f, "alone and in batches of 17");
}

// Text is cut at the checkpoint's max_seq_length; ids that a client made itself go as far as there
// are positions.
TEST_P(MiniLm, IdsMayUseEveryPosition) {
  EXPECT_EQ(model_->description().max_ids, 512);
  const std::vector<uint32_t> ids(513, 2003);
  PreparedInput input;
  EXPECT_TRUE(model_->PrepareIds(std::span(ids).first(512), {}, &input).ok());
  const absl::Status status = model_->PrepareIds(ids, {}, &input);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(Message(status).find("513 given, expected 1 to 512"), std::string::npos) << status;
}

// float8 on the emulated GPU, calibrated with one half of the texts, on some short ones of the
// other: the bar of docs/fp8.md.
class MiniLmFloat8 : public MiniLm {};

TEST_P(MiniLmFloat8, CosinesAreAtLeast99Percent) {
  const auto calibration = *model_->NewCalibration(8 * 256);
  PrepareOptions options;
  options.as_sentence = true;
  for (size_t first = 100; first < texts_.size(); first += 8) {
    std::vector<PreparedInput> inputs(std::min<size_t>(8, texts_.size() - first));
    for (size_t i = 0; i < inputs.size(); ++i) {
      ASSERT_TRUE(model_->Prepare({texts_[first + i]}, options, &inputs[i]).ok());
    }
    ASSERT_TRUE(calibration->Run(inputs).ok());
  }
  const TestFolder folder;
  const TestBackend emulated("emulated", DType::kFloat16);
  const std::string path = folder.Write("scales.json", *calibration->Finish());
  const auto model =
      Model::Load(MiniLmFolder(), *emulated, {.dtype = "float8", .float8_path = path});
  ASSERT_TRUE(model.ok()) << model.status();
  constexpr size_t kFirst = 10, kCount = 30;
  texts_ = {texts_.begin() + kFirst, texts_.begin() + kFirst + kCount};
  const std::vector<float> vectors = Embed(**model, 10);
  double least = 1;
  for (size_t i = 0; i < kCount; ++i) {
    double product = 0;  // of vectors of length 1
    for (size_t j = 0; j < kDimensions; ++j) {
      product += double{vectors[i * kDimensions + j]} * expected_[(kFirst + i) * kDimensions + j];
    }
    EXPECT_GE(product, 0.99) << texts_[i];
    least = std::min(least, product);
  }
  RecordProperty("least_cosine", std::to_string(least));
  // It was in float8.
  EXPECT_LT(least, 0.9999);
}

INSTANTIATE_TEST_SUITE_P(Cpu, MiniLmFloat8, testing::Values("cpu"));
INSTANTIATE_TEST_SUITE_P(Backends, MiniLm, testing::Values("cpu", "reference"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace bertrand

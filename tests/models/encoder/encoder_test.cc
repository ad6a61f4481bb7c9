// What Encoder::Load says about checkpoints that do not fit. (That it computes what transformers
// does is shown by tests/parity.)

#include "models/encoder/encoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "models/checkpoint/weight_files.h"
#include "models/config/families.h"
#include "tests/models/stored_tensors.h"
#include "tests/models/test_folder.h"

namespace bertrand {
namespace {

using testing::HasSubstr;

constexpr const char* kConfig =
    R"({"model_type":"bert","vocab_size":7,"hidden_size":4,"num_attention_heads":2,)"
    R"("num_hidden_layers":1,"intermediate_size":6,"max_position_embeddings":5})";

std::vector<TestTensor> Tensors() {
  std::vector<TestTensor> tensors = {
      {"embeddings.word_embeddings.weight", {7, 4}},
      {"embeddings.position_embeddings.weight", {5, 4}},
      {"embeddings.token_type_embeddings.weight", {2, 4}},
      {"embeddings.LayerNorm.weight", {4}},
      {"embeddings.LayerNorm.bias", {4}},
      {"pooler.dense.weight", {4, 4}},
      {"pooler.dense.bias", {4}},
  };
  const std::string layer = "encoder.layer.0.";
  for (const char* name : {"attention.self.query", "attention.self.key", "attention.self.value",
                           "attention.output.dense"}) {
    tensors.push_back({layer + name + ".weight", {4, 4}});
    tensors.push_back({layer + name + ".bias", {4}});
  }
  for (const char* name : {"attention.output.LayerNorm", "output.LayerNorm"}) {
    tensors.push_back({layer + name + ".weight", {4}});
    tensors.push_back({layer + name + ".bias", {4}});
  }
  tensors.push_back({layer + "intermediate.dense.weight", {6, 4}});
  tensors.push_back({layer + "intermediate.dense.bias", {6}});
  tensors.push_back({layer + "output.dense.weight", {4, 6}});
  tensors.push_back({layer + "output.dense.bias", {4}});
  return tensors;
}

class EncoderLoad : public testing::Test {
 protected:
  EncoderLoad() { folder_.Write("config.json", kConfig); }

  absl::StatusOr<std::unique_ptr<Encoder>> Load(const std::vector<TestTensor>& tensors) {
    folder_.Write("model.safetensors", SafetensorsBytes(tensors));
    BERTRAND_ASSIGN_OR_RETURN(const ModelConfig config, ReadModelConfig(folder_.path()));
    BERTRAND_ASSIGN_OR_RETURN(const WeightFiles files, WeightFiles::Open(folder_.path()));
    return Encoder::Load(config.encoder, config.names, files, *backend_, &note_);
  }

  ThreadPool pool_{1, "test"};
  std::unique_ptr<Backend> backend_ = *CreateBackend("reference", pool_);
  TestFolder folder_;
  std::string note_;
};

TEST_F(EncoderLoad, CountsParameters) {
  const auto encoder = Load(Tensors());
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  uint64_t count = 0;
  for (const TestTensor& tensor : Tensors()) {
    uint64_t elements = 1;
    for (const int64_t dim : tensor.shape) elements *= static_cast<uint64_t>(dim);
    count += elements;
  }
  EXPECT_EQ((*encoder)->num_parameters(), count);
  EXPECT_TRUE((*encoder)->has_pooler());
  EXPECT_EQ(note_, "");
}

// Every tensor is needed, with its shape; the pooler's two only together.
TEST_F(EncoderLoad, MissingAndMisshapen) {
  const std::vector<TestTensor> whole = Tensors();
  for (size_t i = 0; i < whole.size(); ++i) {
    const std::string& name = whole[i].name;
    std::vector<TestTensor> tensors = whole;
    tensors.erase(tensors.begin() + static_cast<std::ptrdiff_t>(i));
    const auto without = Load(tensors);
    EXPECT_THAT(Message(without.status()), HasSubstr("tensor \"" + name + "\" is missing"));
    tensors = whole;
    tensors[i].shape.back() += 1;
    EXPECT_THAT(Message(Load(tensors).status()), HasSubstr("tensor \"" + name + "\" is F32["));
    tensors[i].shape.back() -= 1;
    tensors[i].shape.push_back(1);
    EXPECT_THAT(Message(Load(tensors).status()), HasSubstr("tensor \"" + name + "\" is F32["));
  }
}

TEST_F(EncoderLoad, WithoutPooler) {
  std::vector<TestTensor> tensors = Tensors();
  std::erase_if(tensors, [](const TestTensor& t) { return t.name.starts_with("pooler"); });
  const auto encoder = Load(tensors);
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  EXPECT_FALSE((*encoder)->has_pooler());
}

// A configuration alone makes no memory: the files have to have tensors of its sizes.
TEST_F(EncoderLoad, SizesComeFromTheFiles) {
  folder_.Write("config.json",
                R"({"model_type":"bert","vocab_size":2147483647,"hidden_size":131072,)"
                R"("num_attention_heads":131072,"num_hidden_layers":1024,)"
                R"("intermediate_size":131072,"max_position_embeddings":2147483647})");
  EXPECT_THAT(Message(Load(Tensors()).status()),
              HasSubstr("is F32[7,4], expected [2147483647,131072]"));
}

TEST_F(EncoderLoad, PrefixAndLegacyNames) {
  std::vector<TestTensor> tensors = Tensors();
  for (TestTensor& tensor : tensors) {
    tensor.name = "bert." + tensor.name;
    const auto replace = [&](const std::string& from, const std::string& to) {
      const size_t at = tensor.name.find(from);
      if (at != std::string::npos) tensor.name.replace(at, from.size(), to);
    };
    replace("LayerNorm.weight", "LayerNorm.gamma");
    replace("LayerNorm.bias", "LayerNorm.beta");
  }
  tensors.push_back({"bert.embeddings.position_ids", {1, 5}});
  tensors.push_back({"classifier.weight", {2, 4}});
  const auto encoder = Load(tensors);
  ASSERT_TRUE(encoder.ok()) << encoder.status();
  EXPECT_THAT(note_, HasSubstr("1 tensors are not used: classifier.weight"));
}

}  // namespace
}  // namespace bertrand

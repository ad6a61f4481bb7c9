#include <gtest/gtest.h>

#include "kernels/embedding/embedding_reference.h"
#include "tests/kernels/device_fixture.h"

namespace bertrand {
namespace {

// As in layer_norm_test.cc: 16 roundings of values up to 4.
constexpr double kAbsolute = 16 * 4 * kRounding;

class EmbeddingTest : public DeviceTest {
 protected:
  std::vector<int32_t> RandomIds(int64_t count, int32_t limit) {
    std::uniform_int_distribution<int32_t> uniform(0, limit - 1);
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (int32_t& id : ids) id = uniform(random_);
    return ids;
  }

  void ExpectMatchesReference(int64_t tokens, int64_t width, bool with_position, bool with_type,
                              bool with_norm) {
    SCOPED_TRACE(testing::Message()
                 << tokens << " x " << width << with_position << with_type << with_norm);
    GuardedTensor word{50, width}, position{20, width}, type{2, width}, gamma{width}, beta{width};
    for (GuardedTensor* tensor : {&word, &position, &type, &gamma, &beta}) {
      tensor->Randomize(random_);
    }
    std::vector<int32_t> ids = RandomIds(tokens, 50), position_ids = RandomIds(tokens, 20),
                         type_ids = RandomIds(tokens, 2);
    GuardedTensor y{tokens, width}, expected{tokens, width};
    EmbeddingParams params;
    params.ids = IntView(ids);
    params.word = word.view();
    if (with_position) {
      params.position_ids = IntView(position_ids);
      params.position = position.view();
    }
    if (with_type) {
      params.type_ids = IntView(type_ids);
      params.type = type.view();
    }
    if (with_norm) {
      params.gamma = gamma.view();
      params.beta = beta.view();
    }
    params.eps = 1e-12f;
    params.y = y.view();
    ASSERT_TRUE(backend_->Embedding(*stream_, params).ok());
    params.y = expected.view();
    EmbeddingReference(params);
    y.ExpectNear(expected, kAbsolute, 0);
  }
};

TEST_P(EmbeddingTest, EveryCombinationOfTables) {
  for (const bool position : {false, true}) {
    for (const bool type : {false, true}) {
      for (const bool norm : {false, true}) {
        ExpectMatchesReference(5, 37, position, type, norm);
        ExpectMatchesReference(100, 384, position, type, norm);
      }
    }
  }
}

TEST_P(EmbeddingTest, NoTokensDoNothing) {
  GuardedTensor word{5, 8};
  EmbeddingParams params;
  params.ids = {nullptr, DType::kInt32, {0}};
  params.word = word.view();
  params.y = {nullptr, DType::kFloat32, {0, 8}};
  EXPECT_TRUE(backend_->Embedding(*stream_, params).ok());
}

TEST_P(EmbeddingTest, WrongOperandsAreNamed) {
  GuardedTensor word{5, 8}, narrow{5, 7}, gamma{8}, y{3, 8};
  std::vector<int32_t> ids = {0, 1, 2}, two_ids = {0, 1};
  EmbeddingParams good;
  good.ids = IntView(ids);
  good.word = word.view();
  good.y = y.view();
  EmbeddingParams params = good;
  params.ids = IntView(two_ids);
  ExpectInvalid(backend_->Embedding(*stream_, params),
                "Embedding: ids is int32[2], expected int32[3]");
  params = good;
  params.word = narrow.view();
  ExpectInvalid(backend_->Embedding(*stream_, params),
                "Embedding: word is float32[5,7], expected float32[5,8]");
  params = good;
  params.position = word.view();
  ExpectInvalid(backend_->Embedding(*stream_, params),
                "Embedding: position_ids is absent, expected int32[3]");
  params = good;
  params.type_ids = IntView(ids);
  ExpectInvalid(backend_->Embedding(*stream_, params), "Embedding: type is absent");
  params = good;
  params.gamma = gamma.view();
  ExpectInvalid(backend_->Embedding(*stream_, params),
                "Embedding: beta is absent, expected float32[8]");
}

INSTANTIATE_TEST_SUITE_P(Devices, EmbeddingTest, testing::ValuesIn(DeviceCases()), CaseName);

}  // namespace
}  // namespace bertrand

#include <gtest/gtest.h>

#include "kernels/attention/attention_reference.h"
#include "tests/kernels/device_fixture.h"

namespace bertrand {
namespace {

class AttentionTest : public DeviceTest {
 protected:
  static std::vector<int32_t> CuSeqlens(const std::vector<int32_t>& lengths) {
    std::vector<int32_t> result = {0};
    for (const int32_t length : lengths) result.push_back(result.back() + length);
    return result;
  }

  // Compares with float64. Scores of magnitude s are off by a few roundings of s, which the
  // exponential turns into a relative error of the probabilities; the sums add sqrt(length)
  // roundings. With scores up to about 10 and lengths up to 1030: below 100 roundings of the
  // values, which are at most 1.
  void ExpectMatchesReference(const std::vector<int32_t>& lengths, int64_t heads, int64_t head_size,
                              float magnitude = 1) {
    SCOPED_TRACE(testing::Message() << lengths.size() << " sequences, first " << lengths[0] << ", "
                                    << heads << " heads of " << head_size);
    std::vector<int32_t> cu_seqlens = CuSeqlens(lengths);
    const int64_t tokens = cu_seqlens.back();
    GuardedTensor qkv{tokens, 3, heads, head_size};
    GuardedTensor out{tokens, heads, head_size}, expected{tokens, heads, head_size};
    qkv.Randomize(random_, magnitude);
    const float scale = 1 / std::sqrt(static_cast<float>(head_size));
    AttentionParams params{qkv.view(), IntView(cu_seqlens), cu_seqlens, scale, out.view()};
    ASSERT_TRUE(backend_->Attention(*stream_, params).ok());
    params.out = expected.view();
    AttentionReference(params);
    out.ExpectNear(expected, 100 * kRounding * magnitude, 0);
  }
};

TEST_P(AttentionTest, LengthsAroundTiles) {
  for (const int32_t length :
       {1, 2, 5, 6, 7, 8, 9, 11, 12, 13, 15, 16, 17, 31, 32, 33, 65, 127, 128, 129, 200}) {
    ExpectMatchesReference({length}, 2, 32);
  }
}

TEST_P(AttentionTest, HeadSizes) {
  for (const int64_t head_size : {1, 3, 8, 16, 20, 32, 48, 64, 65, 80, 128, 255, 256}) {
    ExpectMatchesReference({19, 40}, 3, head_size);
  }
}

TEST_P(AttentionTest, RaggedBatchesWithEmptySequences) {
  ExpectMatchesReference({3, 0, 17, 1, 130, 0, 0, 64, 5}, 4, 32);
  ExpectMatchesReference({0, 0, 7, 0}, 1, 64);
  ExpectMatchesReference(std::vector<int32_t>(200, 3), 2, 16);
}

// Beyond one block of keys (512): the running maximum and sum.
TEST_P(AttentionTest, SequencesOfSeveralKeyBlocks) {
  ExpectMatchesReference({512}, 1, 32);
  ExpectMatchesReference({513}, 1, 32);
  ExpectMatchesReference({1030, 20}, 1, 20);
}

// Scores of several hundred: without the maximum subtracted, exponentials overflow. Nearly all
// weight is on one key; the scores' own roundings (of magnitude 300) are in the exponent.
TEST_P(AttentionTest, LargeScores) {
  std::vector<int32_t> cu_seqlens = {0, 700};
  GuardedTensor qkv{700, 3, 1, 32}, out{700, 1, 32}, expected{700, 1, 32};
  qkv.Randomize(random_, 10);
  AttentionParams params{qkv.view(), IntView(cu_seqlens), cu_seqlens, 1.0f, out.view()};
  ASSERT_TRUE(backend_->Attention(*stream_, params).ok());
  params.out = expected.view();
  AttentionReference(params);
  // Each score adds 32 products of up to 100: 16 roundings of at most 3200, times values up to 10.
  out.ExpectNear(expected, 16 * kRounding * 3200 * 10, 0);
}

// Equal scores: the plain mean; a single key: its value.
TEST_P(AttentionTest, KnownValues) {
  std::vector<int32_t> cu_seqlens = {0, 3, 4};
  GuardedTensor qkv{4, 3, 1, 2}, out{4, 1, 2};
  for (size_t t = 0; t < 4; ++t) {
    for (size_t j = 0; j < 4; ++j) qkv[6 * t + j] = j < 2 ? 0.0f : 1.0f;  // q = 0, k = 1
    qkv[6 * t + 4] = static_cast<float>(t);
    qkv[6 * t + 5] = static_cast<float>(10 * t);
  }
  ASSERT_TRUE(
      backend_->Attention(*stream_, {qkv.view(), IntView(cu_seqlens), cu_seqlens, 1, out.view()})
          .ok());
  GuardedTensor expected{4, 1, 2};
  for (size_t t = 0; t < 3; ++t) {
    expected[2 * t] = 1;
    expected[2 * t + 1] = 10;
  }
  expected[6] = 3;
  expected[7] = 30;
  out.ExpectNear(expected, 0, 4 * kRounding);
}

TEST_P(AttentionTest, SequencesDoNotDependOnTheirBatch) {
  const std::vector<int32_t> lengths = {150, 16, 7};
  std::vector<int32_t> cu_seqlens = CuSeqlens(lengths);
  GuardedTensor qkv{173, 3, 2, 32}, together{173, 2, 32};
  qkv.Randomize(random_);
  ASSERT_TRUE(backend_
                  ->Attention(*stream_,
                              {qkv.view(), IntView(cu_seqlens), cu_seqlens, 0.2f, together.view()})
                  .ok());
  for (size_t s = 0; s < lengths.size(); ++s) {
    std::vector<int32_t> alone_seqlens = {0, lengths[s]};
    GuardedTensor alone{lengths[s], 2, 32};
    const TensorView part(qkv.data() + cu_seqlens[s] * 192, DType::kFloat32,
                          {lengths[s], 3, 2, 32});
    ASSERT_TRUE(
        backend_
            ->Attention(*stream_, {part, IntView(alone_seqlens), alone_seqlens, 0.2f, alone.view()})
            .ok());
    for (size_t i = 0; i < alone.size(); ++i) {
      ASSERT_NEAR(alone[i], together[static_cast<size_t>(cu_seqlens[s]) * 64 + i], 1e-6);
    }
  }
}

TEST_P(AttentionTest, NoTokensDoNothing) {
  std::vector<int32_t> cu_seqlens = {0, 0};
  const AttentionParams params{{nullptr, DType::kFloat32, {0, 3, 2, 32}},
                               IntView(cu_seqlens),
                               cu_seqlens,
                               1,
                               {nullptr, DType::kFloat32, {0, 2, 32}}};
  EXPECT_TRUE(backend_->Attention(*stream_, params).ok());
}

TEST_P(AttentionTest, WrongOperandsAreNamed) {
  std::vector<int32_t> cu_seqlens = {0, 2, 5};
  GuardedTensor qkv{5, 3, 2, 8}, out{5, 2, 8}, narrow{5, 2, 7}, two{5, 2, 2, 8}, wide{1, 3, 1, 257},
      wide_out{1, 1, 257};
  const AttentionParams good{qkv.view(), IntView(cu_seqlens), cu_seqlens, 1, out.view()};
  AttentionParams params = good;
  params.qkv = two.view();
  ExpectInvalid(backend_->Attention(*stream_, params),
                "Attention: qkv is float32[5,2,2,8], expected float32[5,3,2,8]");
  params = good;
  params.out = narrow.view();
  ExpectInvalid(backend_->Attention(*stream_, params), "Attention: out is float32[5,2,7]");
  params = good;
  const std::vector<int32_t> long_host = {0, 6};
  params.cu_seqlens_host = long_host;
  ExpectInvalid(backend_->Attention(*stream_, params),
                "cu_seqlens_host is from 0 to 6, expected from 0 to at most 5");
  params.cu_seqlens_host = {};
  ExpectInvalid(backend_->Attention(*stream_, params), "cu_seqlens_host is empty");
  const std::vector<int32_t> falling = {0, 6, 5};
  params.cu_seqlens_host = falling;
  ExpectInvalid(backend_->Attention(*stream_, params),
                "cu_seqlens_host[2] is 5, expected at least 6");
  const std::vector<int32_t> other_count = {0, 5};
  params.cu_seqlens_host = other_count;
  ExpectInvalid(backend_->Attention(*stream_, params), "cu_seqlens is int32[3], expected int32[2]");
  std::vector<int32_t> one = {0, 1};
  ExpectInvalid(backend_->Attention(*stream_, {wide.view(), IntView(one), one, 1, wide_out.view()}),
                "head_size <= 256");
}

TEST_P(AttentionTest, MoreTokensThanTheStreamsAreRefused) {
  if (GetParam().device == "reference") return;  // whose streams hold nothing
  auto stream = backend_->CreateStream(4);
  ASSERT_TRUE(stream.ok());
  std::vector<int32_t> cu_seqlens = {0, 5};
  GuardedTensor qkv{5, 3, 2, 8}, out{5, 2, 8};
  qkv.Randomize(random_);
  ExpectInvalid(
      backend_->Attention(**stream, {qkv.view(), IntView(cu_seqlens), cu_seqlens, 1, out.view()}),
      "Attention: 5 tokens on a stream made for 4");
  ExpectInvalid(backend_->CreateStream(0).status(), "CreateStream: max_tokens is 0");
}

INSTANTIATE_TEST_SUITE_P(Devices, AttentionTest, testing::ValuesIn(DeviceCases()), CaseName);

}  // namespace
}  // namespace bertrand

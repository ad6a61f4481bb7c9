#include <algorithm>
#include <cmath>

#include "kernels/embedding/embedding.h"
#include "kernels/embedding/embedding_reference.h"
#include "tests/kernels/row_kernel_fixture.h"

namespace bertrand {
namespace {

struct Tables {
  bool position, type, norm;
};

class EmbeddingKernelTest : public RowKernelTest {
 protected:
  std::vector<int32_t> RandomIds(int64_t count, int32_t limit) {
    std::uniform_int_distribution<int32_t> uniform(0, limit - 1);
    std::vector<int32_t> ids(static_cast<size_t>(count));
    for (int32_t& id : ids) id = uniform(random_);
    return ids;
  }

  void Check(DType dtype, int64_t tokens, int64_t width, Tables with) {
    SCOPED_TRACE(testing::Message() << Name(dtype) << ' ' << tokens << " x " << width << ' '
                                    << with.position << with.type << with.norm);
    std::vector<float> word = Random(50 * width, 1, dtype), position = Random(20 * width, 1, dtype),
                       type = Random(2 * width, 1, dtype), gamma = Random(width, 1, dtype),
                       beta = Random(width, 1, dtype);
    std::vector<int32_t> ids = RandomIds(tokens, 50), position_ids = RandomIds(tokens, 20),
                         type_ids = RandomIds(tokens, 2);
    const DeviceTensor d_word = Upload(word, dtype, {50, width}),
                       d_position = Upload(position, dtype, {20, width}),
                       d_type = Upload(type, dtype, {2, width}),
                       d_gamma = Upload(gamma, dtype, {width}),
                       d_beta = Upload(beta, dtype, {width}), d_ids = Upload(ids),
                       d_position_ids = Upload(position_ids), d_type_ids = Upload(type_ids);
    std::vector<float> expected(static_cast<size_t>(tokens * width));
    EmbeddingParams device, host;
    device.ids = d_ids.view, host.ids = HostView(ids);
    device.word = d_word.view, host.word = HostView(word, {50, width});
    if (with.position) {
      device.position_ids = d_position_ids.view, host.position_ids = HostView(position_ids);
      device.position = d_position.view, host.position = HostView(position, {20, width});
    }
    if (with.type) {
      device.type_ids = d_type_ids.view, host.type_ids = HostView(type_ids);
      device.type = d_type.view, host.type = HostView(type, {2, width});
    }
    if (with.norm) {
      device.gamma = d_gamma.view, host.gamma = HostView(gamma, {width});
      device.beta = d_beta.view, host.beta = HostView(beta, {width});
    }
    device.eps = host.eps = 1e-12f;
    host.y = HostView(expected, {tokens, width});
    EmbeddingReference(host);

    DeviceTensor y;
    const auto run = [&] {
      y = Empty(dtype, {tokens, width});
      device.y = y.view;
      return gpu::Embedding(device, *stream_);
    };
    // As in layer_norm_test.cc: 16 float roundings of values up to 4, then one to the type. The
    // reference's result may be that far from the next rounding boundary.
    ExpectClose(UnderEveryOrder(run, [&] { return Read(y.view); }), expected, 16 * 4 * 0x1p-24,
                RoundingOf(dtype) * (1 + 1e-3));
    if (width % 8 == 0 && width % 32 == 0) ExpectIdealSectors(run);
  }
};

TEST_F(EmbeddingKernelTest, EveryCombinationOfTables) {
  for (const DType dtype : kFloatTypes) {
    for (const bool position : {false, true}) {
      for (const bool type : {false, true}) {
        for (const bool norm : {false, true}) {
          Check(dtype, 5, 37, {position, type, norm});
          Check(dtype, 6, 64, {position, type, norm});
        }
      }
    }
  }
}

// Every entry of the launch table, at its edges; widths that are whole vectors and that are not.
TEST_F(EmbeddingKernelTest, EveryWidth) {
  for (const DType dtype : kFloatTypes) {
    for (const int64_t width :
         {1, 8, 31, 128, 248, 256, 257, 264, 384, 512, 520, 768, 776, 1024, 1032, 1280}) {
      Check(dtype, 3, width, {true, true, true});
    }
  }
}

TEST_F(EmbeddingKernelTest, TokensAroundABlock) {
  for (const int64_t tokens : {1, 3, 4, 5, 33}) {
    Check(DType::kFloat16, tokens, 384, {true, true, true});
  }
}

// The registers' path and the wide one, at a scale at which some values saturate.
TEST_F(EmbeddingKernelTest, WritesASecondOutputInFloat8) {
  for (const int64_t width : {40, 768, 1032}) {
    const DeviceTensor word = Upload(Random(9 * width, 1, DType::kFloat16), DType::kFloat16,
                                     {9, width}),
                       gamma = Upload(Random(width, 1, DType::kFloat16), DType::kFloat16, {width}),
                       ids = Upload(RandomIds(5, 9)), y = Empty(DType::kFloat16, {5, width}),
                       narrow = Empty(DType::kFloat8, {5, width}),
                       scale = Upload({0.004f}, DType::kFloat32, {1});
    EmbeddingParams params;
    params.ids = ids.view;
    params.word = word.view;
    params.gamma = params.beta = gamma.view;
    params.y = y.view;
    params.narrow = {narrow.view, scale.view};
    const auto run = [&] { return gpu::Embedding(params, *stream_); };
    const std::vector<float> wide = UnderEveryOrder(run, [&] { return Read(y.view); });
    std::vector<uint8_t> bytes(wide.size());
    ASSERT_TRUE(ReadBack(*stream_, bytes.data(), narrow.view.data(), DType::kFloat8, bytes.size()));
    for (size_t i = 0; i < wide.size(); ++i) {
      const float expected = std::clamp(wide[i] / 0.004f, -448.0f, 448.0f);
      // A rounding to 4 bits of a value that f16's may have moved; subnormals are multiples of
      // 2^-9.
      ASSERT_NEAR(ToHostFloat(simt::Float8{bytes[i]}), expected,
                  std::abs(expected) * (0x1p-4 + 0x1p-10) + 0x1p-10);
    }
  }
}

TEST_F(EmbeddingKernelTest, RefusesFloat8ItCannotWrite) {
  const DeviceTensor word = Upload(Random(9 * 12, 1, DType::kFloat16), DType::kFloat16, {9, 12}),
                     ids = Upload(RandomIds(5, 9)), y = Empty(DType::kFloat16, {5, 12}),
                     narrow = Empty(DType::kFloat8, {5, 12}),
                     scale = Upload({1}, DType::kFloat32, {1});
  EmbeddingParams params;
  params.ids = ids.view;
  params.word = word.view;
  params.y = y.view;
  params.narrow = {narrow.view, scale.view};
  EXPECT_EQ(gpu::Embedding(params, *stream_).code(), absl::StatusCode::kInvalidArgument);
  params.narrow = {narrow.view, {}};
  EXPECT_EQ(gpu::Embedding(params, *stream_).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(EmbeddingKernelTest, NoTokensDoNothing) {
  EmbeddingParams params;
  params.y = {nullptr, DType::kFloat16, {0, 8}};
  EXPECT_TRUE(gpu::Embedding(params, *stream_).ok());
}

TEST_F(EmbeddingKernelTest, OtherTypesAreRefused) {
  const DeviceTensor y = Empty(DType::kInt32, {2, 8});
  EmbeddingParams params;
  params.y = y.view;
  EXPECT_EQ(gpu::Embedding(params, *stream_).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace bertrand

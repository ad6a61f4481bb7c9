#include <gmock/gmock.h>

#include <numeric>

#include "kernels/relative_attention/relative_attention.h"
#include "kernels/relative_attention/relative_attention_reference.h"
#include "tests/kernels/emulated_fixture.h"

namespace bertrand {
namespace {

using simt::BFloat16;
using simt::Half;

// A ring of `capacity` rows, of which `size` are read from row `first` on.
struct Ring {
  int64_t capacity = 0, first = 0, size = 0;
};

struct Shape {
  std::vector<int> lengths;
  int64_t heads = 2, head_size = 64;
  std::vector<Ring> rings = {};  // none: no memory
  int64_t reach = 400;           // of the position table to both sides
  float magnitude = 1;
};

// The operands of one call, on the device and, as the kernel sees them, on the host.
template <typename T>
class Operands {
 public:
  Operands(simt::Stream& stream, const Shape& shape, std::mt19937& random)
      : stream_(stream), random_(random), shape_(shape) {
    for (const int length : shape.lengths) cu_seqlens_.push_back(cu_seqlens_.back() + length);
    const int64_t heads = shape.heads, size = shape.head_size;
    qkv_ = Make({tokens(), 3, heads, size});
    for (Tensor& bias : biases_) bias = Make({heads, size});
    positions_ = Make({2 * shape.reach + 1, heads, size});
    segments_ = Make({2, heads, size});
    std::vector<int> types(static_cast<size_t>(tokens()));
    for (int& type : types) type = std::uniform_int_distribution<int>(0, 2)(random);
    types_ = std::make_unique<DeviceTensor<int>>(stream, std::vector<int64_t>{tokens()}, types);
    host_types_ = std::move(types);
    for (const Ring& ring : shape.rings) {
      Tensor keys, values;
      if (ring.capacity > 0) {
        keys = Make({ring.capacity, heads, size});
        values = Make({ring.capacity, heads, size});
      }
      rings_.push_back({std::move(keys), std::move(values)});
    }
  }

  int64_t tokens() const { return cu_seqlens_.back(); }
  float scale() const { return 1 / std::sqrt(static_cast<float>(shape_.head_size)); }

  void set_tile(gpu::AttentionTile tile) { tile_ = tile; }

  // The cu_seqlens of the launch may be of fewer rows than the tensors.
  std::vector<float> Run() { return Run(cu_seqlens_, {}); }
  std::vector<float> Run(const std::vector<int>& launch_seqlens,
                         const std::vector<float>& out_before) {
    const std::vector<int64_t> out_shape = {tokens(), shape_.heads, shape_.head_size};
    const DeviceTensor<T> out = out_before.empty()
                                    ? DeviceTensor<T>(stream_, out_shape)
                                    : DeviceTensor<T>(stream_, out_shape, out_before);
    const DeviceTensor<int> cu_seqlens(stream_, {static_cast<int64_t>(launch_seqlens.size())},
                                       launch_seqlens);
    const absl::Status status = Launch(cu_seqlens, out.view(), {});
    EXPECT_TRUE(status.ok()) << Message(status);
    return status.ok() ? out.Download() : std::vector<float>();
  }
  // In FP8, divided by `scale`.
  std::vector<float> RunFloat8(float scale) {
    const DeviceTensor<simt::Float8> out(stream_, {tokens(), shape_.heads, shape_.head_size});
    const DeviceTensor<int> cu_seqlens(stream_, {static_cast<int64_t>(cu_seqlens_.size())},
                                       cu_seqlens_);
    const DeviceTensor<float> out_scale(stream_, {1}, std::vector<float>{scale});
    const absl::Status status = Launch(cu_seqlens, out.view(), out_scale.view());
    EXPECT_TRUE(status.ok()) << Message(status);
    return status.ok() ? out.Download() : std::vector<float>();
  }
  absl::Status Launch(const DeviceTensor<int>& cu_seqlens, const TensorView& out,
                      const TensorView& out_scale) {
    gpu::RelativeAttentionParams params = {.qkv = qkv_->view(),
                                           .content_bias = biases_[0]->view(),
                                           .position_bias = biases_[1]->view(),
                                           .segment_bias = biases_[2]->view(),
                                           .positions = positions_->view(),
                                           .center = shape_.reach,
                                           .segments = segments_->view(),
                                           .type_ids = types_->view(),
                                           .cu_seqlens = cu_seqlens.view(),
                                           .scale = scale(),
                                           .out = out,
                                           .out_scale = out_scale,
                                           .tile = tile_};
    const simt::Memory rings = UploadRings(params);
    return gpu::RelativeAttention(params, stream_);
  }

  // 0 before token `first`, `type` from there on.
  void SetTypes(int type, size_t first = 0) {
    for (size_t i = 0; i < host_types_.size(); ++i) {
      host_types_[i] = i < first ? 0 : type;
    }
    types_ =
        std::make_unique<DeviceTensor<int>>(stream_, std::vector<int64_t>{tokens()}, host_types_);
  }

  // Adds to all queries 1, and to the keys from 0 to `rise`, the more the later they come.
  void RaiseScores(float rise) {
    std::vector<float> qkv = qkv_->values();
    const int64_t width = shape_.heads * shape_.head_size;
    for (int64_t i = 0; i < tokens() * width; ++i) {
      const int64_t token = i / width, at = token * 3 * width + i % width;
      qkv[static_cast<size_t>(at)] += 1;
      qkv[static_cast<size_t>(at + width)] +=
          rise * static_cast<float>(token) / static_cast<float>(tokens());
    }
    qkv_ = std::make_unique<DeviceTensor<T>>(
        stream_, std::vector<int64_t>{tokens(), 3, shape_.heads, shape_.head_size}, qkv);
  }

  // Of one sequence the rows from `first` on, those before as its memory; tables and biases shared.
  Operands SecondPart(int first) {
    const int64_t width = shape_.heads * shape_.head_size, rest = tokens() - first;
    Shape shape = shape_;
    shape.lengths = {static_cast<int>(rest)};
    shape.rings = {{first, 0, first}};
    Operands second(stream_, shape, random_);
    const std::vector<float>& qkv = qkv_->values();
    second.qkv_ = std::make_unique<DeviceTensor<T>>(
        stream_, std::vector<int64_t>{rest, 3, shape.heads, shape.head_size},
        std::vector<float>(qkv.begin() + first * 3 * width, qkv.end()));
    std::vector<float> keys, values;
    for (int64_t t = 0; t < first; ++t) {
      const auto row = qkv.begin() + t * 3 * width;
      keys.insert(keys.end(), row + width, row + 2 * width);
      values.insert(values.end(), row + 2 * width, row + 3 * width);
    }
    const std::vector<int64_t> ring_shape = {first, shape.heads, shape.head_size};
    second.rings_[0] = {std::make_unique<DeviceTensor<T>>(stream_, ring_shape, keys),
                        std::make_unique<DeviceTensor<T>>(stream_, ring_shape, values)};
    for (int i = 0; i < 3; ++i) second.biases_[i] = std::move(biases_[i]);
    second.positions_ = std::move(positions_);
    second.segments_ = std::move(segments_);
    second.SetTypes(0);
    return second;
  }

  // float64, of the values as T.
  std::vector<double> Exact() {
    std::vector<float> out(static_cast<size_t>(tokens() * shape_.heads * shape_.head_size));
    std::vector<AttentionMemory> memory;
    for (size_t s = 0; s < rings_.size(); ++s) {
      const Ring& ring = shape_.rings[s];
      memory.push_back({Host(rings_[s].first), Host(rings_[s].second), ring.first, ring.size});
    }
    RelativeAttentionReference(
        {.qkv = Host(qkv_),
         .content_bias = Host(biases_[0]),
         .position_bias = Host(biases_[1]),
         .segment_bias = Host(biases_[2]),
         .positions = Host(positions_),
         .center = shape_.reach,
         .segments = Host(segments_),
         .type_ids = TensorView(host_types_.data(), DType::kInt32, {tokens()}),
         .cu_seqlens_host = cu_seqlens_,
         .memory = memory,
         .scale = scale(),
         .out = {out.data(), DType::kFloat32, {tokens(), shape_.heads, shape_.head_size}}});
    return {out.begin(), out.end()};
  }

  // Step by step as transformers' rel_attn_core in T: queries with biases, the three products,
  // their sum, the scaled scores, the probabilities and the result are each rounded.
  std::vector<float> Naive() {
    std::vector<float> out;
    for (size_t s = 0; s + 1 < cu_seqlens_.size(); ++s) {
      for (int64_t i = 0; i < cu_seqlens_[s + 1] - cu_seqlens_[s]; ++i) {
        for (int64_t h = 0; h < shape_.heads; ++h) AppendNaiveRow(s, i, h, out);
      }
    }
    return out;
  }

 private:
  using Tensor = std::unique_ptr<DeviceTensor<T>>;

  Tensor Make(std::vector<int64_t> shape) {
    int64_t count = 1;
    for (const int64_t dim : shape) count *= dim;
    std::uniform_real_distribution<float> uniform(-shape_.magnitude, shape_.magnitude);
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = uniform(random_);
    return std::make_unique<DeviceTensor<T>>(stream_, std::move(shape), values);
  }

  // A view of the host's values in the tensor's shape.
  static TensorView Host(const Tensor& tensor) {
    if (tensor == nullptr) return {};
    float* const data = const_cast<float*>(tensor->values().data());
    const TensorView like = tensor->view();
    if (like.rank() == 2) return {data, DType::kFloat32, {like.dim(0), like.dim(1)}};
    if (like.rank() == 3) return {data, DType::kFloat32, {like.dim(0), like.dim(1), like.dim(2)}};
    return {data, DType::kFloat32, {like.dim(0), like.dim(1), like.dim(2), like.dim(3)}};
  }

  simt::Memory UploadRings(gpu::RelativeAttentionParams& params) {
    if (rings_.empty()) return {};
    std::vector<AttentionMemory> memory;
    for (size_t s = 0; s < rings_.size(); ++s) {
      const auto& [keys, values] = rings_[s];
      memory.push_back({keys ? keys->view() : TensorView(), values ? values->view() : TensorView(),
                        shape_.rings[s].first, shape_.rings[s].size});
    }
    std::vector<gpu::MemoryRing> rings(memory.size());
    const auto rows = gpu::DescribeMemory(memory, rings);
    BERTRAND_CHECK(rows.ok(), Message(rows.status()));
    const size_t size_bytes = rings.size() * sizeof(gpu::MemoryRing);
    auto on_device = std::move(stream_.device().Allocate(size_bytes)).value();
    const absl::Status status = stream_.CopyToDevice(on_device.data(), rings.data(), size_bytes);
    BERTRAND_CHECK(status.ok(), Message(status));
    params.memory_rows = *rows;
    params.rings = static_cast<const gpu::MemoryRing*>(on_device.data());
    return on_device;
  }

  const float* At(const Tensor& tensor, int64_t row, int64_t head) const {
    return tensor->values().data() + (row * shape_.heads + head) * shape_.head_size;
  }
  // Of token j of a sequence, before 0 in its memory: query (0), key (1), value (2).
  const float* Row(size_t s, int64_t part, int64_t j, int64_t head) const {
    if (j >= 0) return At(qkv_, 3 * (cu_seqlens_[s] + j) + part, head);
    const Ring& ring = shape_.rings[s];
    const int64_t row = (ring.first + ring.size + j) % ring.capacity;
    return At(part == 1 ? rings_[s].first : rings_[s].second, row, head);
  }
  float Product(const float* query, const Tensor& bias, int64_t head, const float* other) const {
    double sum = 0;
    for (int64_t c = 0; c < shape_.head_size; ++c) {
      sum += double{Rounded<T>(double{query[c]} + At(bias, 0, head)[c])} * other[c];
    }
    return Rounded<T>(sum);
  }

  void AppendNaiveRow(size_t s, int64_t i, int64_t head, std::vector<float>& out) const {
    const int64_t begin = cu_seqlens_[s], length = cu_seqlens_[s + 1] - begin;
    const int64_t memory = shape_.rings.empty() ? 0 : shape_.rings[s].size;
    const float* query = Row(s, 0, i, head);
    const auto type = [&](int64_t j) {
      return j < 0 ? 0 : host_types_[static_cast<size_t>(begin + j)];
    };
    std::vector<float> weights;
    for (int64_t j = -memory; j < length; ++j) {
      const int64_t at = std::clamp<int64_t>(shape_.reach + j - i, 0, 2 * shape_.reach);
      const float content = Product(query, biases_[0], head, Row(s, 1, j, head));
      const float position = Product(query, biases_[1], head, At(positions_, at, head));
      const float segment =
          Product(query, biases_[2], head, At(segments_, type(i) == type(j) ? 0 : 1, head));
      const float sum = Rounded<T>(double{Rounded<T>(double{content} + position)} + segment);
      weights.push_back(Rounded<T>(double{sum} * double{Rounded<T>(scale())}));
    }
    const float max = *std::max_element(weights.begin(), weights.end());
    double sum = 0;
    for (const float weight : weights) sum += std::exp(double{weight} - max);
    for (float& weight : weights) weight = Rounded<T>(std::exp(double{weight} - max) / sum);
    for (int64_t c = 0; c < shape_.head_size; ++c) {
      double value = 0;
      for (int64_t j = -memory; j < length; ++j) {
        value += double{weights[static_cast<size_t>(j + memory)]} * Row(s, 2, j, head)[c];
      }
      out.push_back(Rounded<T>(value));
    }
  }

  simt::Stream& stream_;
  std::mt19937& random_;
  const Shape shape_;
  std::vector<int> cu_seqlens_ = {0};
  Tensor qkv_, biases_[3], positions_, segments_;
  std::unique_ptr<DeviceTensor<int>> types_;
  std::vector<int> host_types_;
  std::vector<std::pair<Tensor, Tensor>> rings_;
  gpu::AttentionTile tile_ = gpu::AttentionTile::kAuto;
};

bool HasTwoTiles(const Shape& shape) { return shape.head_size % 8 == 0 && shape.head_size <= 64; }

class RelativeAttentionKernelTest : public EmulatedTest {
 protected:
  template <typename T>
  void ExpectMatchesReference(const Shape& shape) {
    SCOPED_TRACE(testing::Message()
                 << shape.lengths.size() << " sequences, first " << shape.lengths[0] << ", "
                 << shape.heads << " heads of " << shape.head_size << ", " << Name(kDTypeOf<T>)
                 << ", reach " << shape.reach << ", up to " << shape.magnitude);
    Operands<T> operands(stream(), shape, random_);
    const std::vector<double> exact = operands.Exact();
    // Float as in attention_kernel_test.cc, with three parts of up to 2 magnitude^2 a product.
    const double slack = (16 + 24 * shape.magnitude * shape.magnitude) * shape.magnitude * 0x1p-24;
    if constexpr (std::is_same_v<T, float>) {
      const std::vector<float> actual = operands.Run();
      ASSERT_EQ(actual.size(), exact.size());
      EXPECT_LE(MaxError(actual, exact), slack);
    } else {
      const std::vector<float> naive = operands.Naive();
      for (const gpu::AttentionTile tile : {gpu::AttentionTile::kLow, gpu::AttentionTile::kTall}) {
        if (tile == gpu::AttentionTile::kTall && !HasTwoTiles(shape)) continue;
        SCOPED_TRACE(tile == gpu::AttentionTile::kTall ? "tall tile" : "low tile");
        operands.set_tile(tile);
        const std::vector<float> actual = operands.Run();
        ASSERT_EQ(actual.size(), exact.size());
        ExpectAtMostTwice(actual, naive, exact, slack);
      }
    }
  }
};

EMULATED_SUITE(RelativeAttentionKernelTest);

TEST_P(RelativeAttentionKernelTest, RaggedBatches) {
  const std::vector<int> lengths = {1, 17, 0, 63, 64, 65, 31, 32, 33, 0, 130};
  ExpectMatchesReference<Half>({lengths, 1});
  ExpectMatchesReference<BFloat16>({lengths, 1, 32});
  ExpectMatchesReference<float>({lengths, 1, 32});
}

// Around the tall tile's rows and those of one of its warps, and the tile of keys.
TEST_P(RelativeAttentionKernelTest, EdgesOfTheTallTile) {
  ExpectMatchesReference<Half>({{127, 16, 129, 15, 96, 48}, 1});
  ExpectMatchesReference<BFloat16>({{128, 2, 97, 49}, 1, 32, {{}, {}, {80, 70, 31}, {65, 3, 65}}});
}

// Segments that change within a tile of keys, at its edge, and never.
TEST_P(RelativeAttentionKernelTest, Segments) {
  for (const size_t first : {0, 1, 32, 40, 100}) {
    SCOPED_TRACE(first);
    Operands<Half> operands(stream(), {{100}, 1, 16}, random_);
    operands.SetTypes(1, first);
    const std::vector<double> exact = operands.Exact();
    ExpectAtMostTwice(operands.Run(), operands.Naive(), exact, 40 * 0x1p-24);
  }
}

// A maximum that rises from tile to tile, by more than the softmax takes without scaling its sums.
TEST_P(RelativeAttentionKernelTest, RisingScores) {
  Operands<Half> operands(stream(), {{150}, 1, 32}, random_);
  operands.RaiseScores(10);
  for (const gpu::AttentionTile tile : {gpu::AttentionTile::kLow, gpu::AttentionTile::kTall}) {
    operands.set_tile(tile);
    ExpectAtMostTwice(operands.Run(), operands.Naive(), operands.Exact(), 40 * 0x1p-24);
  }
}

// Memory that is empty, within its ring, around its end, and full; shorter and longer than tiles.
TEST_P(RelativeAttentionKernelTest, Memory) {
  const Shape shape = {
      {5, 70, 33, 1, 20}, 1, 64, {{}, {100, 90, 37}, {8, 3, 8}, {130, 129, 130}, {64, 0, 32}}};
  ExpectMatchesReference<Half>(shape);
  Shape other = shape;
  other.head_size = 32;
  ExpectMatchesReference<float>(other);
  other.head_size = 7;
  ExpectMatchesReference<BFloat16>(other);
}

// Distances beyond the table take its first or last row: also none but the middle one.
TEST_P(RelativeAttentionKernelTest, ClampedPositions) {
  for (const int64_t reach : {0, 3, 40}) {
    const Shape shape = {{70, 20}, 1, 32, {{40, 35, 30}, {}}, reach};
    ExpectMatchesReference<Half>(shape);
    ExpectMatchesReference<float>(shape);
  }
}

TEST_P(RelativeAttentionKernelTest, HeadSizesOnTensorCores) {
  for (const int64_t head_size : {8, 24, 40, 72, 128}) {
    ExpectMatchesReference<Half>({{19, 66}, 2, head_size, {{}, {10, 8, 5}}});
  }
  ExpectMatchesReference<BFloat16>({{19, 66}, 2, 96});
}

TEST_P(RelativeAttentionKernelTest, HeadSizesInFloat) {
  for (const int64_t head_size : {1, 3, 20, 64, 65, 128, 130, 255, 256}) {
    ExpectMatchesReference<float>({{19, 66}, 2, head_size, {{}, {10, 8, 5}}});
  }
  for (const int64_t head_size : {7, 36, 136, 250}) {
    ExpectMatchesReference<Half>({{19, 40}, 1, head_size, {{}, {10, 8, 5}}});
  }
}

TEST_P(RelativeAttentionKernelTest, LargeMagnitudes) {
  ExpectMatchesReference<Half>({{100, 3}, 1, 64, {}, 400, 8});
  ExpectMatchesReference<BFloat16>({{100, 3}, 1, 64, {}, 400, 8});
  ExpectMatchesReference<float>({{100, 3}, 1, 64, {}, 400, 8});
}

TEST_P(RelativeAttentionKernelTest, RowsBeyondTheSequencesStay) {
  Operands<Half> operands(stream(), {{3, 67, 130}, 1, 16}, random_);
  const std::vector<float> actual =
      operands.Run({0, 3, 70, 70, 70}, std::vector<float>(200 * 16, 77));
  ASSERT_EQ(actual.size(), 200 * 16);
  EXPECT_THAT(std::vector<float>(actual.begin() + 70 * 16, actual.end()), testing::Each(77));
  EXPECT_THAT(std::vector<float>(actual.begin(), actual.begin() + 70 * 16),
              testing::Each(testing::Le(1)));
}

// A document cut in two, the first part as the memory of the second, gives the second part's rows
// of the whole when types are equal: memory's is 0.
TEST_P(RelativeAttentionKernelTest, MemoryContinuesADocument) {
  Operands<float> whole(stream(), {{90}, 1, 32}, random_);
  whole.SetTypes(0);
  const std::vector<float> all = whole.Run();
  const std::vector<float> second = whole.SecondPart(50).Run();
  ASSERT_EQ(second.size(), 40 * 32);
  for (size_t i = 0; i < second.size(); ++i) {
    // Keys fall into other tiles: sums are rounded in another order.
    ASSERT_NEAR(second[i], all[50 * 32 + i], 40 * 0x1p-24) << i;
  }
}

TEST_P(RelativeAttentionKernelTest, WritesFloat8) {
  for (const int64_t head_size : {24, 64, 136}) {  // the last in floats
    Operands<Half> operands(stream(), {{33, 1, 17}, 2, head_size}, random_);
    ExpectIsFloat8Of<Half>(operands.RunFloat8(0.001f), operands.Run(), 0.001f);
  }
}

TEST_P(RelativeAttentionKernelTest, RefusesWhatItCannotDo) {
  const DeviceTensor<Half> qkv(stream(), {4, 3, 2, 8}, Random(4 * 48)), out(stream(), {4, 2, 8}),
      bias(stream(), {2, 8}, Random(16)), table(stream(), {5, 2, 8}, Random(80)),
      segments(stream(), {2, 2, 8}, Random(32));
  const DeviceTensor<int> lengths(stream(), {2}, std::vector<int>{0, 4}),
      types(stream(), {4}, std::vector<int>(4, 0));
  const auto message = [this](const gpu::RelativeAttentionParams& params) {
    const absl::Status status = gpu::RelativeAttention(params, stream());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return Message(status);
  };
  const gpu::RelativeAttentionParams good = {.qkv = qkv.view(),
                                             .content_bias = bias.view(),
                                             .position_bias = bias.view(),
                                             .segment_bias = bias.view(),
                                             .positions = table.view(),
                                             .center = 2,
                                             .segments = segments.view(),
                                             .type_ids = types.view(),
                                             .cu_seqlens = lengths.view(),
                                             .out = out.view()};
  ASSERT_OK(gpu::RelativeAttention(good, stream()));
  gpu::RelativeAttentionParams params = good;
  params.qkv = out.view();
  EXPECT_THAT(message(params), testing::HasSubstr("qkv is float16[4,2,8]"));
  params = good;
  params.position_bias = table.view();
  EXPECT_THAT(message(params), testing::HasSubstr("position_bias is float16[5,2,8]"));
  params = good;
  params.positions = bias.view();
  EXPECT_THAT(message(params), testing::HasSubstr("positions is float16[2,8]"));
  params = good;
  params.center = 5;
  EXPECT_THAT(message(params), testing::HasSubstr("center is 5 of 5"));
  params = good;
  params.type_ids = lengths.view();
  EXPECT_THAT(message(params), testing::HasSubstr("type_ids is int32[2]"));
  params = good;
  params.scale = -1;
  EXPECT_THAT(message(params), testing::HasSubstr("scale is -1"));
  params = good;
  params.cu_seqlens = bias.view();
  EXPECT_THAT(message(params), testing::HasSubstr("cu_seqlens is float16[2,8]"));
}

TEST(DescribeMemoryTest, ViewsAllRingsAndRefusesOthers) {
  const auto device = OpenKernelDevice(simt::ProfileH100());
  const auto stream = std::move(device->CreateStream()).value();
  const DeviceTensor<Half> low(*stream, {4, 1, 8}), high(*stream, {4, 1, 8}),
      narrow(*stream, {4, 1, 4});
  std::vector<gpu::MemoryRing> rings(2);
  const std::vector<AttentionMemory> none(2);
  EXPECT_FALSE(*gpu::DescribeMemory(none, rings));
  EXPECT_EQ(rings[0].size, 0);

  std::vector<AttentionMemory> memory = {{}, {high.view(), low.view(), 3, 2}};
  const auto rows = gpu::DescribeMemory(memory, rings);
  ASSERT_TRUE(rows.ok());
  EXPECT_EQ(rings[1].first, 3);
  EXPECT_EQ(rings[1].size, 2);
  EXPECT_EQ(rings[1].capacity, 4);
  EXPECT_EQ(rows->as<Half>() + rings[1].keys, high.data());
  EXPECT_EQ(rows->as<Half>() + rings[1].values, low.data());
  EXPECT_EQ(rows->as<Half>() + rows->num_elements(), std::max(high.data(), low.data()) + 32);

  memory[1].size = 5;
  EXPECT_THAT(Message(gpu::DescribeMemory(memory, rings).status()),
              testing::HasSubstr("a memory of 5 rows from 3 on in a ring of 4"));
  memory[1] = {high.view(), narrow.view(), 0, 1};
  EXPECT_THAT(Message(gpu::DescribeMemory(memory, rings).status()),
              testing::HasSubstr("keys float16[4,1,8] and values float16[4,1,4]"));
}

#ifndef __CUDACC__
// What the least are, and that no access is in more passes than it must be.
TEST(RelativeAttentionKernelCounts, TensorCores) {
  for (const int64_t head_size : {32, 64, 128}) {
    for (const gpu::AttentionTile tile : {gpu::AttentionTile::kLow, gpu::AttentionTile::kTall}) {
      const bool tall = tile == gpu::AttentionTile::kTall && head_size <= 64;
      const auto device = simt::Device::Emulated(simt::ProfileH100());
      device->set_emulation({.count_requests = true});
      const auto stream = std::move(device->CreateStream()).value();
      std::mt19937 random(1);
      Operands<Half> operands(*stream, {{128, 64}, 2, head_size, {{}, {64, 32, 64}}}, random);
      operands.set_tile(tile);
      operands.Run();
      const simt::emulator::LaunchReport report = device->TakeReports().at(0).second;
      // Three products for each score, two sequences of 128 x 128 and 64 x (64 + 64), 2 heads; and
      // for each row the 16 columns of the band with which it begins, or 16 and 32 for a warp's two
      // groups. An Mma is 16 x 8 x 16.
      const int64_t scores = 2 * (128 * 128 + 64 * 128), rows = 2 * (128 + 64);
      EXPECT_EQ(report.counters.mma,
                (3 * scores + rows * (tall ? 24 : 16)) * head_size / (16 * 8 * 16));
      // K, V and positions, each 16 x 16 values at once, for all of a warp's rows.
      const int64_t reads = (3 * scores / (tall ? 32 : 16) + rows) * head_size / (16 * 16);
      EXPECT_EQ(report.counters.ldmatrix, reads + rows * head_size / (16 * 16));
      for (const simt::emulator::SiteCount& site : report.sites) {
        SCOPED_TRACE(testing::Message() << site.site.file << ":" << site.site.line);
        EXPECT_EQ(site.passes, site.ideal);
      }
    }
  }
}
#endif

}  // namespace
}  // namespace bertrand

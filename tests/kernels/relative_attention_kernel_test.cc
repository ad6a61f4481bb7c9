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

  std::vector<float> Run() {
    const DeviceTensor<T> out(stream_, {tokens(), shape_.heads, shape_.head_size});
    const DeviceTensor<int> cu_seqlens(stream_, {static_cast<int64_t>(cu_seqlens_.size())},
                                       cu_seqlens_);
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
                                           .out = out.view()};
    const simt::Memory rings = UploadRings(params);
    const absl::Status status = gpu::RelativeAttention(params, stream_);
    EXPECT_TRUE(status.ok()) << Message(status);
    return status.ok() ? out.Download() : std::vector<float>();
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
};

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
    const std::vector<float> actual = operands.Run();
    ASSERT_EQ(actual.size(), exact.size());
    // Float as in attention_kernel_test.cc, with three parts of up to 2 magnitude^2 a product.
    const double roundings = 16 + 24 * shape.magnitude * shape.magnitude;
    if constexpr (std::is_same_v<T, float>) {
      EXPECT_LE(MaxError(actual, exact), roundings * shape.magnitude * 0x1p-24);
    } else {
      ExpectAtMostTwice(actual, operands.Naive(), exact, roundings * shape.magnitude * 0x1p-24);
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

}  // namespace
}  // namespace bertrand

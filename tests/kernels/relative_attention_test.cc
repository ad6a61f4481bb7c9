#include <gtest/gtest.h>

#include <algorithm>

#include "tests/kernels/device_fixture.h"

namespace bertrand {
namespace {

// A ring of `capacity` rows, of which `size` are read from row `first` on.
struct Ring {
  int64_t capacity = 0, first = 0, size = 0;
};

struct Shape {
  std::vector<int32_t> lengths;
  int64_t heads = 2, head_size = 32;
  std::vector<Ring> rings = {};  // none: no memory
  int64_t reach = -1;            // of the position table to both sides; -1: all distances
  float magnitude = 1;
};

// One call's operands, random.
class Operands {
 public:
  Operands(const Shape& shape, std::mt19937& random)
      : shape_(shape),
        cu_seqlens_(CuSeqlens(shape.lengths)),
        tokens_(cu_seqlens_.back()),
        reach_(shape.reach >= 0 ? shape.reach : LongestDistance(shape)),
        qkv_{tokens_, 3, shape.heads, shape.head_size},
        biases_{3, shape.heads, shape.head_size},
        positions_{2 * reach_ + 1, shape.heads, shape.head_size},
        segments_{2, shape.heads, shape.head_size} {
    for (GuardedTensor* tensor : {&qkv_, &biases_, &positions_, &segments_}) {
      tensor->Randomize(random, shape.magnitude);
    }
    std::uniform_int_distribution<int32_t> type(0, 2);
    for (int64_t t = 0; t < tokens_; ++t) types_.push_back(type(random));
    for (const Ring& ring : shape.rings) {
      AttentionMemory memory{.first = ring.first, .size = ring.size};
      if (ring.capacity > 0) {
        for (TensorView* rows : {&memory.keys, &memory.values}) {
          auto& tensor = ring_rows_.emplace_back(std::make_unique<GuardedTensor>(
              std::initializer_list<int64_t>{ring.capacity, shape.heads, shape.head_size}));
          *rows = tensor->Randomize(random, shape.magnitude).view();
        }
      }
      memories_.push_back(memory);
    }
  }

  static std::vector<int32_t> CuSeqlens(const std::vector<int32_t>& lengths) {
    std::vector<int32_t> result = {0};
    for (const int32_t length : lengths) result.push_back(result.back() + length);
    return result;
  }
  static int64_t LongestDistance(const Shape& shape) {
    int64_t longest = 0;
    for (size_t s = 0; s < shape.lengths.size(); ++s) {
      const int64_t memory = shape.rings.empty() ? 0 : shape.rings[s].size;
      longest = std::max(longest, shape.lengths[s] + memory);
    }
    return longest;
  }

  RelativeAttentionParams params(GuardedTensor& out) {
    const int64_t heads = shape_.heads, size = shape_.head_size;
    const auto bias = [&](int64_t i) {
      return TensorView(biases_.data() + i * heads * size, DType::kFloat32, {heads, size});
    };
    return {.qkv = qkv_.view(),
            .content_bias = bias(0),
            .position_bias = bias(1),
            .segment_bias = bias(2),
            .positions = positions_.view(),
            .center = reach_,
            .segments = segments_.view(),
            .type_ids = IntView(types_),
            .cu_seqlens = IntView(cu_seqlens_),
            .cu_seqlens_host = cu_seqlens_,
            .memory = memories_,
            .scale = scale(),
            .out = out.view()};
  }
  GuardedTensor MakeOut() const { return {tokens_, shape_.heads, shape_.head_size}; }
  float scale() const { return 1 / std::sqrt(static_cast<float>(shape_.head_size)); }

  // What modeling_xlnet.py computes, step by step in float64: keys and values behind the memory's,
  // the positions klen ... 1 - qlen, `rel_shift_bnij` by its reshapes, the segments one-hot.
  GuardedTensor Expected() const;

 private:
  using Matrix = std::vector<std::vector<double>>;
  // Rows of a sequence's q (0), k (1) or v (2) of one head; keys and values behind the memory's.
  Matrix Rows(size_t sequence, int64_t part, int64_t head) const;
  Matrix Scores(size_t sequence, int64_t head) const;
  double Bias(int64_t which, int64_t head, int64_t j) const {
    return biases_[static_cast<size_t>((which * shape_.heads + head) * shape_.head_size + j)];
  }
  int64_t memory_size(size_t sequence) const {
    return memories_.empty() ? 0 : memories_[sequence].size;
  }

  const Shape shape_;
  std::vector<int32_t> cu_seqlens_, types_;
  const int64_t tokens_, reach_;
  GuardedTensor qkv_, biases_, positions_, segments_;
  std::vector<std::unique_ptr<GuardedTensor>> ring_rows_;
  std::vector<AttentionMemory> memories_;
};

Operands::Matrix Operands::Rows(size_t sequence, int64_t part, int64_t head) const {
  const int64_t heads = shape_.heads, size = shape_.head_size;
  Matrix rows;
  const auto add = [&](const float* from) { rows.emplace_back(from, from + size); };
  for (int64_t j = 0; part > 0 && j < memory_size(sequence); ++j) {
    const AttentionMemory& memory = memories_[sequence];
    const TensorView& ring = part == 1 ? memory.keys : memory.values;
    const int64_t row = (memory.first + j) % ring.dim(0);
    add(ring.as<float>() + (row * heads + head) * size);
  }
  for (int64_t t = cu_seqlens_[sequence]; t < cu_seqlens_[sequence + 1]; ++t) {
    add(&const_cast<GuardedTensor&>(
        qkv_)[static_cast<size_t>(((3 * t + part) * heads + head) * size)]);
  }
  return rows;
}

// rel_shift_bnij for one head: bd [qlen, rlen] -> [qlen, klen].
std::vector<std::vector<double>> RelShift(const std::vector<std::vector<double>>& bd,
                                          size_t num_keys) {
  const size_t num_queries = bd.size(), width = bd[0].size();
  std::vector<double> flat;
  for (const auto& row : bd) flat.insert(flat.end(), row.begin(), row.end());
  // reshape(rlen, qlen)[1:].reshape(qlen, rlen - 1)[:, :klen]
  flat.erase(flat.begin(), flat.begin() + static_cast<std::ptrdiff_t>(num_queries));
  std::vector<std::vector<double>> shifted;
  for (size_t i = 0; i < num_queries; ++i) {
    const auto begin = flat.begin() + static_cast<std::ptrdiff_t>(i * (width - 1));
    shifted.emplace_back(begin, begin + static_cast<std::ptrdiff_t>(num_keys));
  }
  return shifted;
}

Operands::Matrix Operands::Scores(size_t sequence, int64_t head) const {
  const int64_t heads = shape_.heads, size = shape_.head_size;
  const Matrix q = Rows(sequence, 0, head), k = Rows(sequence, 1, head);
  const auto num_queries = static_cast<int64_t>(q.size()),
             num_keys = static_cast<int64_t>(k.size());
  const auto product = [&](const std::vector<double>& x, int64_t bias, const auto& y) {
    double sum = 0;
    for (int64_t j = 0; j < size; ++j) {
      sum += (x[static_cast<size_t>(j)] + Bias(bias, head, j)) * y(j);
    }
    return sum;
  };
  Matrix bd;
  for (const auto& row : q) {
    auto& products = bd.emplace_back();
    for (int64_t distance = num_keys; distance > -num_queries; --distance) {
      const int64_t place = reach_ - std::clamp(distance, -reach_, reach_);
      products.push_back(product(row, 1, [&](int64_t j) {
        return positions_[static_cast<size_t>((place * heads + head) * size + j)];
      }));
    }
  }
  Matrix scores = RelShift(bd, static_cast<size_t>(num_keys));
  for (int64_t i = 0; i < num_queries; ++i) {
    const auto& row = q[static_cast<size_t>(i)];
    double ef[2];
    for (int64_t s = 0; s < 2; ++s) {
      ef[s] = product(row, 2, [&](int64_t j) {
        return segments_[static_cast<size_t>((s * heads + head) * size + j)];
      });
    }
    for (int64_t j = 0; j < num_keys; ++j) {
      const auto& key = k[static_cast<size_t>(j)];
      const int64_t own = j - memory_size(sequence);
      const int32_t type = own < 0 ? 0 : types_[static_cast<size_t>(cu_seqlens_[sequence] + own)];
      double& score = scores[static_cast<size_t>(i)][static_cast<size_t>(j)];
      score += product(row, 0, [&](int64_t d) { return key[static_cast<size_t>(d)]; });
      score += ef[types_[static_cast<size_t>(cu_seqlens_[sequence] + i)] != type ? 1 : 0];
      score *= double{scale()};
    }
  }
  return scores;
}

GuardedTensor Operands::Expected() const {
  GuardedTensor out = MakeOut();
  for (size_t s = 0; s + 1 < cu_seqlens_.size(); ++s) {
    if (cu_seqlens_[s] == cu_seqlens_[s + 1]) continue;
    for (int64_t head = 0; head < shape_.heads; ++head) {
      const Matrix scores = Scores(s, head), v = Rows(s, 2, head);
      for (size_t i = 0; i < scores.size(); ++i) {
        const double max = *std::max_element(scores[i].begin(), scores[i].end());
        double sum = 0;
        std::vector<double> weighted(static_cast<size_t>(shape_.head_size));
        for (size_t j = 0; j < v.size(); ++j) {
          const double weight = std::exp(scores[i][j] - max);
          sum += weight;
          for (size_t d = 0; d < weighted.size(); ++d) weighted[d] += weight * v[j][d];
        }
        const size_t row = static_cast<size_t>(cu_seqlens_[s]) + i;
        for (size_t d = 0; d < weighted.size(); ++d) {
          out[(row * static_cast<size_t>(shape_.heads) + static_cast<size_t>(head)) *
                  weighted.size() +
              d] = static_cast<float>(weighted[d] / sum);
        }
      }
    }
  }
  return out;
}

class RelativeAttentionTest : public DeviceTest {
 protected:
  // The bound is attention_test's: scores have three parts, each no larger than one there, and
  // magnitudes are at most 1.
  void ExpectMatches(const Shape& shape) {
    SCOPED_TRACE(testing::Message()
                 << shape.lengths.size() << " sequences, first " << shape.lengths[0] << ", "
                 << shape.heads << " heads of " << shape.head_size << ", " << shape.rings.size()
                 << " memories, reach " << shape.reach);
    Operands operands(shape, random_);
    GuardedTensor out = operands.MakeOut();
    const absl::Status status = backend_->RelativeAttention(*stream_, operands.params(out));
    ASSERT_TRUE(status.ok()) << Message(status);
    out.ExpectNear(operands.Expected(), 100 * kRounding, 0);
  }
};

TEST_P(RelativeAttentionTest, LengthsAroundTiles) {
  for (const int32_t length : {1, 2, 5, 6, 7, 11, 12, 13, 15, 16, 17, 31, 32, 33, 65, 129}) {
    ExpectMatches({.lengths = {length}});
  }
}

TEST_P(RelativeAttentionTest, HeadSizes) {
  for (const int64_t head_size : {1, 3, 8, 16, 20, 33, 48, 64, 65, 128, 255, 256}) {
    ExpectMatches({.lengths = {19, 40}, .heads = 3, .head_size = head_size});
  }
}

TEST_P(RelativeAttentionTest, RaggedBatchesWithEmptySequences) {
  ExpectMatches({.lengths = {3, 0, 17, 1, 130, 0, 0, 64, 5}, .heads = 4, .head_size = 16});
  ExpectMatches({.lengths = std::vector<int32_t>(60, 3), .head_size = 16});
}

// Beyond one block of keys (512) and of query rows (256).
TEST_P(RelativeAttentionTest, SequencesOfSeveralBlocks) {
  ExpectMatches({.lengths = {257}, .heads = 1, .head_size = 16});
  ExpectMatches({.lengths = {513, 20}, .heads = 1, .head_size = 16});
  ExpectMatches({.lengths = {700}, .heads = 1, .head_size = 20});
}

// Distances beyond the table: those of a model that clamps them, and a table of one row.
TEST_P(RelativeAttentionTest, ClampedDistances) {
  ExpectMatches({.lengths = {40, 3}, .reach = 9});
  ExpectMatches({.lengths = {40}, .reach = 0});
  ExpectMatches(
      {.lengths = {300}, .heads = 1, .head_size = 16, .rings = {{40, 0, 40}}, .reach = 30});
}

// Rings that are part full, full, wrapped, empty and absent, in one batch; longer than the sequence
// and shorter.
TEST_P(RelativeAttentionTest, Memory) {
  ExpectMatches({.lengths = {7}, .rings = {{10, 0, 4}}});
  ExpectMatches({.lengths = {1}, .rings = {{1, 0, 1}}});
  ExpectMatches({.lengths = {30, 12, 5, 9, 0},
                 .head_size = 20,
                 .rings = {{16, 11, 16}, {33, 0, 0}, {}, {40, 30, 25}, {3, 2, 3}}});
  ExpectMatches({.lengths = {70}, .heads = 1, .head_size = 16, .rings = {{600, 590, 600}}});
}

// The same rows, whether in a memory or not and wherever the ring begins: those before are keys of
// the rows behind. (Types apart: memory has 0.)
TEST_P(RelativeAttentionTest, ASequenceInTwoPartsIsTheWhole) {
  constexpr int32_t kLength = 50;
  Shape shape{.lengths = {kLength}, .heads = 1, .head_size = 8};
  Operands operands(shape, random_);
  GuardedTensor whole = operands.MakeOut();
  RelativeAttentionParams params = operands.params(whole);
  std::fill_n(params.type_ids.as<int32_t>(), kLength, 0);
  ASSERT_TRUE(backend_->RelativeAttention(*stream_, params).ok());
  constexpr int32_t kFirst = 30;
  const float* qkv = params.qkv.as<float>();
  for (const int64_t begin : {0, 7}) {
    GuardedTensor keys{kFirst, 1, 8}, values{kFirst, 1, 8}, rest{kLength - kFirst, 1, 8};
    for (int64_t t = 0; t < kFirst; ++t) {
      const int64_t row = (begin + t) % kFirst;
      std::copy_n(qkv + t * 24 + 8, 8, keys.data() + row * 8);
      std::copy_n(qkv + t * 24 + 16, 8, values.data() + row * 8);
    }
    const std::vector<AttentionMemory> memory = {
        {.keys = keys.view(), .values = values.view(), .first = begin, .size = kFirst}};
    std::vector<int32_t> cu_seqlens = {0, kLength - kFirst};
    RelativeAttentionParams part = params;
    part.qkv = {params.qkv.as<float>() + kFirst * 24, DType::kFloat32, {20, 3, 1, 8}};
    part.type_ids = {params.type_ids.as<int32_t>() + kFirst, DType::kInt32, {20}};
    part.cu_seqlens = IntView(cu_seqlens);
    part.cu_seqlens_host = cu_seqlens;
    part.memory = memory;
    part.out = rest.view();
    ASSERT_TRUE(backend_->RelativeAttention(*stream_, part).ok());
    for (size_t i = 0; i < rest.size(); ++i) {
      ASSERT_NEAR(rest[i], whole[kFirst * 8 + i], 1e-6);
    }
  }
}

// Nearly all weight on one key; exponentials overflow unless the maximum is that of all parts. Each
// score adds 48 products of up to 200 (a sum of two times 10).
TEST_P(RelativeAttentionTest, LargeScores) {
  Operands operands({.lengths = {600}, .heads = 1, .head_size = 16, .magnitude = 10}, random_);
  GuardedTensor out = operands.MakeOut();
  ASSERT_TRUE(backend_->RelativeAttention(*stream_, operands.params(out)).ok());
  out.ExpectNear(operands.Expected(), 48 * kRounding * 9600 * 10, 0);
}

TEST_P(RelativeAttentionTest, NoTokensDoNothing) {
  Operands operands({.lengths = {0}}, random_);
  GuardedTensor out = operands.MakeOut();
  EXPECT_TRUE(backend_->RelativeAttention(*stream_, operands.params(out)).ok());
  out.ExpectGuardsIntact();
}

TEST_P(RelativeAttentionTest, WrongOperandsAreNamed) {
  Operands operands({.lengths = {2, 3}, .head_size = 8, .rings = {{4, 0, 2}, {}}}, random_);
  GuardedTensor out = operands.MakeOut();
  const auto expect = [&](const auto& change, const std::string& text) {
    RelativeAttentionParams params = operands.params(out);
    std::vector<AttentionMemory> memory(params.memory.begin(), params.memory.end());
    params.memory = memory;
    change(params, memory);
    ExpectInvalid(backend_->RelativeAttention(*stream_, params), "RelativeAttention: " + text);
  };
  using P = RelativeAttentionParams;
  using M = std::vector<AttentionMemory>;
  GuardedTensor narrow{2, 7}, three{3, 2, 8}, table{4, 1, 8};
  expect([&](P& p, M&) { p.qkv = three.view(); }, "qkv is float32[3,2,8], expected float32 with 4");
  expect([&](P& p, M&) { p.out = three.view(); }, "out is float32[3,2,8], expected float32[5,2,8]");
  expect([&](P& p, M&) { p.content_bias = narrow.view(); }, "content_bias is float32[2,7]");
  expect([&](P& p, M&) { p.position_bias = narrow.view(); }, "position_bias is float32[2,7]");
  expect([&](P& p, M&) { p.segment_bias = {}; }, "segment_bias is");
  expect([&](P& p, M&) { p.segments = three.view(); }, "segments is float32[3,2,8]");
  expect([&](P& p, M&) { p.positions = table.view(); }, "positions is float32[4,1,8]");
  expect([&](P& p, M&) { p.center = p.positions.dim(0); }, "center is 9, expected a row");
  expect([&](P& p, M&) { p.type_ids = p.cu_seqlens; }, "type_ids is int32[3], expected int32[5]");
  expect([&](P& p, M&) { p.cu_seqlens_host = p.cu_seqlens_host.first(2); },
         "cu_seqlens is int32[3], expected int32[2]");
  expect([&](P& p, M& m) { p.memory = std::span(m).first(1); }, "memory of 1 sequences, expected");
  expect([&](P&, M& m) { m[0].size = 5; }, "memory of 5 rows from 0 in a ring of 4");
  expect([&](P&, M& m) { m[0].first = 4; }, "memory of 2 rows from 4 in a ring of 4");
  expect([&](P&, M& m) { m[1].size = 1; }, "memory of 1 rows from 0 in a ring of 0");
  expect([&](P&, M& m) { m[0].values = table.view(); }, "memory is float32[4,1,8]");
}

TEST_P(RelativeAttentionTest, MoreTokensThanTheStreamsAreRefused) {
  if (GetParam().device == "reference") return;  // whose streams hold nothing
  auto stream = backend_->CreateStream(4);
  ASSERT_TRUE(stream.ok());
  Operands operands({.lengths = {5}}, random_);
  GuardedTensor out = operands.MakeOut();
  ExpectInvalid(backend_->RelativeAttention(**stream, operands.params(out)),
                "RelativeAttention: 5 tokens on a stream made for 4");
}

INSTANTIATE_TEST_SUITE_P(Devices, RelativeAttentionTest, testing::ValuesIn(DeviceCases()),
                         CaseName);

}  // namespace
}  // namespace bertrand

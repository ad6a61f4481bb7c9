// Batches that are filled up and replayed (models/replay_shape.h) through the emulated GPU: the
// same bits as without, whatever was there before; nothing is allocated on the device; and what an
// overflow does to one sequence stays with it.

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <iterator>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kernels/gemm/gemm_table.h"
#include "kernels/gpu/gpu_backend.h"
#include "kernels/status.h"
#include "models/checkpoint/safetensors.h"
#include "models/checkpoint/sentence_modules.h"
#include "models/checkpoint/weight_files.h"
#include "models/config/families.h"
#include "models/replay_shape.h"
#include "models/runner.h"
#include "tests/models/test_folder.h"

namespace bertrand {
namespace {

TEST(ReplayShape, AFewSizesWithLittleWaste) {
  for (int64_t tokens = 1; tokens <= kReplayTokensMax; ++tokens) {
    const int64_t filled = FilledTokens(tokens);
    ASSERT_GE(filled, tokens);
    ASSERT_LE(filled, tokens <= 32 ? 32 : tokens <= 64 ? 64 : tokens + tokens / 8);
    ASSERT_EQ(FilledTokens(filled), filled);
    ASSERT_EQ(gpu::GemmBucket(filled), filled);  // what GEMMs are tuned for
  }
  EXPECT_EQ(FilledTokens(kReplayTokensMax + 1), kReplayTokensMax + 1);
  EXPECT_EQ(ReplayShapeOf(20, 1), (ReplayShape{32, 1}));
  EXPECT_EQ(ReplayShapeOf(65, 2), (ReplayShape{72, 8}));
  EXPECT_EQ(ReplayShapeOf(65, 9), std::nullopt);
  EXPECT_EQ(ReplayShapeOf(256, 9), (ReplayShape{256, 16}));
  EXPECT_EQ(ReplayShapeOf(256, 17), std::nullopt);
  EXPECT_EQ(ReplayShapeOf(4096, 256), (ReplayShape{4096, 256}));
  EXPECT_EQ(ReplayShapeOf(4097, 1), std::nullopt);
  EXPECT_EQ(ReplaySequencesMax(4096), 256);
  EXPECT_NE(ReplayShapeOf(20, 1)->key(), ReplayShapeOf(20, 2)->key());
}

std::unique_ptr<Backend> NewBackend(bool graphs, DType dtype) {
  auto backend =
      gpu::CreateGpuBackend(simt::Device::Emulated(simt::ProfileH100()),
                            {.name = "emulated",
                             .dtype = dtype,
                             .gemm = {.own_kernels = gpu::GemmOptions::OwnKernels::kRarely},
                             .graphs = graphs});
  BERTRAND_CHECK(backend.ok(), Message(backend.status()));
  return *std::move(backend);
}

// A checkpoint on a device.
class Network {
 public:
  Network(const std::string& folder, bool graphs, DType dtype = DType::kFloat16)
      : backend_(NewBackend(graphs, dtype)) {
    const auto config = ReadModelConfig(folder);
    const auto files = WeightFiles::Open(folder);
    BERTRAND_CHECK(config.ok() && files.ok(), folder);
    std::string note;
    encoder_ = *Encoder::Load(config->encoder, config->names, *files, *backend_, &note);
    head_ = *EmbedHead::Load(*ReadSentenceModules(folder), *encoder_, *backend_);
  }

  std::unique_ptr<ModelRunner> NewRunner(int64_t max_tokens) const {
    auto runner = PackedRunner::Create(*encoder_, *head_, *backend_, max_tokens, max_tokens);
    BERTRAND_CHECK(runner.ok(), Message(runner.status()));
    return *std::move(runner);
  }
  size_t width() const { return static_cast<size_t>(encoder_->config().hidden_size); }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Encoder> encoder_;
  std::unique_ptr<EmbedHead> head_;
};

// Means of sequences of these lengths, whose ids follow from `seed`.
std::vector<std::vector<float>> Means(ModelRunner& runner, const std::vector<size_t>& lengths,
                                      uint32_t seed, size_t width) {
  const size_t num_sequences = lengths.size();
  std::vector<std::vector<int32_t>> ids(num_sequences), types(num_sequences);
  std::vector<std::vector<float>> means(num_sequences, std::vector<float>(width, -1));
  std::vector<EmbedOutput> outputs(num_sequences);
  std::vector<SequenceWork> batch;
  for (size_t i = 0; i < num_sequences; ++i) {
    for (size_t j = 0; j < lengths[i]; ++j) {
      seed = seed * 1664525 + 1013904223;
      ids[i].push_back(static_cast<int32_t>((seed >> 16) % 37));
      types[i].push_back(static_cast<int32_t>(seed >> 31));
    }
    outputs[i] = {.pooling = PoolingChoice::kMean, .normalize = false};
    outputs[i].vector = means[i];
    batch.push_back({ids[i], types[i], &outputs[i]});
  }
  const absl::Status status = runner.Forward(batch);
  EXPECT_TRUE(status.ok()) << status;
  return means;
}

// `tokens` in `sequences` sequences, the last ones a token each if need be.
std::vector<size_t> Cut(size_t tokens, size_t sequences) {
  std::vector<size_t> lengths;
  for (; sequences > 0; --sequences) {
    const size_t length = std::min<size_t>(40, tokens - (sequences - 1));
    lengths.push_back(length);
    tokens -= length;
  }
  return lengths;
}

constexpr char kPlain[] = "tests/parity/checkpoints/plain";
constexpr char kRelative[] = "tests/parity/families/xlnet";

class Replay : public testing::TestWithParam<const char*> {};

// Sizes at the edges of the shapes, three times each: as it is, recorded, replayed.
TEST_P(Replay, TheSameBitsAsWithout) {
  const Network replayed(GetParam(), true), plain(GetParam(), false);
  const auto runner = replayed.NewRunner(80), expected = plain.NewRunner(80);
  const std::pair<size_t, size_t> sizes[] = {{1, 1},  {31, 1}, {32, 1}, {33, 1}, {33, 2}, {64, 8},
                                             {65, 2}, {72, 8}, {73, 3}, {80, 2}, {40, 9}};
  const uint64_t runs_before = simt::emulator::NumGraphRuns();
  uint64_t runs = 0;
  std::set<uint64_t> seen;
  for (uint32_t round = 0; round < 3; ++round) {
    for (const auto& [tokens, sequences] : sizes) {
      const auto shape =
          ReplayShapeOf(static_cast<int64_t>(tokens), static_cast<int64_t>(sequences));
      if (shape && !seen.insert(shape->key()).second) ++runs;
      const std::vector<size_t> lengths = Cut(tokens, sequences);
      const uint32_t seed = round * 1000 + static_cast<uint32_t>(tokens);
      EXPECT_EQ(Means(*runner, lengths, seed, plain.width()),
                Means(*expected, lengths, seed, plain.width()))
          << tokens << " tokens in " << sequences << " sequences, round " << round;
    }
  }
  EXPECT_EQ(simt::emulator::NumGraphRuns() - runs_before, runs);
  EXPECT_GT(runs, 20u);
}

// Slots share weights and nothing else.
TEST_P(Replay, TwoSlotsByTurns) {
  const Network replayed(GetParam(), true), plain(GetParam(), false);
  const std::unique_ptr<ModelRunner> slots[] = {replayed.NewRunner(64), replayed.NewRunner(64)};
  const auto expected = plain.NewRunner(64);
  for (uint32_t run = 0; run < 10; ++run) {
    const std::vector<size_t> lengths = Cut(20 + run % 3, 2);
    EXPECT_EQ(Means(*slots[run % 2], lengths, run, plain.width()),
              Means(*expected, lengths, run, plain.width()))
        << run;
  }
}

// A runner of an odd size has room for the shape above it.
TEST_P(Replay, TheLargestBatchOfARunner) {
  const Network replayed(GetParam(), true), plain(GetParam(), false);
  for (const int64_t max_tokens : {1, 33, 77}) {
    const auto runner = replayed.NewRunner(max_tokens), expected = plain.NewRunner(max_tokens);
    const auto tokens = static_cast<size_t>(max_tokens);
    for (uint32_t run = 0; run < 3; ++run) {
      const std::vector<size_t> lengths = Cut(tokens, (tokens + 39) / 40);
      EXPECT_EQ(Means(*runner, lengths, run, plain.width()),
                Means(*expected, lengths, run, plain.width()));
    }
  }
}

TEST_P(Replay, ForwardAllocatesNothingOnTheDevice) {
  const Network network(GetParam(), true);
  const auto runner = network.NewRunner(100);
  const uint64_t before = simt::emulator::NumArenaAllocations();
  for (uint32_t run = 0; run < 4; ++run) {
    Means(*runner, Cut(70, 2), run, network.width());   // replayed
    Means(*runner, Cut(90, 60), run, network.width());  // not
  }
  EXPECT_EQ(simt::emulator::NumArenaAllocations(), before);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, Replay, testing::Values(kPlain, kRelative),
                         [](const auto& info) {
                           return std::string(info.param == kPlain ? "absolute" : "relative");
                         });

// The row of id 36 is as large as float16 can be: queries and keys of it are infinite. Its sequence
// is NaN, the other one and later batches are well.
TEST(NonFinite, SpoilsItsOwnSequenceAlone) {
  const TestFolder folder;
  folder.CopyFrom(kRelative);
  const std::string path = folder.path() + "/model.safetensors";
  {
    const auto file = SafetensorsFile::Open(path);
    ASSERT_TRUE(file.ok()) << file.status();
    const StoredTensor* const word = file->Find("word_embedding.weight");
    ASSERT_NE(word, nullptr);
    ASSERT_EQ(word->dtype, "F16");
    const auto width = static_cast<size_t>(word->shape[1]);
    std::fstream bytes(path, std::ios::binary | std::ios::in | std::ios::out);
    bytes.seekp(static_cast<std::streamoff>(word->begin + 36 * 2 * width));
    for (size_t i = 0; i < width; ++i) bytes.write("\xff\x7b", 2);
  }
  const Network network(folder.path(), true), plain(folder.path(), false);
  const auto runner = network.NewRunner(32), expected = plain.NewRunner(32);
  const std::vector<int32_t> good{1, 2, 3, 4, 5}, bad{6, 36, 7}, types(5, 0);
  std::vector<float> good_mean(network.width()), bad_max(network.width());
  std::vector<float> alone(network.width());
  EmbedOutput good_output{.pooling = PoolingChoice::kMean, .normalize = false},
      bad_output{.pooling = PoolingChoice::kMax, .normalize = false}, alone_output = good_output;
  good_output.vector = good_mean;
  bad_output.vector = bad_max;
  alone_output.vector = alone;
  const SequenceWork good_work{good, types, &good_output};
  const SequenceWork bad_work{bad, std::span(types).first(3), &bad_output};
  const SequenceWork alone_work{good, types, &alone_output};
  ASSERT_TRUE(expected->Forward({&alone_work, 1}).ok());
  const std::vector<float> right = alone;
  for (int run = 0; run < 3; ++run) {
    const SequenceWork batch[] = {good_work, bad_work};
    ASSERT_TRUE(runner->Forward(batch).ok());
    EXPECT_EQ(good_mean, right);
    for (const float value : bad_max) ASSERT_TRUE(std::isnan(value)) << run;
    // What the batch before has left in rows that are nobody's now.
    ASSERT_TRUE(runner->Forward({&alone_work, 1}).ok());
    EXPECT_EQ(alone, right);
  }
}

}  // namespace
}  // namespace bertrand

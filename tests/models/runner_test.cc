// What a runner promises besides right numbers (tests/parity): no allocation in Forward.

#include "models/runner.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "models/checkpoint/sentence_modules.h"
#include "models/checkpoint/weight_files.h"
#include "models/config/families.h"

namespace {

std::atomic<int64_t> num_allocations{0};

void* Allocate(size_t size) {
  ++num_allocations;
  void* const memory = std::malloc(size == 0 ? 1 : size);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return Allocate(size); }
void* operator new[](size_t size) { return Allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace bertrand {
namespace {

class Runner : public testing::Test {
 protected:
  void SetUp() override {
    const std::string folder = "tests/parity/checkpoints/plain";
    const auto config = ReadModelConfig(folder);
    ASSERT_TRUE(config.ok()) << config.status();
    const auto files = WeightFiles::Open(folder);
    ASSERT_TRUE(files.ok()) << files.status();
    std::string note;
    auto encoder = Encoder::Load(config->encoder, config->names, *files, *backend_, &note);
    ASSERT_TRUE(encoder.ok()) << encoder.status();
    encoder_ = *std::move(encoder);
    auto head = EmbedHead::Load(*ReadSentenceModules(folder), *encoder_, *backend_);
    ASSERT_TRUE(head.ok()) << head.status();
    head_ = *std::move(head);
  }

  ThreadPool pool_{2, "test"};
  std::unique_ptr<Backend> backend_ = *CreateBackend("cpu", pool_);
  std::unique_ptr<Encoder> encoder_;
  std::unique_ptr<EmbedHead> head_;
};

TEST_F(Runner, ForwardAllocatesNothing) {
  auto runner = PackedRunner::Create(*encoder_, *head_, *backend_, 64, 8);
  ASSERT_TRUE(runner.ok()) << runner.status();
  const std::vector<int32_t> ids{2, 9, 30, 7, 8, 3}, types(6, 0), layers{0, 2, 1};
  std::vector<float> first(40), second(40), third(40), states(6 * 3 * 40);
  EmbedOutput mean{.vector = first}, max{.pooling = PoolingChoice::kMax, .vector = second},
      pooler{.pooling = PoolingChoice::kPooler, .normalize = true, .vector = third};
  TokensOutput tokens{layers, states};
  const std::vector<SequenceWork> batch = {{ids, types, &mean},
                                           {ids, types, &max},
                                           {ids, types, &pooler},
                                           {ids, types, nullptr, &tokens}};
  // The first run may make what stays, as a library's kernel for a shape.
  ASSERT_TRUE((*runner)->Forward(batch).ok());
  const int64_t before = num_allocations;
  const absl::Status status = (*runner)->Forward(batch);
  const int64_t after = num_allocations;
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(after - before, 0);
}

TEST_F(Runner, Sizes) {
  const auto create = [&](int64_t tokens, int64_t sequences) {
    return PackedRunner::Create(*encoder_, *head_, *backend_, tokens, sequences).status();
  };
  EXPECT_TRUE(create(1, 1).ok());
  EXPECT_TRUE(create(1, int64_t{1} << 60).ok());  // no more sequences than tokens
  EXPECT_FALSE(create(0, 1).ok());
  EXPECT_FALSE(create(-5, 1).ok());
  EXPECT_FALSE(create(1, 0).ok());
  EXPECT_FALSE(create(int64_t{1} << 40, 1).ok());
}

}  // namespace
}  // namespace bertrand

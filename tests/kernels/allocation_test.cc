// "Operations allocate nothing": counted by an operator new of this program's own, which all
// threads use.

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/kernels/device_fixture.h"

namespace {

std::atomic<int64_t> num_allocations{0};

void* Count(size_t size, size_t alignment) {
  num_allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(size_t size) { return Count(size, 16); }
void* operator new[](size_t size) { return Count(size, 16); }
void* operator new(size_t size, std::align_val_t alignment) {
  return Count(size, static_cast<size_t>(alignment));
}
void* operator new[](size_t size, std::align_val_t alignment) {
  return Count(size, static_cast<size_t>(alignment));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace bertrand {
namespace {

class AllocationTest : public DeviceTest {};

TEST_P(AllocationTest, OperationsAllocateNothing) {
  if (GetParam().device != "cpu") return;  // the others may
  constexpr int64_t kTokens = 300, kHidden = 64;
  GuardedTensor weight{3 * kHidden, kHidden}, table{10, kHidden}, x{kTokens, kHidden},
      y{kTokens, kHidden}, qkv{kTokens, 3, 2, 32}, pooled{2, kHidden}, gamma{kHidden}, bias{2, 32},
      positions{50, 2, 32}, segments{2, 2, 32};
  for (GuardedTensor* tensor : {&weight, &table, &x, &gamma, &bias, &positions, &segments}) {
    tensor->Randomize(random_);
  }
  const auto packed = Pack({weight.data(), weight.size()}, {}, 3 * kHidden, kHidden);
  const TensorView context(y.data(), DType::kFloat32, {kTokens, 2, 32});
  const TensorView flat_qkv(qkv.data(), DType::kFloat32, {kTokens, 3 * kHidden});
  std::vector<int32_t> ids(kTokens, 3), cu_seqlens = {0, 40, 300}, begin = {0, 40}, end = {40, 300};
  EmbeddingParams embedding;
  embedding.ids = IntView(ids);
  embedding.word = table.view();
  embedding.gamma = embedding.beta = gamma.view();
  embedding.y = x.view();
  const RelativeAttentionParams relative{
      .qkv = qkv.view(),
      .content_bias = bias.view(),
      .position_bias = bias.view(),
      .segment_bias = bias.view(),
      .positions = positions.view(),
      .center = 25,
      .segments = segments.view(),
      .type_ids = IntView(ids),
      .cu_seqlens = IntView(cu_seqlens),
      .cu_seqlens_host = cu_seqlens,
      .memory = {},
      .out = context,
  };
  const auto forward = [&] {
    bool ok = backend_->Embedding(*stream_, embedding).ok();
    ok &= backend_->Linear(*stream_, {x.view(), packed.get(), Activation::kGeluErf, {}, flat_qkv})
              .ok();
    ok &=
        backend_->Attention(*stream_, {qkv.view(), IntView(cu_seqlens), cu_seqlens, 0.1f, context})
            .ok();
    ok &= backend_->RelativeAttention(*stream_, relative).ok();
    ok &=
        backend_
            ->LayerNorm(*stream_, {y.view(), x.view(), gamma.view(), gamma.view(), 1e-5f, y.view()})
            .ok();
    ok &= backend_
              ->Pool(*stream_, {y.view(), IntView(begin), IntView(end), IntView(begin),
                                PoolingMode::kMean, 0, pooled.view()})
              .ok();
    ok &= backend_->Normalize(*stream_, {pooled.view()}).ok();
    return ok && backend_->Synchronize(*stream_).ok();
  };
  ASSERT_TRUE(forward());  // warm-up
  const int64_t before = num_allocations.load();
  bool ok = true;
  for (int i = 0; i < 20; ++i) ok &= forward();
  EXPECT_EQ(num_allocations.load() - before, 0);
  EXPECT_TRUE(ok);
  EXPECT_GT(before, 0);  // the count counts
}

INSTANTIATE_TEST_SUITE_P(Devices, AllocationTest, testing::ValuesIn(DeviceCases()), CaseName);

}  // namespace
}  // namespace bertrand

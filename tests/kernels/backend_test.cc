#include "kernels/backend.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/status.h"
#include "tests/kernels/device_fixture.h"

namespace bertrand {
namespace {

TEST(CreateBackendTest, KnownNames) {
  ThreadPool pool(2);
  for (const char* device : {"cpu", "reference"}) {
    auto backend = CreateBackend(device, pool);
    ASSERT_TRUE(backend.ok());
    EXPECT_EQ((*backend)->name(), device);
    EXPECT_EQ((*backend)->activation_dtype(), DType::kFloat32);
    EXPECT_TRUE((*backend)->host_memory());
  }
}

TEST(CreateBackendTest, TheEmulatedGpuHasEveryType) {
  ThreadPool pool(1);
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    auto backend = CreateBackend("emulated", pool, dtype);
    ASSERT_TRUE(backend.ok()) << Message(backend.status());
    EXPECT_EQ((*backend)->name(), "emulated");
    EXPECT_EQ((*backend)->activation_dtype(), dtype);
    EXPECT_FALSE((*backend)->host_memory());
  }
  ExpectInvalid(CreateBackend("emulated", pool, DType::kInt32).status(),
                "device 'emulated' with int32, expected float32, float16 or bfloat16");
  ExpectInvalid(CreateBackend("cpu", pool, DType::kFloat16).status(), "device 'cpu' with float16");
}

// With a GPU there is a backend; without one, or without the CUDA half, the message says which is
// missing and what else there is.
TEST(CreateBackendTest, CudaIsThereOrSaysWhyNot) {
  ThreadPool pool(1);
  for (const char* device : {"cuda", "cuda:0"}) {
    auto backend = CreateBackend(device, pool);
    if (backend.ok()) {
      EXPECT_EQ((*backend)->name(), device);
      EXPECT_FALSE((*backend)->host_memory());
      continue;
    }
    const std::string message = Message(backend.status());
    EXPECT_NE(message.find("device '" + std::string(device) + "'"), std::string::npos) << message;
    EXPECT_NE(message.find("'cpu'"), std::string::npos) << message;
    EXPECT_GT(message.size(), message.rfind(": ") + 2) << message;
  }
  for (const char* device : {"cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:99999999999"}) {
    ExpectInvalid(CreateBackend(device, pool).status(), "expected cuda or cuda:N");
  }
}

TEST(CreateBackendTest, UnknownNamesListTheKnown) {
  ThreadPool pool(1);
  for (const char* device : {"", "gpu", "CPU", "cudax"}) {
    ExpectInvalid(CreateBackend(device, pool).status(),
                  "unknown device '" + std::string(device) + "'; known: cpu, reference, cuda");
  }
}

TEST(TensorTest, ViewsDescribeThemselves) {
  float value = 0;
  const TensorView view(&value, DType::kFloat32, {2, 3, 4});
  EXPECT_TRUE(view);
  EXPECT_EQ(view.num_elements(), 24);
  EXPECT_EQ(view.size_bytes(), 96u);
  EXPECT_EQ(view.ToString(), "float32[2,3,4]");
  EXPECT_TRUE(view.HasShape({2, 3, 4}));
  EXPECT_FALSE(view.HasShape({2, 3}));
  EXPECT_FALSE(view.HasShape({2, 3, 5}));
  EXPECT_FALSE(TensorView());
  EXPECT_EQ(TensorView().num_elements(), 0);
  EXPECT_EQ(TensorView().ToString(), "absent");
  EXPECT_EQ(TensorView(&value, DType::kBFloat16, {2}).size_bytes(), 4u);
  EXPECT_STREQ(Name(DType::kFloat16), "float16");
  EXPECT_STREQ(Name(DType::kInt32), "int32");
}

class BufferTest : public DeviceTest {};

TEST_P(BufferTest, BuffersAreAlignedAndReadableToTheNextMultiple) {
  for (const size_t size : {size_t{0}, size_t{1}, size_t{255}, size_t{257}, size_t{5} << 20}) {
    auto buffer = backend_->Allocate(size);
    ASSERT_TRUE(buffer.ok());
    EXPECT_EQ((*buffer)->size_bytes(), size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>((*buffer)->data()) % 256, 0u);
    // Under AddressSanitizer this fails unless the memory is there.
    const volatile char* last = static_cast<char*>((*buffer)->data()) + (size + 255) / 256 * 256;
    if (size != 0) static_cast<void>(last[-1]);
  }
}

TEST_P(BufferTest, TooLargeIsResourceExhausted) {
  const absl::Status status = backend_->Allocate(~size_t{0}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_NE(Message(status).find("18446744073709551615"), std::string::npos) << Message(status);
}

TEST_P(BufferTest, ValuesTravelThereAndBack) {
  auto buffer = backend_->Allocate(24);
  ASSERT_TRUE(buffer.ok());
  const TensorView view((*buffer)->data(), DType::kFloat32, {2, 3});
  const std::vector<float> there = {1, 2, 3, 4, 5, 6};
  std::vector<float> back(6);
  ASSERT_TRUE(backend_->Upload(there, view).ok());
  ASSERT_TRUE(backend_->CopyToHost(*stream_, view, back).ok());
  ASSERT_TRUE(backend_->Synchronize(*stream_).ok());
  EXPECT_EQ(back, there);
  const std::vector<float> other = {7, 8, 9};
  ASSERT_TRUE(backend_->CopyToDevice(*stream_, other.data(), view.data(), 12).ok());
  ASSERT_TRUE(backend_->CopyToHost(*stream_, view, back).ok());
  EXPECT_EQ(back, (std::vector<float>{7, 8, 9, 4, 5, 6}));

  std::vector<float> five(5);
  ExpectInvalid(backend_->Upload(five, view), "Upload: 5 host values for float32[2,3]");
  ExpectInvalid(backend_->CopyToHost(*stream_, view, five),
                "CopyToHost: source is float32[2,3], expected float32 with 5 elements");
  ExpectInvalid(backend_->Upload(there, {view.data(), DType::kFloat16, {2, 3}}),
                "Upload: destination is float16[2,3]");
}

INSTANTIATE_TEST_SUITE_P(Devices, BufferTest, testing::ValuesIn(DeviceCases()), CaseName);

}  // namespace
}  // namespace bertrand

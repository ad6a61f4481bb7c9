#include "server/devices.h"

#include <gtest/gtest.h>

#include "kernels/status.h"

namespace bertrand {
namespace {

using Names = std::vector<std::string>;

TEST(Devices, OneOrSeveral) {
  EXPECT_EQ(*ParseDevices("auto"), Names{"cpu"});
  EXPECT_EQ(*ParseDevices("cuda"), Names{"cuda"});
  EXPECT_EQ(*ParseDevices("cuda:1"), Names{"cuda:1"});
  EXPECT_EQ(*ParseDevices("emulated:0,12"), (Names{"emulated:0", "emulated:12"}));
  for (const char* device :
       {"cuda:", "cuda:a", "cuda:0,", "cuda:0,0", "cuda:-1", "cuda:01", "cuda:0 1"}) {
    const absl::Status status = ParseDevices(device).status();
    EXPECT_NE(Message(status).find(device), std::string::npos) << status;
  }
}

TEST(Devices, AutomaticTypes) {
  const auto choose = [](const char* dtype, const char* device, DType stored) {
    return *ChooseType(dtype, device, stored);
  };
  for (const DType stored : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
    const bool is_bfloat = stored == DType::kBFloat16;
    EXPECT_EQ(choose("auto", "cpu", stored), DType::kFloat32);
    EXPECT_EQ(choose("auto", "reference", stored), DType::kFloat32);
    for (const char* device : {"cuda", "cuda:1", "emulated", "emulated:0"}) {
      EXPECT_EQ(choose("auto", device, stored), is_bfloat ? DType::kBFloat16 : DType::kFloat16);
      EXPECT_EQ(choose("float32", device, stored), DType::kFloat32);
      EXPECT_EQ(choose("bfloat16", device, stored), DType::kBFloat16);
    }
  }
  // The type of what is not a product.
  EXPECT_EQ(choose("float8", "cuda:1", DType::kFloat32), DType::kFloat16);
  EXPECT_EQ(choose("float8", "emulated", DType::kBFloat16), DType::kBFloat16);
  const absl::Status cpu = ChooseType("float8", "cpu", DType::kFloat32).status();
  EXPECT_EQ(cpu.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(Message(cpu).find("needs a GPU of compute capability 8.9"), std::string::npos) << cpu;
  EXPECT_EQ(ChooseType("half", "cuda", DType::kFloat32).status().code(),
            absl::StatusCode::kInvalidArgument);
}

// One backend for each device and type.
TEST(Devices, BackendsAreMadeWhenTheyAreNeeded) {
  ThreadPool pool(1);
  Devices devices({"emulated:0", "emulated:1"}, "auto", "", &pool);
  ASSERT_EQ(devices.size(), 2U);
  const auto half = devices.For(0, DType::kFloat32);
  ASSERT_TRUE(half.ok()) << half.status();
  EXPECT_EQ((*half)->name(), "emulated:0");
  EXPECT_EQ((*half)->activation_dtype(), DType::kFloat16);
  EXPECT_EQ(*devices.For(0, DType::kFloat16), *half);
  EXPECT_EQ((*devices.For(0, DType::kBFloat16))->activation_dtype(), DType::kBFloat16);
  EXPECT_EQ((*devices.For(1, DType::kFloat32))->name(), "emulated:1");
  const auto report = devices.Tune(64, std::chrono::milliseconds(10), true);
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_TRUE(report->shapes.empty() && report->notes.empty());  // there is no time in the emulator
  EXPECT_FALSE(devices.is_float8());
  // One with float16, of which models are told to use float8.
  Devices narrow({"emulated"}, "float8", "", &pool);
  EXPECT_TRUE(narrow.is_float8());
  EXPECT_EQ((*narrow.For(0, DType::kFloat32))->activation_dtype(), DType::kFloat16);
  Devices toaster({"toaster"}, "auto", "", &pool);
  const std::string message = Message(toaster.For(0, DType::kFloat32).status());
  EXPECT_NE(message.find("--device"), std::string::npos) << message;
  EXPECT_NE(message.find("toaster"), std::string::npos) << message;
}

}  // namespace
}  // namespace bertrand

#include "tests/kernels/device_fixture.h"

#include <hwy/targets.h>

#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/relative_attention_kernels.h"
#include "kernels/cpu/row_kernels.h"
#include "tests/kernels/mirrored_backend.h"

namespace bertrand {

std::vector<DeviceCase> DeviceCases() {
  std::vector<DeviceCase> cases = {{"reference", 0, "reference"}};
#ifndef __SANITIZE_THREAD__  // it takes the emulator's fibres for one thread with a broken stack
  cases.push_back({"emulated", 0, "emulated"});
#endif
  const int64_t supported = static_cast<int64_t>(hwy::SupportedTargets());
  for (int64_t bits = supported; bits != 0; bits &= bits - 1) {
    const int64_t target = bits & -bits;
    hwy::SetSupportedTargetsForTest(target);
    const std::string name = hwy::TargetName(target);
    // Targets that are not compiled fall back to another.
    if (ChooseLinearKernels().target == name) cases.push_back({"cpu", target, "cpu_" + name});
    hwy::SetSupportedTargetsForTest(0);
  }
  return cases;
}

DeviceTest::DeviceTest() {
  const DeviceCase& device = GetParam();
  if (device.target != 0) {
    hwy::SetSupportedTargetsForTest(device.target);
    // The instruction set meant is the one that runs.
    const std::string name = hwy::TargetName(device.target);
    EXPECT_EQ(ChooseLinearKernels().target, name);
    EXPECT_EQ(ChooseAttentionKernels().target, name);
    EXPECT_EQ(ChooseRelativeAttentionKernels().target, name);
    EXPECT_EQ(ChooseRowKernels().target, name);
  }
  auto backend = CreateBackend(device.device, pool_);
  BERTRAND_CHECK(backend.ok(), Message(backend.status()));
  backend_ = *std::move(backend);
  if (!backend_->host_memory()) backend_ = MirrorBackend(std::move(backend_));
  auto stream = backend_->CreateStream(4096);
  BERTRAND_CHECK(stream.ok(), Message(stream.status()));
  stream_ = *std::move(stream);
}

DeviceTest::~DeviceTest() { hwy::SetSupportedTargetsForTest(0); }

std::unique_ptr<PackedLinear> DeviceTest::Pack(std::span<const float> weight,
                                               std::span<const float> bias, int64_t out_features,
                                               int64_t in_features) {
  auto packed = backend_->PackLinear(weight, bias, out_features, in_features);
  BERTRAND_CHECK(packed.ok(), Message(packed.status()));
  return *std::move(packed);
}

void ExpectInvalid(const absl::Status& status, const std::string& text) {
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << Message(status);
  EXPECT_NE(Message(status).find(text), std::string::npos)
      << "message: " << Message(status) << "\nexpected to contain: " << text;
}

}  // namespace bertrand

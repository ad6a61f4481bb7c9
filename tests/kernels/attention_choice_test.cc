// Which kernel computes attention, over the emulator with times that the test gives.

#include "kernels/gpu/attention_choice.h"

#include <gmock/gmock.h>

#include "kernels/attention/hopper_attention.h"
#include "tests/kernels/attention_problem.h"

namespace bertrand::gpu {
namespace {

using simt::Half;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class AttentionChoiceTest : public EmulatedTest {
 protected:
  // Few multiprocessors: small batches have a tile for each.
  void SetUp() override {
    simt::DeviceInfo profile = simt::ProfileH100();
    profile.multiprocessors = 4;
    set_device(profile);
  }

  // The kernel that ran for heads of 32.
  std::string Ran(const AttentionChoice& choice, const std::vector<int>& lengths,
                  int64_t heads = 1) {
    const std::vector<int> cu_seqlens = CuSeqlens(lengths);
    const int64_t tokens = cu_seqlens.back();
    const DeviceTensor<Half> qkv(stream(), {tokens, 3, heads, 32},
                                 Random(static_cast<size_t>(tokens * heads * 96)));
    const DeviceTensor<int> device_lengths(stream(), {static_cast<int64_t>(cu_seqlens.size())},
                                           cu_seqlens);
    const DeviceTensor<Half> out(stream(), {tokens, heads, 32});
    device().TakeReports();
    const absl::Status status =
        choice.Run({qkv.view(), device_lengths.view(), 0.2f, out.view()}, stream());
    if (!status.ok()) return Message(status);
    return device().TakeReports().at(0).first;
  }
  std::vector<std::string> Tune(AttentionChoice& choice, int seconds = 100) {
    auto lines =
        choice.Tune(std::chrono::steady_clock::now() + std::chrono::seconds(seconds), stream());
    EXPECT_TRUE(lines.ok()) << Message(lines.status());
    return lines.value_or(std::vector<std::string>());
  }
};
INSTANTIATE_TEST_SUITE_P(Once, AttentionChoiceTest, testing::Values(OneEmulatedCase()));

// Times without running: what runs is the trial of results.
AttentionChoice::Measure FasterFrom(int length) {
  return [length](bool hopper, int at, const std::function<absl::Status()>&) {
    return hopper ? (at >= length ? 9.0 : 11.0) : 10.0;
  };
}

TEST_P(AttentionChoiceTest, NothingIsChosenUntried) {
  AttentionChoice choice(FasterFrom(0));
  EXPECT_THAT(Tune(choice), IsEmpty());  // nothing was asked for
  EXPECT_EQ(Ran(choice, {256, 256}), "attention");
  EXPECT_THAT(Tune(choice, -1), IsEmpty());  // there is no time
  EXPECT_EQ(Ran(choice, {256, 256}), "attention");
  AttentionChoice unable;
  EXPECT_EQ(Ran(unable, {256, 256}), "attention");
  EXPECT_THAT(Tune(unable), IsEmpty());
}

TEST_P(AttentionChoiceTest, TheFasterOneByMeanLength) {
  AttentionChoice choice(FasterFrom(256));
  EXPECT_EQ(Ran(choice, {300, 300}), "attention");
  EXPECT_THAT(
      Tune(choice),
      ElementsAre("attention 1 heads of 32 float16: hopper_attention from 256 tokens a text "
                  "(512: 9.0 us against 10.0, 384: 9.0 us against 10.0, 256: 9.0 us against "
                  "10.0, 192: 11.0 us against 10.0)"));
  EXPECT_THAT(Tune(choice), IsEmpty());
  EXPECT_EQ(Ran(choice, {300, 300}), "hopper_attention");
  EXPECT_EQ(Ran(choice, {256, 255}), "attention");
  EXPECT_EQ(Ran(choice, {255}), "attention");          // too few tiles as well
  EXPECT_EQ(Ran(choice, {300, 300}, 2), "attention");  // other heads
  EXPECT_THAT(Tune(choice), ElementsAre(HasSubstr("2 heads of 32")));
}

TEST_P(AttentionChoiceTest, ASlowerOneIsNot) {
  AttentionChoice choice(FasterFrom(1000));
  EXPECT_EQ(Ran(choice, {300, 300}), "attention");
  EXPECT_THAT(Tune(choice), ElementsAre("attention 1 heads of 32 float16: attention (512: 11.0 us "
                                        "against 10.0)"));
  EXPECT_EQ(Ran(choice, {600, 600}), "attention");
}

// Right but for one value: of the first result, or of those in e4m3.
TEST_P(AttentionChoiceTest, AWrongOneIsDropped) {
  for (const bool narrow : {false, true}) {
    AttentionChoice choice(FasterFrom(0), [&](const AttentionParams& p, simt::Stream& to) {
      absl::Status status = HopperAttention(p, to);
      if (!status.ok() || (p.out.dtype() == DType::kFloat8) != narrow) return status;
      // The upper byte of the last one: a NaN's sign and exponent.
      return to.Fill(p.out.as<char>() + p.out.size_bytes() - 1, 0x7f, 1);
    });
    EXPECT_EQ(Ran(choice, {300, 300}), "attention");
    EXPECT_THAT(Tune(choice), ElementsAre("attention 1 heads of 32 float16: attention; "
                                          "hopper_attention is wrong here"));
    EXPECT_EQ(Ran(choice, {300, 300}), "attention");
    EXPECT_THAT(Tune(choice), IsEmpty());
  }
}

TEST_P(AttentionChoiceTest, ErrorsOfMeasuring) {
  AttentionChoice small([](bool, int, const std::function<absl::Status()>&) {
    return absl::StatusOr<double>(ResourceExhausted("no memory"));
  });
  EXPECT_EQ(Ran(small, {300, 300}), "attention");
  EXPECT_THAT(Tune(small), ElementsAre(HasSubstr("was not tried: no memory")));
  EXPECT_EQ(Ran(small, {300, 300}), "attention");
  AttentionChoice lost([](bool, int, const std::function<absl::Status()>&) {
    return absl::StatusOr<double>(Internal("the device is lost"));
  });
  EXPECT_EQ(Ran(lost, {300, 300}), "attention");
  EXPECT_EQ(lost.Tune(std::chrono::steady_clock::time_point::max(), stream()).status().code(),
            absl::StatusCode::kInternal);
}

TEST_P(AttentionChoiceTest, OtherDevicesAreNotTried) {
  set_device(simt::ProfileA100());
  AttentionChoice choice(FasterFrom(0));
  EXPECT_EQ(Ran(choice, {300, 300}), "attention");
  EXPECT_THAT(Tune(choice), IsEmpty());
}

TEST_P(AttentionChoiceTest, BadParamsAreRefused) {
  const AttentionChoice choice;
  EXPECT_THAT(Message(choice.Run({}, stream())), HasSubstr("Attention: qkv is"));
}

}  // namespace
}  // namespace bertrand::gpu

// bertrand-fp8.json: what is written is read, and nothing else is.

#include "models/encoder/float8_inputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/status.h"
#include "tests/models/test_folder.h"

namespace bertrand {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

const CheckpointMark kMark{
    .num_blocks = 2, .hidden_size = 64, .intermediate_size = 256, .weights = "0123456789abcdef"};
const std::vector<BlockInputs> kInputs = {{1.5f, 0.1f, 3e-5f, 4096.25f}, {5, 6, 7, 8}};

class Float8InputsTest : public testing::Test {
 protected:
  // What is read of a text, or the error without the file's name.
  absl::StatusOr<std::vector<BlockInputs>> Read(const std::string& text) {
    return ReadFloat8Inputs(folder_.Write(kFloat8FileName, text), kMark);
  }
  std::string ErrorOf(const std::string& text) {
    const absl::Status status = Read(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    const std::string path = folder_.path() + "/" + kFloat8FileName;
    EXPECT_THAT(Message(status), StartsWith(path));
    return Message(status).substr(std::min(path.size() + 2, Message(status).size()));
  }
  // A right file with `from` replaced by `to`.
  static std::string Changed(const std::string& from, const std::string& to) {
    std::string text = *FormatFloat8Inputs(kMark, kInputs, 3, 40);
    const size_t at = text.find(from);
    BERTRAND_CHECK(at != std::string::npos, from);
    return text.replace(at, from.size(), to);
  }

  TestFolder folder_;
};

TEST_F(Float8InputsTest, WhatIsWrittenIsRead) {
  const auto inputs = Read(*FormatFloat8Inputs(kMark, kInputs, 3, 40));
  ASSERT_TRUE(inputs.ok()) << inputs.status();
  ASSERT_EQ(inputs->size(), kInputs.size());
  for (size_t i = 0; i < kInputs.size(); ++i) {
    EXPECT_EQ((*inputs)[i].qkv, kInputs[i].qkv);
    EXPECT_EQ((*inputs)[i].out, kInputs[i].out);
    EXPECT_EQ((*inputs)[i].up, kInputs[i].up);
    EXPECT_EQ((*inputs)[i].down, kInputs[i].down);
  }
}

TEST_F(Float8InputsTest, WhatHasNoScaleIsNotWritten) {
  for (const float value : {0.0f, -1.0f, INFINITY, NAN, 1e13f}) {
    std::vector<BlockInputs> inputs = kInputs;
    inputs[1].up = value;
    const absl::Status status = FormatFloat8Inputs(kMark, inputs, 3, 40).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(Message(status), HasSubstr("blocks[1].up"));
  }
}

TEST_F(Float8InputsTest, NumbersWithoutAScale) {
  for (const char* number : {"0", "-6", "NaN", "Infinity", "-Infinity", "1e39", "1e400", "1e-300",
                             "1000000000001", "\"6\"", "null", "true", "[6]", "{\"a\": 6}"}) {
    EXPECT_THAT(ErrorOf(Changed("\"out\": 6,", std::string("\"out\": ") + number + ",")),
                testing::AllOf(StartsWith("blocks[1].out is "),
                               HasSubstr("expected a number from 1e-12 to 1e12")));
  }
}

TEST_F(Float8InputsTest, WrongCounts) {
  EXPECT_EQ(ErrorOf(Changed("\"num_blocks\": 2", "\"num_blocks\": 3")),
            "num_blocks is 3, expected 2; the file is another checkpoint's: make it again with "
            "`bertrand calibrate`");
  EXPECT_EQ(ErrorOf(Changed(",\n    {\"qkv\": 5, \"out\": 6, \"up\": 7, \"down\": 8}", "")),
            "blocks has 1 elements, expected 2");
  EXPECT_EQ(ErrorOf(Changed("\"down\": 8}", "\"down\": 8}, {}")),
            "blocks has 3 elements, expected 2");
  EXPECT_EQ(ErrorOf(Changed("\"blocks\": [", "\"blocks\": 7, \"more\": [")),
            "an array of a name that is not known, \"more\"");
  EXPECT_EQ(ErrorOf(Changed("\"num_texts\": 3", "\"num_texts\": 0")),
            "num_texts is 0, expected 1 or more");
  EXPECT_EQ(ErrorOf(Changed("\"num_tokens\": 40", "\"num_tokens\": 1e9")),
            "num_tokens is 1e+09, expected 1 or more");
}

TEST_F(Float8InputsTest, MembersThatAreMissingOrUnknown) {
  EXPECT_EQ(ErrorOf(Changed("\"up\": 7, ", "")), "blocks[1]: up is missing");
  EXPECT_EQ(ErrorOf(Changed("\"up\": 7, ", "\"up\": 7, \"side\": 7, ")),
            "blocks[1]: 7 of a name that is not known, \"side\"");
  EXPECT_EQ(ErrorOf(Changed("  \"dtype\": \"float8_e4m3\",\n", "")), "dtype is missing");
  EXPECT_EQ(ErrorOf(Changed("  \"version\": 1,\n", "")), "version is missing");
  EXPECT_EQ(ErrorOf(Changed("{\"qkv\": 5, \"out\": 6, \"up\": 7, \"down\": 8}", "8")),
            "blocks[1] is a number, expected an object");
  EXPECT_THAT(ErrorOf("[]"), HasSubstr("an array, expected an object"));
  EXPECT_THAT(ErrorOf(Changed("\"up\": 7, ", "\"up\": 7, \"up\": 7, ")), HasSubstr("up"));
}

TEST_F(Float8InputsTest, AnotherVersionTypeOrCheckpoint) {
  EXPECT_EQ(ErrorOf(Changed("\"version\": 1", "\"version\": 2, \"new\": 0")),
            "version is 2, expected 1");
  EXPECT_EQ(ErrorOf(Changed("float8_e4m3", "float8_e5m2")),
            "dtype is \"float8_e5m2\", expected \"float8_e4m3\"");
  EXPECT_THAT(ErrorOf(Changed("\"hidden_size\": 64", "\"hidden_size\": 64.0")),
              StartsWith("hidden_size is 64, expected 64; the file is another"));
  EXPECT_THAT(ErrorOf(Changed("abcdef", "abcdee")),
              StartsWith("weights is \"0123456789abcdee\", expected \"0123456789abcdef\"; "));
}

TEST_F(Float8InputsTest, WhatIsNoSuchFile) {
  EXPECT_THAT(ErrorOf(""), testing::Not(""));
  EXPECT_THAT(ErrorOf("{"), testing::Not(""));
  EXPECT_THAT(ErrorOf(Changed("\n  ]\n}", "")), testing::Not(""));
  const std::string deep(100'000, '[');
  EXPECT_THAT(ErrorOf(Changed("\"blocks\": [", "\"blocks\": " + deep)), HasSubstr("deep"));
  EXPECT_THAT(ErrorOf(std::string(5 << 20, ' ')), HasSubstr("expected at most"));
  EXPECT_EQ(ReadFloat8Inputs(folder_.path() + "/nothing", kMark).status().code(),
            absl::StatusCode::kNotFound);
  EXPECT_EQ(ReadFloat8Inputs(folder_.path(), kMark).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(Float8InputsTest, SizesThatFloat8DoesNotTake) {
  EncoderConfig config;
  config.num_layers = 2;
  config.hidden_size = 64;
  config.intermediate_size = 256;
  config.head_size = 32;
  EXPECT_TRUE(CheckFloat8Sizes(config).ok());
  const auto error = [&](int64_t EncoderConfig::*size, int64_t value) {
    EncoderConfig changed = config;
    changed.*size = value;
    return Message(CheckFloat8Sizes(changed));
  };
  EXPECT_THAT(error(&EncoderConfig::hidden_size, 72), HasSubstr("hidden states have 72 values"));
  EXPECT_THAT(error(&EncoderConfig::hidden_size, 4112), HasSubstr("expected at most 4096"));
  EXPECT_THAT(error(&EncoderConfig::intermediate_size, 8),
              HasSubstr("inner states have 8 values, expected a multiple of 16"));
  EXPECT_THAT(error(&EncoderConfig::head_size, 4),
              HasSubstr("heads have 4 values, expected a multiple of 8"));
  EXPECT_THAT(error(&EncoderConfig::num_layers, 0), HasSubstr("no layers"));
}

}  // namespace
}  // namespace bertrand

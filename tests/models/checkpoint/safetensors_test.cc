// safetensors files that are right, odd, and hostile.

#include "models/checkpoint/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "tests/models/test_folder.h"

namespace bertrand {
namespace {

std::string Length(uint64_t size) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &size, 8);
  return bytes;
}

std::string WithHeader(const std::string& header, const std::string& data) {
  return Length(header.size()) + header + data;
}

class Safetensors : public testing::Test {
 protected:
  absl::StatusOr<SafetensorsFile> Open(const std::string& bytes) {
    return SafetensorsFile::Open(folder_.Write("a.safetensors", bytes));
  }
  // The message of the error; "opened" when there is none.
  std::string Error(const std::string& bytes) {
    const auto file = Open(bytes);
    return file.ok() ? "opened" : Message(file.status());
  }
  std::string HeaderError(const std::string& header, const std::string& data) {
    return Error(WithHeader(header, data));
  }

  TestFolder folder_;
};

using testing::HasSubstr;

TEST_F(Safetensors, ReadsThreeTypes) {
  const std::string header =
      R"({"__metadata__":{"format":"pt"},"f":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
      R"("h":{"dtype":"F16","shape":[3],"data_offsets":[8,14]},)"
      R"("b":{"dtype":"BF16","shape":[],"data_offsets":[14,16]},)"
      R"("none":{"dtype":"I64","shape":[0,9],"data_offsets":[16,16]}}   )";
  const float floats[] = {1.5f, -0.0f};
  const uint16_t halves[] = {0x3c00, 0x0001, 0xfc00}, brain = 0x4049;
  std::string data(16, '\0');
  std::memcpy(data.data(), floats, 8);
  std::memcpy(data.data() + 8, halves, 6);
  std::memcpy(data.data() + 14, &brain, 2);
  const auto file = Open(WithHeader(header, data));
  ASSERT_TRUE(file.ok()) << file.status();
  ASSERT_EQ(file->tensors().size(), 4u);
  EXPECT_EQ(file->Find("f")->ToString(), "F32[2,1]");
  EXPECT_EQ(file->Find("none")->num_elements(), 0);
  EXPECT_EQ(file->Find("nobody"), nullptr);
  std::vector<float> values(3);
  ASSERT_TRUE(file->Read(*file->Find("h"), 0, values).ok());
  EXPECT_EQ(values, (std::vector<float>{1, 0x1p-24f, -std::numeric_limits<float>::infinity()}));
  values.resize(1);
  ASSERT_TRUE(file->Read(*file->Find("b"), 0, values).ok());
  EXPECT_EQ(values[0], 3.140625f);
  ASSERT_TRUE(file->Read(*file->Find("f"), 1, values).ok());
  EXPECT_TRUE(values[0] == 0 && std::signbit(values[0]));
  values.clear();
  EXPECT_EQ(file->Read(*file->Find("none"), 0, values).code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(Safetensors, EveryHalfIsExact) {
  std::string data(0x20000, '\0');
  for (uint32_t i = 0; i < 0x10000; ++i) {
    const auto half = static_cast<uint16_t>(i);
    std::memcpy(data.data() + 2 * i, &half, 2);
  }
  const auto file =
      Open(WithHeader(R"({"h":{"dtype":"F16","shape":[65536],"data_offsets":[0,131072]}})", data));
  ASSERT_TRUE(file.ok()) << file.status();
  std::vector<float> values(65536);
  ASSERT_TRUE(file->Read(*file->Find("h"), 0, values).ok());
  for (int i = 0; i < 65536; ++i) {
    const int exponent = i >> 10 & 31, mantissa = i & 1023;
    const float sign = i & 0x8000 ? -1.0f : 1.0f;
    const float value = values[static_cast<size_t>(i)];
    if (exponent == 31) {
      EXPECT_EQ(std::isnan(value), mantissa != 0) << i;
      EXPECT_EQ(std::isinf(value), mantissa == 0) << i;
      continue;
    }
    const float expected = exponent == 0
                               ? std::ldexp(static_cast<float>(mantissa), -24)
                               : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
    EXPECT_EQ(value, sign * expected) << i;
    EXPECT_EQ(std::signbit(value), sign < 0) << i;
  }
}

TEST_F(Safetensors, TruncatedAnywhereIsAnError) {
  const std::string whole = WithHeader(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                       R"("b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]}})",
                                       std::string(12, 'x'));
  EXPECT_EQ(Error(whole), "opened");
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string error = Error(whole.substr(0, size));
    EXPECT_THAT(error, HasSubstr("a.safetensors")) << size;
  }
  EXPECT_THAT(Error(whole + "x"), HasSubstr("tensors end at byte"));
  EXPECT_THAT(Error(whole.substr(0, whole.size() - 1)), HasSubstr("truncated"));
}

// Any byte changed: an error, or a file whose tensors still lie within it.
TEST_F(Safetensors, AnyByteChanged) {
  const std::string whole = WithHeader(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                       R"("b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]}})",
                                       std::string(12, 'x'));
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const char byte : {'\0', '0', '1', '9', '-', '"', '[', '}', ',', 'F', '\x7f', '\xff'}) {
      std::string bytes = whole;
      bytes[at] = byte;
      const auto file = Open(bytes);
      if (!file.ok()) continue;
      for (const StoredTensor& tensor : file->tensors()) {
        ASSERT_LE(tensor.end, whole.size());
        std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
        file->Read(tensor, 0, values).IgnoreError();
      }
    }
  }
}

TEST_F(Safetensors, HeaderLengths) {
  EXPECT_THAT(Error(""), HasSubstr("expected at least 8"));
  EXPECT_THAT(Error(Length(0)), HasSubstr("does not begin with '{'"));
  EXPECT_EQ(HeaderError("{}", ""), "opened");
  EXPECT_THAT(HeaderError(" {}", ""), HasSubstr("does not begin with '{'"));
  for (const uint64_t size : {uint64_t{1} << 63, ~uint64_t{0}, uint64_t{100'000'001}}) {
    EXPECT_THAT(Error(Length(size) + "{}"), HasSubstr(std::to_string(size)));
  }
  EXPECT_THAT(Error(Length(100'000'000) + "{}"), HasSubstr("truncated"));
  EXPECT_THAT(HeaderError("{", ""), HasSubstr("a.safetensors"));
  EXPECT_THAT(HeaderError("{}x", ""), HasSubstr("a.safetensors"));
  EXPECT_THAT(HeaderError("[]", ""), HasSubstr("does not begin"));
}

TEST_F(Safetensors, HostileTensors) {
  const auto tensor = [](const char* dtype, const char* shape, const char* offsets) {
    return std::string(R"({"t":{"dtype":")") + dtype + R"(","shape":)" + shape +
           R"(,"data_offsets":)" + offsets + "}}";
  };
  const std::string data(8, '\0');
  EXPECT_EQ(HeaderError(tensor("F32", "[2]", "[0,8]"), data), "opened");
  EXPECT_THAT(HeaderError(tensor("F33", "[2]", "[0,8]"), data), HasSubstr("unknown dtype \"F33\""));
  EXPECT_THAT(HeaderError(tensor("F32", "[3]", "[0,8]"), data), HasSubstr("F32[3] takes 12 bytes"));
  EXPECT_THAT(HeaderError(tensor("F32", "[-2]", "[0,8]"), data), HasSubstr("takes too many bytes"));
  EXPECT_THAT(HeaderError(tensor("F32", "[4611686018427387904,4]", "[0,8]"), data),
              HasSubstr("takes too many bytes"));
  EXPECT_THAT(HeaderError(tensor("F32", "[4611686018427387906]", "[0,8]"), data),
              HasSubstr("takes too many bytes"));
  EXPECT_THAT(HeaderError(tensor("F32", "[2.0]", "[0,8]"), data), HasSubstr("no integer"));
  EXPECT_THAT(HeaderError(tensor("F32", "[18446744073709551618]", "[0,8]"), data),
              HasSubstr("no integer"));
  EXPECT_THAT(HeaderError(tensor("F32", "[2]", "[8,0]"), data), HasSubstr("0 <= begin <= end"));
  EXPECT_THAT(HeaderError(tensor("F32", "[2]", "[-8,0]"), data), HasSubstr("0 <= begin <= end"));
  EXPECT_THAT(HeaderError(tensor("F32", "[2]", "[0,8,8]"), data), HasSubstr("two integers"));
  EXPECT_THAT(HeaderError(tensor("F32", "[2]", "[0,9223372036854775807]"), data),
              HasSubstr("truncated"));
  EXPECT_THAT(HeaderError(tensor("F4", "[1]", "[0,8]"), data), HasSubstr("takes"));
  EXPECT_THAT(HeaderError(R"({"t":1})", data), HasSubstr("expected an object"));
  EXPECT_THAT(HeaderError(R"({"t":{"dtype":"F32"}})", data), HasSubstr("expected an object"));
  EXPECT_THAT(HeaderError(R"({"__metadata__":{"a":1}})", ""), HasSubstr("__metadata__"));
  EXPECT_THAT(HeaderError(R"({"__metadata__":[]})", ""), HasSubstr("__metadata__"));
  const std::string rank(200, ' ');
  EXPECT_THAT(HeaderError(tensor("F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]", "[0,8]"), data),
              HasSubstr("17 dimensions"));
}

TEST_F(Safetensors, OverlapsHolesAndDuplicates) {
  const auto two = [](const char* first, const char* second, const char* name = "b") {
    return std::string(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)") + first + R"(},")" +
           name + R"(":{"dtype":"U8","shape":[4],"data_offsets":)" + second + "}}";
  };
  const std::string eight(8, '\0');
  EXPECT_EQ(HeaderError(two("[0,4]", "[4,8]"), eight), "opened");
  EXPECT_EQ(HeaderError(two("[4,8]", "[0,4]"), eight), "opened");
  EXPECT_THAT(HeaderError(two("[0,4]", "[0,4]"), eight), HasSubstr("overlaps"));
  EXPECT_THAT(HeaderError(two("[0,4]", "[3,7]"), eight), HasSubstr("overlaps"));
  EXPECT_THAT(HeaderError(two("[0,4]", "[5,9]"), eight + "x"), HasSubstr("a hole"));
  EXPECT_THAT(HeaderError(two("[1,5]", "[5,9]"), eight + "x"), HasSubstr("a hole"));
  EXPECT_THAT(HeaderError(two("[0,4]", "[4,8]"), eight + "x"), HasSubstr("tensors end at byte"));
  EXPECT_THAT(HeaderError(two("[0,4]", "[4,8]", "a"), eight), HasSubstr("a.safetensors"));
  EXPECT_THAT(HeaderError("{}", "x"), HasSubstr("tensors end at byte"));
}

TEST_F(Safetensors, WhatIsNoFile) {
  EXPECT_THAT(Error("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 90868376\n"),
              HasSubstr("Git LFS pointer"));
  const auto error = [](const std::string& path) {
    return Message(SafetensorsFile::Open(path).status());
  };
  EXPECT_THAT(error(folder_.path() + "/missing"), HasSubstr("No such file"));
  EXPECT_THAT(error(folder_.path()), HasSubstr("is a directory"));
  const std::string fifo = folder_.path() + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_THAT(error(fifo), HasSubstr("is a FIFO"));
  EXPECT_THAT(error("/dev/zero"), HasSubstr("is a device"));
}

TEST_F(Safetensors, FileCutAfterOpening) {
  const auto file = Open(
      WithHeader(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", std::string(8, 'x')));
  ASSERT_TRUE(file.ok());
  std::vector<float> values(2);
  ASSERT_TRUE(file->Read(*file->Find("t"), 0, values).ok());
  std::ofstream(file->path(), std::ios::trunc) << "short";
  EXPECT_THAT(Message(file->Read(*file->Find("t"), 0, values)), HasSubstr("was cut"));
}

}  // namespace
}  // namespace bertrand

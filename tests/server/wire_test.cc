#include "server/grpc/wire.h"

#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <random>

#include "kernels/status.h"
#include "proto/bertrand.pb.h"

namespace bertrand {
namespace {

// A length-delimited field.
std::string Field(uint32_t number, const std::string& bytes) {
  std::string out(1, static_cast<char>(number << 3 | 2));
  for (size_t size = bytes.size();; size >>= 7) {
    const char low = static_cast<char>(size & 0x7F);
    if (size < 0x80) return out + low + bytes;
    out += static_cast<char>(low | 0x80);
  }
}

std::string Explain(const std::string& bytes) {
  return Message(ExplainParseFailure(bytes, v1::EmbedRequest::descriptor()));
}

TEST(Wire, CountsWithoutParsing) {
  v1::EmbedRequest request;
  request.set_model("m");
  request.mutable_truncation()->set_max_tokens(7);
  for (int i = 0; i < 1000; ++i) request.add_inputs();
  const std::string bytes = request.SerializeAsString();
  EXPECT_EQ(*CountField(bytes, 2), 1000);
  EXPECT_EQ(*CountField("", 2), 0);
  EXPECT_EQ(*ReadStringField(bytes, 1), "m");
  EXPECT_EQ(*ReadStringField(Field(1, "a") + Field(1, "b"), 1), "b");  // the last one counts
}

TEST(Wire, MalformedNamesTheByte) {
  for (const std::string& bytes :
       {std::string("\xff"),
        std::string("\x12\x05"
                    "ab"),
        std::string("\x0f\x01"), std::string("\x00\x01", 2), std::string(11, '\xff'),
        std::string("\x12\xff\xff\xff\xff\x0f")}) {
    const auto count = CountField(bytes, 2);
    ASSERT_FALSE(count.ok());
    EXPECT_NE(Message(count.status()).find("malformed protobuf message at byte "),
              std::string::npos);
  }
}

TEST(Wire, NamesBadTextByIndexAndByte) {
  const std::string good = Field(2, Field(1, "good"));
  EXPECT_EQ(Explain(good + good + good + Field(2, Field(1, "seventeen letters\xff"))),
            "inputs[3].text: invalid UTF-8 at byte 17");
  EXPECT_EQ(Explain(good + Field(2, Field(2, Field(1, "a") + Field(2, "b\xc3(")))),
            "inputs[1].pair.second: invalid UTF-8 at byte 1");
  EXPECT_EQ(Explain(Field(1, "\xed\xa0\x80")), "model: invalid UTF-8 at byte 0");
  EXPECT_EQ(Explain(Field(9, "\x80")), "prompt_name: invalid UTF-8 at byte 0");
}

TEST(Wire, NamesMalformedMessagesInside) {
  EXPECT_EQ(Explain(Field(2, "\x0a\x7f")), "inputs[0]: malformed protobuf message at byte 2");
}

TEST(Wire, SurvivesAnyBytes) {
  google::protobuf::LogSilencer silent;  // a line for each bad string otherwise
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes(random() % 40, 0);
    for (char& byte : bytes) {
      byte = static_cast<char>(random() % 3 == 0 ? random() % 256 : random() % 24);
    }
    v1::EmbedRequest request;
    const bool parsed = request.ParseFromString(bytes);
    const auto count = CountField(bytes, 2);
    if (parsed) {
      ASSERT_TRUE(count.ok());
      EXPECT_EQ(*count, request.inputs_size());
    } else {
      EXPECT_FALSE(Explain(bytes).empty());
    }
  }
}

}  // namespace
}  // namespace bertrand

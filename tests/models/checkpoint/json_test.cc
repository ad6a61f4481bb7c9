#include "models/checkpoint/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "kernels/status.h"

namespace bertrand {
namespace {

Json Parsed(std::string_view text) {
  auto json = Json::Parse(text, "test.json");
  EXPECT_TRUE(json.ok()) << json.status();
  return json.ok() ? *std::move(json) : Json();
}

std::string ErrorOf(std::string_view text) {
  auto json = Json::Parse(text, "test.json");
  EXPECT_FALSE(json.ok()) << text.substr(0, 80);
  return json.ok() ? "" : Message(json.status());
}

TEST(JsonTest, ReadsEveryKind) {
  const Json json =
      Parsed(R"( {"a": [1, -2.5e1, true, false, null, "x\u00e9\ud83d\ude00\n"], "b": {}} )");
  ASSERT_TRUE(json.is_object());
  const auto& a = json.Find("a")->elements();
  ASSERT_EQ(a.size(), 6u);
  EXPECT_EQ(a[0].as_int(), 1);
  EXPECT_EQ(a[0].as_number(), 1.0);
  EXPECT_FALSE(a[1].as_int().has_value());
  EXPECT_EQ(a[1].as_number(), -25.0);
  EXPECT_EQ(a[2].as_bool(), true);
  EXPECT_EQ(a[3].as_bool(), false);
  EXPECT_TRUE(a[4].is_null());
  EXPECT_EQ(*a[5].as_string(), "x\xC3\xA9\xF0\x9F\x98\x80\n");
  EXPECT_TRUE(json.Find("b")->is_object());
  EXPECT_EQ(json.Find("c"), nullptr);
  EXPECT_EQ(a[5].as_int(), std::nullopt);
  EXPECT_EQ(a[0].as_string(), nullptr);
  EXPECT_TRUE(a[0].elements().empty() && a[0].members().empty());
}

TEST(JsonTest, TakesWhatTransformersWrites) {
  const Json json = Parsed(
      "\xEF\xBB\xBF{\"big\": 1000000000000000019884624838656, \"nan\": NaN, \"inf\": Infinity,"
      "\"minus\": -Infinity, \"huge\": 1e400, \"tiny\": 1e-400, \"max\": 9223372036854775807}");
  EXPECT_FALSE(json.Find("big")->as_int().has_value());
  EXPECT_DOUBLE_EQ(*json.Find("big")->as_number(), 1e30);
  EXPECT_TRUE(std::isnan(*json.Find("nan")->as_number()));
  EXPECT_EQ(*json.Find("inf")->as_number(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(*json.Find("minus")->as_number(), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(*json.Find("huge")->as_number(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(*json.Find("tiny")->as_number(), 0.0);
  EXPECT_EQ(json.Find("max")->as_int(), std::numeric_limits<int64_t>::max());
}

TEST(JsonTest, KeepsTheOrderOfTheFile) {
  const Json json = Parsed(R"({"z": 1, "a": 2, "m": 3})");
  ASSERT_EQ(json.members().size(), 3u);
  EXPECT_EQ(json.members()[0].first, "z");
  EXPECT_EQ(json.members()[2].first, "m");
  EXPECT_EQ(json.Find("a")->as_int(), 2);
}

TEST(JsonTest, NullCountsAsAbsentWhereAsked) {
  const Json json = Parsed(R"({"a": null})");
  EXPECT_NE(json.Find("a"), nullptr);
  EXPECT_EQ(json.FindNonNull("a"), nullptr);
}

TEST(JsonTest, RefusesWhatIsNotJson) {
  for (const char* text : {"",
                           "  ",
                           "x",
                           "1",
                           "\"a\"",
                           "{",
                           "[",
                           "[1,]",
                           "[1 2]",
                           "{\"a\"}",
                           "{\"a\":}",
                           "{\"a\":1,}",
                           "{a:1}",
                           "[1] x",
                           "[1]]",
                           "[01]",
                           "[1.]",
                           "[.5]",
                           "[+1]",
                           "[1e]",
                           "[--1]",
                           "[0x10]",
                           "[tru]",
                           "[nulll]",
                           "[nan]",
                           "[-NaN]",
                           "[\"a]",
                           "[\"\\x\"]",
                           "[\"\\ud800\"]",
                           "[\"\\udc00\"]",
                           "[\"\\u12\"]",
                           "[\"\x01\"]",
                           "[\"\xFF\"]",
                           "[\"\xC3\"]",
                           "{\"a\":1]",
                           "[1}",
                           "{1:2}",
                           "[1,,2]",
                           "[,1]",
                           "{\"a\":1 \"b\":2}"}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(ErrorOf(text).rfind("test.json: not valid JSON at byte ", 0), 0u);
  }
}

TEST(JsonTest, RefusesTheSameKeyTwice) {
  EXPECT_NE(ErrorOf(R"({"a": {"k": 1, "l": 2, "k": 3}})").find("\"k\" stands twice"),
            std::string::npos);
  EXPECT_NE(ErrorOf(R"({"k": 1, "\u006b": 3})").find("stands twice"), std::string::npos);
}

TEST(JsonTest, TheLastOfTheSameKeysCountsInPythonsFiles) {
  const auto json = Json::Parse(R"({"k": {"x": 1}, "l": {"m": 1, "m": [2, 3], "n": 4}, "k": "new",
                                    "a": 5, "\u006b": 6})",
                                "test.json", Json::SameKeys::kLastCounts);
  ASSERT_TRUE(json.ok()) << json.status();
  ASSERT_EQ(json->members().size(), 3u);
  EXPECT_EQ(json->members()[0].first, "k");
  EXPECT_EQ(json->Find("k")->as_int(), 6);
  EXPECT_EQ(json->members()[1].first, "l");
  EXPECT_EQ(json->Find("l")->members().size(), 2u);
  EXPECT_EQ(json->Find("l")->Find("m")->elements().size(), 2u);
  EXPECT_EQ(json->Find("a")->as_int(), 5);
}

TEST(JsonTest, RefusesDeepNesting) {
  const std::string fits = std::string(Json::kMaxDepth, '[') + std::string(Json::kMaxDepth, ']');
  EXPECT_TRUE(Json::Parse(fits, "test.json").ok());
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  EXPECT_NE(ErrorOf(deep), "");
  std::string objects;
  for (int i = 0; i < 100; ++i) objects += "{\"a\":";
  EXPECT_NE(ErrorOf(objects + "1" + std::string(100, '}')), "");
}

TEST(JsonTest, RefusesATreeManyTimesTheFile) {
  std::string text = "[{}";
  for (int i = 0; i < 1000000; ++i) text += ",{}";
  EXPECT_NE(ErrorOf(text + "]").find("too many tiny values"), std::string::npos);
}

TEST(JsonTest, RefusesTinyValuesAmongOthers) {
  std::string text = "{\"long\":\"" + std::string(1 << 20, 'x') + "\",\"a\":[[]";
  for (int i = 0; i < 1000000; ++i) text += ",[]";
  EXPECT_NE(ErrorOf(text + "]}").find("too many tiny values"), std::string::npos);
}

TEST(JsonTest, ReadsLargeFiles) {
  constexpr int kCount = 100000;
  std::string text = "{\"array\":[[]";
  for (int i = 0; i < kCount; ++i) text += ",[\"piece" + std::to_string(i) + "\",-12.5]";
  text += "],\"object\":{\"\":{}";
  for (int i = 0; i < kCount; ++i)
    text += ",\"token" + std::to_string(i) + "\":" + std::to_string(i);
  text += "}}";
  ASSERT_GT(text.size(), 1U << 20);
  const Json json = Parsed(text);
  const std::vector<Json>& array = json.Find("array")->elements();
  ASSERT_EQ(array.size(), kCount + 1U);
  EXPECT_TRUE(array[0].elements().empty());
  EXPECT_EQ(*array[kCount].elements()[0].as_string(), "piece99999");
  EXPECT_EQ(json.Find("object")->members().size(), kCount + 1U);
  EXPECT_EQ(json.Find("object")->Find("token4711")->as_int(), 4711);
  text.resize(text.size() - 2);
  EXPECT_NE(ErrorOf(text), "");
}

TEST(JsonTest, EveryPrefixOfAFileIsRefused) {
  const std::string text = R"({"a": [1, {"b": "c\n"}, true], "d": -1.5e3})";
  for (size_t length = 0; length < text.size(); ++length) {
    EXPECT_FALSE(Json::Parse(text.substr(0, length), "test.json").ok()) << length;
  }
  EXPECT_TRUE(Json::Parse(text, "test.json").ok());
}

// The byte that is wrong, not the start of what it is in.
TEST(JsonTest, ErrorsSayWhere) {
  const std::pair<const char*, const char*> cases[] = {
      {"[\"ab\xFF\"]", "byte 4: a string that is not UTF-8"},
      {"[\"\xED\xA0\x80\"]", "byte 2: a string that is not UTF-8"},
      {"[\"\xF4\x90\x80\x80\"]", "byte 2: a string that is not UTF-8"},
      {"[\"\xC0\x80\"]", "byte 2: a string that is not UTF-8"},
      {"[1, 2 3]", "byte 6: expected , or ] in an array"},
      {"{\"a\" 1}", "byte 5: expected : behind a key"},
      {"{\"a\":1", "byte 6: expected , or } in an object"},
      {"[12, 0x10]", "byte 5: neither a value nor a number"},
      {"[] []", "byte 3: bytes after the end"},
      {"[\"a\n\"]", "byte 3: a control character in a string"},
      {"[\"\\ud83d\\u0041\"]", "a lone surrogate"},
      {"[\"\\ud83d\\", "a lone surrogate"},
      {"[\"\\ud83d\\u", "a lone surrogate"},
      {"[\"\\u00g0\"]", "\\u without four hexadecimal digits"},
      {"[\"\\", "an unknown escape"},
      {"\xEF\xBB\xBF", "byte 3: expected an object or an array"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_NE(ErrorOf(text).find(message), std::string::npos) << ErrorOf(text);
  }
  const std::string zero("[\"a\0\", 1]", 9);
  EXPECT_NE(ErrorOf(zero).find("control character"), std::string::npos);
  EXPECT_EQ(*Parsed("[\"\\u0000\\\"\\/\"]").elements()[0].as_string(), std::string("\0\"/", 3));
}

TEST(JsonTest, Moves) {
  Json json = Parsed(R"(["a"])");
  Json moved = std::move(json);
  EXPECT_EQ(*moved.elements()[0].as_string(), "a");
  moved = Parsed("{}");
  EXPECT_TRUE(moved.is_object());
}

}  // namespace
}  // namespace bertrand

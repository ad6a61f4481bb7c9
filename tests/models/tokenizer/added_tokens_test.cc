#include "models/tokenizer/added_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/status.h"
#include "models/tokenizer/tokenizer.h"

namespace bertrand {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> Split(const AddedTokens& tokens, std::string_view text) {
  std::vector<std::string> parts;
  tokens.Split(false, text, [&](const AddedMatch& m) {
    const std::string part(text.substr(m.begin, m.end - m.begin));
    parts.push_back(m.id < 0 ? part : "<" + part + ">");
  });
  return parts;
}

AddedTokens Make(const std::vector<AddedToken>& list) {
  AddedTokens tokens;
  const Vocabulary empty;
  for (const AddedToken& token : list) tokens.Add(token, empty);
  EXPECT_TRUE(tokens.Build(nullptr).ok());
  return tokens;
}

AddedToken Raw(std::string content) {
  AddedToken token;
  token.content = std::move(content);
  token.normalized = false;
  return token;
}

// White space that rstrip takes is read once, not again for each token in it.
TEST(AddedTokensTest, WhiteSpaceTakesLinearTime) {
  AddedToken newline = Raw("\n");
  newline.rstrip = true;
  const AddedTokens tokens = Make({newline});
  const std::string text = std::string(1'000'000, '\n') + "a";
  size_t num_tokens = 0, last = 0;
  tokens.Split(false, text, [&](const AddedMatch& m) {
    last = m.end;
    if (m.id < 0) return;
    ++num_tokens;
    EXPECT_EQ(m.end, text.size() - 1);
  });
  EXPECT_EQ(num_tokens, text.size() - 1);
  EXPECT_EQ(last, text.size());
}

// Nor is it for the offsets of each, which trim_offsets trims: to nothing, since all of it is white
// space, and in code points of the source, where a newline is what two letters became. Quadratic
// work would never end.
TEST(AddedTokensTest, TrimmingWhiteSpaceTakesLinearTime) {
  const auto file = [](const std::string& normalizer, const char* normalized) {
    return R"({"normalizer":)" + normalizer +
           R"(,"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,)"
           R"("use_regex":true},"decoder":null,"post_processor":{"type":"RobertaProcessing",)"
           R"("sep":["b",1],"cls":["c",2],"trim_offsets":true,"add_prefix_space":true},)"
           R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"c":2},"merges":[]},"added_tokens":[)"
           R"({"id":3,"content":"\n","rstrip":true,"special":false,"normalized":)" +
           normalized + "}]}";
  };
  const std::string replace = R"({"type":"Replace","pattern":{"String":"xy"},"content":"\n"})";
  constexpr uint32_t kCount = 1'000'000;
  for (const bool is_replaced : {false, true}) {
    const auto tokenizer = Tokenizer::FromJson(
        file(is_replaced ? replace : "null", is_replaced ? "true" : "false"), "");
    ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
    std::string text = "a";
    for (uint32_t i = 0; i < kCount; ++i) text += is_replaced ? "xy" : "\n";
    Encoding encoding;
    EncodeOptions options;
    options.want_spans = true;
    options.add_special_tokens = false;
    ASSERT_TRUE((*tokenizer)->Encode(text, nullptr, options, &encoding).ok());
    ASSERT_EQ(encoding.ids.size(), 1 + kCount);
    for (uint32_t i = 0; i < kCount; ++i) {
      const TokenSpan& span = encoding.spans[1 + i];
      // A replaced one comes from its second letter.
      const uint32_t place = 1 + kCount + (is_replaced ? i + 1 : 0);
      ASSERT_EQ(span.start, place) << i;
      ASSERT_EQ(span.end, place) << i;
      ASSERT_EQ(span.start_byte, place) << i;
      ASSERT_EQ(span.end_byte, place) << i;
    }
  }
}

TEST(AddedTokensTest, LeftmostLongest) {
  const AddedTokens tokens = Make({Raw("ab"), Raw("abcd"), Raw("bcdef"), Raw("c")});
  EXPECT_THAT(Split(tokens, "xabcdef"), ElementsAre("x", "<abcd>", "ef"));
  EXPECT_THAT(Split(tokens, "abcabcd"), ElementsAre("<ab>", "<c>", "<abcd>"));
  EXPECT_THAT(Split(tokens, "bcde"), ElementsAre("b", "<c>", "de"));
  EXPECT_THAT(Split(tokens, ""), ElementsAre());
}

TEST(AddedTokensTest, WhiteSpaceAndWords) {
  AddedToken left = Raw("<l>"), right = Raw("<r>"), word = Raw("<w>");
  left.lstrip = right.rstrip = word.single_word = true;
  const AddedTokens tokens = Make({left, right, word});
  EXPECT_THAT(Split(tokens, "a \t<l> b"), ElementsAre("a", "< \t<l>>", " b"));
  EXPECT_THAT(Split(tokens, "a <r>\u3000\nb"), ElementsAre("a ", "<<r>\u3000\n>", "b"));
  EXPECT_THAT(Split(tokens, "<r> <l>"), ElementsAre("<<r> >", "<<l>>"));
  EXPECT_THAT(Split(tokens, "a<w> <w>, <w>\u0301"), ElementsAre("a<w> ", "<<w>>", ", <w>\u0301"));
}

TEST(AddedTokensTest, IdsFollowTheVocabulary) {
  Vocabulary model;
  ASSERT_TRUE(model.Add("a", 0).ok());
  ASSERT_TRUE(model.Add("b", 1).ok());
  AddedTokens tokens;
  tokens.Add(Raw("b"), model);
  tokens.Add(Raw("new"), model);
  tokens.Add(Raw("newer"), model);
  tokens.Add(Raw(""), model);
  EXPECT_EQ(tokens.Find("b"), 1);
  EXPECT_EQ(tokens.Find("new"), 2);
  EXPECT_EQ(tokens.Find("newer"), 3);
  EXPECT_EQ(tokens.Find(""), std::nullopt);
  EXPECT_EQ(tokens.size(), 4);
}

TEST(AddedTokensTest, AnEmptyPatternIsRefused) {
  AddedTokens tokens;
  AddedToken token;
  token.content = "\u00ad";
  tokens.Add(token, Vocabulary());
  EXPECT_FALSE(tokens.Build(std::make_unique<BertNormalizer>(BertNormalizerOptions{}).get()).ok());
}

}  // namespace
}  // namespace bertrand

#include "models/tokenizer/added_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/status.h"

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
    num_tokens += m.id >= 0 ? 1 : 0;
    last = m.end;
    if (m.id >= 0) EXPECT_EQ(m.end, text.size() - 1);
  });
  EXPECT_EQ(num_tokens, text.size() - 1);
  EXPECT_EQ(last, text.size());
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

#include "models/tokenizer/wordpiece.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::unique_ptr<WordPiece> Make(const std::vector<std::string>& tokens,
                                WordPieceOptions options = {}) {
  Vocabulary vocabulary;
  for (size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_TRUE(vocabulary.Add(tokens[i], static_cast<int32_t>(i)).ok()) << tokens[i];
  }
  auto model = WordPiece::Create(std::move(vocabulary), std::move(options));
  EXPECT_TRUE(model.ok()) << Message(model.status());
  return *std::move(model);
}

struct Pieces {
  std::vector<int32_t> ids;
  std::vector<uint32_t> ends;
  bool operator==(const Pieces&) const = default;
};

Pieces Match(const WordPiece& model, std::string_view word) {
  Pieces pieces;
  pieces.ids.resize(word.size());
  pieces.ends.resize(word.size());
  const size_t count = model.Match(word, pieces.ids.data(), pieces.ends.data());
  pieces.ids.resize(count);
  pieces.ends.resize(count);
  std::vector<int32_t> ids(word.size());
  ids.resize(model.Match(word, ids.data(), nullptr));
  EXPECT_EQ(ids, pieces.ids) << word;
  // By way of the hash table, with something else behind the word.
  const std::string padded = std::string(word) + std::string(WordPiece::kWholeWordBytes, 'a');
  std::vector<uint32_t> ends(word.size());
  ids.resize(word.size());
  ids.resize(
      model.MatchPadded(std::string_view(padded).substr(0, word.size()), ids.data(), ends.data()));
  ends.resize(ids.size());
  EXPECT_EQ(ids, pieces.ids) << word;
  EXPECT_EQ(ends, pieces.ends) << word;
  return pieces;
}

// The obvious loop.
Pieces Naive(const WordPiece& model, std::string_view word) {
  Pieces pieces;
  size_t start = 0;
  while (start < word.size()) {
    size_t end = word.size();
    std::optional<int32_t> id;
    for (; end > start; end = PreviousBoundary(word, end)) {
      std::string entry(start == 0 ? "" : model.options().continuing_subword_prefix);
      entry += word.substr(start, end - start);
      if ((id = model.vocabulary().Find(entry)).has_value()) break;
    }
    if (!id.has_value()) return {};
    pieces.ids.push_back(*id);
    pieces.ends.push_back(static_cast<uint32_t>(end));
    start = end;
  }
  return pieces;
}

TEST(WordPieceTest, LongestFirst) {
  const auto model =
      Make({"[UNK]", "un", "unaff", "##aff", "##able", "##ab", "able", "##l", "##e"});
  EXPECT_THAT(Match(*model, "unaffable").ids, ElementsAre(2, 4));
  EXPECT_THAT(Match(*model, "unaffable").ends, ElementsAre(5, 9));
  EXPECT_THAT(Match(*model, "unaffabl").ids, ElementsAre(2, 5, 7));
  EXPECT_THAT(Match(*model, "unaffx").ids, IsEmpty());
  EXPECT_THAT(Match(*model, "x").ids, IsEmpty());
  EXPECT_THAT(Match(*model, "ableable").ids, ElementsAre(6, 4));
}

// No backtracking: the longest piece is taken even if what is left cannot be covered.
TEST(WordPieceTest, LongestPieceIsFinal) {
  const auto model = Make({"ab", "abc", "##cd", "##d"});
  EXPECT_THAT(Match(*model, "abcd").ids, ElementsAre(1, 3));
  const auto other = Make({"ab", "abc", "##cd"});
  EXPECT_THAT(Match(*other, "abcd").ids, IsEmpty());
}

TEST(WordPieceTest, EntriesWithThePrefixMatchAsTheyAreAtTheStart) {
  const auto model = Make({"##", "##b", "a", "ab##"});
  EXPECT_THAT(Match(*model, "##b").ids, ElementsAre(1));
  EXPECT_THAT(Match(*model, "##").ids, ElementsAre(0));
  EXPECT_THAT(Match(*model, "ab##").ids, ElementsAre(3));
  EXPECT_THAT(Match(*model, "abb").ids, ElementsAre(2, 1, 1));
}

TEST(WordPieceTest, OtherPrefixes) {
  WordPieceOptions none{"[UNK]", "", 100};
  EXPECT_THAT(Match(*Make({"a", "ab", "b"}, none), "aabb").ids, ElementsAre(0, 1, 2));
  WordPieceOptions at{"[UNK]", "@@", 100};
  EXPECT_THAT(Match(*Make({"a", "@@b", "##b"}, at), "ab").ids, ElementsAre(0, 1));
}

TEST(WordPieceTest, EmptyVocabularyMatchesNothing) {
  const auto model = Make({});
  EXPECT_THAT(Match(*model, "a").ids, IsEmpty());
  EXPECT_EQ(model->unk_id(), std::nullopt);
}

// The automaton equals the obvious loop, on vocabularies made to need long failure chains.
TEST(WordPieceTest, EqualsTheObviousLoop) {
  std::mt19937 random(3);
  const std::vector<std::string> letters = {"a", "b", "\xC3\xA9", "\xC3\xA8", "\xE4\xB8\xAD", "#"};
  const auto word = [&](size_t alphabet, size_t length) {
    std::string text;
    for (size_t i = 0; i < length; ++i) text += letters[random() % alphabet];
    return text;
  };
  size_t covered = 0;
  for (int round = 0; round < 400; ++round) {
    const size_t alphabet = 1 + random() % letters.size();
    const std::string prefix = round % 5 == 0 ? "" : round % 7 == 0 ? "#" : "##";
    Vocabulary vocabulary;
    int32_t id = 0;
    const auto add = [&](const std::string& token) {
      if (vocabulary.Find(token).has_value()) return;
      EXPECT_TRUE(vocabulary.Add(token, id++).ok());
    };
    for (size_t i = 0; i < alphabet; ++i) {
      if (random() % 8 != 0) add(prefix + letters[i]);
      if (random() % 8 != 0) add(letters[i]);
    }
    for (int i = 0; i < 40; ++i) {
      add((random() % 2 ? prefix : std::string()) + word(alphabet, 1 + random() % 7));
    }
    const auto model = WordPiece::Create(std::move(vocabulary), {"[UNK]", prefix, 100});
    ASSERT_TRUE(model.ok());
    for (int i = 0; i < 200; ++i) {
      const std::string text = word(alphabet, 1 + random() % 20);
      const Pieces pieces = Match(**model, text);
      ASSERT_EQ(pieces, Naive(**model, text)) << text;
      covered += !pieces.ids.empty();
    }
  }
  EXPECT_GT(covered, 10000u);
}

// Without failure links this vocabulary and word take a hundred steps a letter.
TEST(WordPieceTest, HostileVocabulary) {
  std::vector<std::string> tokens = {"[UNK]", "a", "##a"};
  const std::string run(99, 'a');
  tokens.push_back(run + "b");
  tokens.push_back("##" + run + "b");
  const auto model = Make(tokens);
  EXPECT_EQ(Match(*model, std::string(100, 'a')).ids.size(), 100u);
  EXPECT_THAT(Match(*model, run + "b").ids, ElementsAre(3));
}

TEST(WordPieceTest, EntriesThatTakeTooMuchMemoryAreRefused) {
  for (const auto& [size, reason] :
       {std::make_pair(60'000, "repeat each other"), std::make_pair(100'000, "share too little")}) {
    WordPieceOptions options;
    options.max_input_chars_per_word = 1 << 30;
    Vocabulary vocabulary;
    ASSERT_TRUE(vocabulary.Add("a", 0).ok());
    ASSERT_TRUE(vocabulary.Add("##a", 1).ok());
    ASSERT_TRUE(vocabulary.Add(std::string(static_cast<size_t>(size), 'a') + "b", 2).ok());
    const auto model = WordPiece::Create(std::move(vocabulary), options);
    ASSERT_FALSE(model.ok());
    EXPECT_THAT(Message(model.status()), ::testing::HasSubstr(reason));
  }
}

TEST(VocabularyTest, RefusesDuplicates) {
  Vocabulary vocabulary;
  EXPECT_TRUE(vocabulary.Add("a", 5).ok());
  EXPECT_FALSE(vocabulary.Add("b", 5).ok());
  EXPECT_FALSE(vocabulary.Add("a", 6).ok());
  EXPECT_EQ(vocabulary.size(), 6);
  EXPECT_EQ(vocabulary.num_tokens(), 1);
  EXPECT_EQ(vocabulary.Text(4), "");
  EXPECT_EQ(vocabulary.Text(-1), "");
  EXPECT_EQ(vocabulary.Text(6), "");
}

TEST(VocabularyTest, Text) {
  const auto vocabulary = ParseVocabText("a\r\nb\rc\n\na");
  ASSERT_TRUE(vocabulary.ok());
  EXPECT_EQ(vocabulary->Find("a"), 4);
  EXPECT_EQ(vocabulary->Find("b"), 1);
  EXPECT_EQ(vocabulary->Find("c"), 2);
  EXPECT_EQ(vocabulary->Find(""), 3);
  EXPECT_FALSE(vocabulary->Has(0));
  EXPECT_FALSE(ParseVocabText("a\nb\xFF").ok());
}

}  // namespace
}  // namespace bertrand

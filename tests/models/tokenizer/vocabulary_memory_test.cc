// vocab.txt, spiece.model, vocab.json with merges.txt and the files of added tokens, made to hurt:
// a million of the tiniest tokens. They load or are refused by a clear line, and take at most ten
// times their size and the fixed amount of memory_bound.h.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <unordered_set>
#include <vector>

#include "kernels/status.h"
#include "models/tokenizer/bpe.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"
#include "tests/fuzz/counted_memory.h"
#include "tests/models/test_folder.h"

namespace bertrand {
namespace {

using ::testing::HasSubstr;
using Random = std::mt19937_64;
using Tokens = std::vector<std::string>;

constexpr size_t kFreeBytes = 32 << 20, kExpansionMax = 10;

std::string Letters(Random& random, size_t count, char32_t first, uint32_t last) {
  std::string text;
  while (count-- > 0) {
    AppendUtf8(first + static_cast<char32_t>(random() % (last - first)), &text);
  }
  return text;
}
// Neither a quotation mark nor a backslash, as JSON has them.
std::string Ascii(Random& random, size_t count) { return Letters(random, count, U'a', 0x7F); }
std::string Chinese(Random& random, size_t count) { return Letters(random, count, 0x3400, 0x9FFF); }

Tokens Distinct(size_t count, const std::function<std::string(Random&)>& make) {
  Random random(1);
  std::unordered_set<std::string> seen;
  Tokens tokens;
  while (tokens.size() < count) {
    std::string token = make(random);
    if (seen.insert(token).second) tokens.push_back(std::move(token));
  }
  return tokens;
}

struct Case {
  const char* name;
  Tokens tokens;
};
std::vector<Case> MakeCases() {
  std::vector<Case> cases;
  const auto add = [&cases](const char* name, size_t count, auto make) {
    cases.push_back({name, Distinct(count, make)});
  };
  add("three letters", 10'000, [](Random& r) { return Ascii(r, 3); });
  add("four letters", 200'000, [](Random& r) { return Ascii(r, 4); });
  add("six letters", 200'000, [](Random& r) { return Ascii(r, 6); });
  add("continuations", 200'000, [](Random& r) { return "##" + Ascii(r, 4); });
  add("one character", 25'000, [](Random& r) { return Chinese(r, 1); });
  add("two characters", 250'000, [](Random& r) { return Chinese(r, 2); });
  add("three characters", 200'000, [](Random& r) { return Chinese(r, 3); });
  add("sixteen letters", 60'000, [](Random& r) { return Ascii(r, 16); });
  // Each state of the automaton has a list of many tokens.
  Tokens pairs = {"a", "b", "##a", "##b"};
  const Tokens words = Distinct(100'000, [](Random& r) {
    std::string word;
    while (word.size() < 20) word += r() % 2 == 0 ? 'a' : 'b';
    return word;
  });
  pairs.insert(pairs.end(), words.begin(), words.end());
  cases.push_back({"lists", std::move(pairs)});
  return cases;
}

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = MakeCases();
  return cases;
}

// What comes of the folder, "" where it loads.
std::string Outcome(const TestFolder& folder, size_t bytes) {
  const CountedMemory memory;
  const auto tokenizer = Tokenizer::Load(folder.path());
  EXPECT_LE(memory.peak_bytes(), kExpansionMax * bytes + kFreeBytes) << bytes;
  return tokenizer.ok() ? "" : Message(tokenizer.status());
}

constexpr const char* kRefusals =
    "would take [0-9]+ bytes; more than|share too little|repeat each other too often";

std::string OutcomeOfText(const Tokens& tokens) {
  std::string text = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (const std::string& token : tokens) text += token + "\n";
  const TestFolder folder;
  folder.Write("vocab.txt", text);
  folder.Write("config.json", R"({"model_type":"bert"})");
  return Outcome(folder, text.size());
}

TEST(VocabularyMemoryTest, VocabText) {
  size_t loaded = 0;
  for (const auto& [name, tokens] : Cases()) {
    SCOPED_TRACE(name);
    const std::string outcome = OutcomeOfText(tokens);
    loaded += outcome.empty();
    EXPECT_THAT(outcome, ::testing::AnyOf("", ::testing::ContainsRegex(kRefusals)));
  }
  EXPECT_GE(loaded, 2u);
  EXPECT_EQ(OutcomeOfText(Tokens(3'000'000, "")), "");
  EXPECT_EQ(OutcomeOfText(Tokens(2'000'000, "a")), "");
  EXPECT_EQ(OutcomeOfText(Tokens(1'000'000, "abc")), "");
}

std::string OutcomeOfPieces(const Tokens& tokens, char type) {
  std::string file;
  const auto add = [&file](const std::string& text, char piece_type) {
    std::string piece = std::string("\x0A") + static_cast<char>(text.size()) + text;
    if (piece_type != 1) piece += std::string("\x18") + piece_type;
    file += std::string("\x0A") + static_cast<char>(piece.size()) + piece;
  };
  add("<unk>", 2);
  for (const char* text : {"[CLS]", "[SEP]", "<pad>", "[MASK]"}) add(text, 3);
  for (const std::string& token : tokens) add(token, type);
  const TestFolder folder;
  folder.Write("spiece.model", file);
  folder.Write("config.json", R"({"model_type":"albert"})");
  return Outcome(folder, file.size());
}

TEST(VocabularyMemoryTest, SentencePiece) {
  size_t loaded = 0;
  for (const auto& [name, tokens] : Cases()) {
    SCOPED_TRACE(name);
    const std::string outcome = OutcomeOfPieces(tokens, 1);
    loaded += outcome.empty();
    EXPECT_THAT(outcome, ::testing::AnyOf("", ::testing::ContainsRegex(kRefusals)));
    EXPECT_THAT(OutcomeOfPieces(tokens, 4), ::testing::AnyOf("", HasSubstr("pieces: its tables")));
  }
  EXPECT_GE(loaded, 2u);
  EXPECT_THAT(OutcomeOfPieces(Tokens(3'000'000, ""), 1), HasSubstr("piece 5 is empty"));
  (void)OutcomeOfPieces(Tokens(2'000'000, "a"), 1);
  (void)OutcomeOfPieces(Tokens(1'000'000, "abc"), 1);
}

TEST(VocabularyMemoryTest, Merges) {
  for (const auto& [name, tokens] : Cases()) {
    SCOPED_TRACE(name);
    // All ways to merge the first tokens from two parts.
    std::unordered_set<std::string> parts(tokens.begin(), tokens.end());
    std::string merges = "#version: 0.2\n";
    for (size_t i = 0; i < std::min<size_t>(tokens.size(), 5'000); ++i) {
      const std::string& token = tokens[i];
      for (size_t at = 1; at < token.size(); ++at) {
        if ((static_cast<unsigned char>(token[at]) & 0xC0) == 0x80) continue;
        merges += token.substr(0, at) + " " + token.substr(at) + "\n";
        parts.insert(token.substr(0, at));
        parts.insert(token.substr(at));
      }
    }
    std::string vocabulary = R"({"<s>":0,"</s>":1,"<unk>":2,"<pad>":3,"<mask>":4)";
    size_t id = 5;
    for (const std::string& part : parts) vocabulary += ",\"" + part + "\":" + std::to_string(id++);
    vocabulary += "}";
    const TestFolder folder;
    folder.Write("vocab.json", vocabulary);
    folder.Write("merges.txt", merges);
    folder.Write("config.json", R"({"model_type":"roberta"})");
    EXPECT_THAT(Outcome(folder, vocabulary.size() + merges.size()),
                ::testing::AnyOf("", ::testing::ContainsRegex(kRefusals)));
  }
}

// What is refused by an estimate is refused rightly: Bpe takes that much at most, and not far less.
TEST(VocabularyMemoryTest, BpeTables) {
  for (const size_t num_merges : {100, 20'000, 60'000, 150'000}) {
    Random random(5);
    Vocabulary vocabulary;
    std::vector<std::string> tokens;
    size_t text_bytes = 0;
    const auto add = [&](const std::string& token) {
      if (vocabulary.Find(token).has_value()) return false;
      EXPECT_TRUE(vocabulary.Add(token, static_cast<int32_t>(tokens.size())).ok());
      tokens.push_back(token);
      text_bytes += token.size();
      return true;
    };
    for (unsigned byte = 0; byte < 256; ++byte) {
      std::string token;
      AppendUtf8(ByteLevelCharacter(static_cast<unsigned char>(byte)), &token);
      add(token);
    }
    Bpe::MergeList merges;
    while (merges.size() < num_merges) {
      const std::string left = tokens[random() % tokens.size()];
      const std::string right = tokens[random() % std::min<size_t>(tokens.size(), 256)];
      if (left.size() < 12 && add(left + right)) merges.emplace_back(left, right);
    }
    const size_t most = Bpe::TableBytes(tokens.size(), text_bytes, num_merges);
    BpeOptions options;
    options.byte_level = true;
    const CountedMemory memory;
    const auto model = Bpe::Create(std::move(vocabulary), merges, options);
    const size_t peak = memory.peak_bytes();
    ASSERT_TRUE(model.ok()) << Message(model.status());
    EXPECT_LE(peak, most) << num_merges;
    EXPECT_GE(peak, most / 3) << num_merges;
  }
}

TEST(VocabularyMemoryTest, AddedTokens) {
  const Tokens tokens = Distinct(300'000, [](Random& r) { return Ascii(r, 4); });
  std::string added, special;
  for (size_t i = 0; i < tokens.size(); ++i) {
    added += (i == 0 ? "\"" : ",\"") + tokens[i] + "\":" + std::to_string(i + 5);
    special += (i == 0 ? "\"" : ",\"") + tokens[i] + "\"";
  }
  const std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (const bool is_special : {false, true}) {
    const TestFolder folder;
    folder.Write("vocab.txt", vocabulary);
    folder.Write("config.json", R"({"model_type":"bert"})");
    const std::string file =
        is_special ? R"({"additional_special_tokens":[)" + special + "]}" : "{" + added + "}";
    folder.Write(is_special ? "special_tokens_map.json" : "added_tokens.json", file);
    EXPECT_THAT(Outcome(folder, file.size() + vocabulary.size()), HasSubstr("300000 tokens"));
  }
}

}  // namespace
}  // namespace bertrand

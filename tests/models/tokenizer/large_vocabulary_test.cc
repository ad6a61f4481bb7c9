// Vocabularies of the sizes of XLM-R (250,000 pieces), multilingual BERT (120,000) and RoBERTa
// (50,000), made up of several scripts: they load, each token finds itself, and the memory that it
// takes is within the bound that hostile files are held to.

#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <random>
#include <string>
#include <unordered_set>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"
#include "tests/fuzz/counted_memory.h"
#include "tests/models/test_folder.h"
#include "tests/models/tokenizer/test_data.h"

namespace bertrand {
namespace {

// Letters of a script, the share of its words in percent, and how long they are at most.
struct Script {
  char32_t first;
  uint32_t count;
  int percent;
  size_t letters_max;
};
constexpr Script kScripts[] = {
    {U'a', 26, 38, 11}, {0xE0, 32, 8, 8},     {0x430, 32, 14, 9},    {0x627, 36, 8, 7},
    {0x905, 53, 5, 6},  {0xE01, 48, 3, 7},    {0x4E00, 6000, 14, 3}, {0xAC00, 2000, 6, 4},
    {0x3042, 82, 3, 5}, {0x1F300, 700, 1, 2},
};

// Distinct words; every letter is one of them. Most are another one and some letters more, so that
// they share what real ones do: in BERT's vocabulary a trie has 2.4 states for each.
class Words {
 public:
  explicit Words(uint64_t seed) : random_(seed) {
    for (const Script& script : kScripts) {
      for (uint32_t i = 0; i < script.count; ++i) {
        std::string letter;
        AppendUtf8(script.first + i, &letter);
        Add(letter);
      }
    }
  }

  const std::vector<std::string>& Take(size_t count, const std::string& prefix) {
    while (words_.size() < count) {
      auto at = static_cast<int>(random_() % 100);
      const Script* script = kScripts;
      while (at >= script->percent) at -= (script++)->percent;
      std::vector<std::string>& stems = stems_[static_cast<size_t>(script - kScripts)];
      const bool is_new = stems.empty() || random_() % 5 == 0;
      std::string word = is_new ? "" : stems[random_() % stems.size()];
      for (uint64_t i = is_new ? 2 : 1 + (random_() % 4 == 0); i > 0; --i) {
        AppendUtf8(script->first + static_cast<char32_t>(random_() % script->count), &word);
      }
      if (CountCodePoints(word) > script->letters_max) continue;
      stems.push_back(word);
      Add(random_() % 3 == 0 ? prefix + word : word);
    }
    return words_;
  }

 private:
  void Add(const std::string& word) {
    if (seen_.insert(word).second) words_.push_back(word);
  }
  std::mt19937_64 random_;
  std::vector<std::string> words_;
  std::vector<std::string> stems_[std::size(kScripts)];
  std::unordered_set<std::string> seen_;
};

std::unique_ptr<Tokenizer> LoadWithin(const std::string& file) {
  const std::clock_t start = std::clock();
  const CountedMemory memory;
  auto tokenizer = Tokenizer::FromJson(file, "");
  const size_t peak = memory.peak_bytes();
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  EXPECT_LE(peak, 10 * file.size() + (4u << 20));
  std::printf("%.1f MB, %.2f s, %.1f times as much memory\n",
              static_cast<double>(file.size()) / 1e6, seconds,
              static_cast<double>(peak) / static_cast<double>(file.size()));
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::vector<int32_t> Encoded(const Tokenizer& tokenizer, std::string_view text) {
  Encoding encoding;
  EncodeOptions options;
  options.add_special_tokens = false;
  EXPECT_TRUE(tokenizer.Encode(text, nullptr, options, &encoding).ok());
  return encoding.ids;
}

TEST(LargeVocabularyTest, UnigramAsXlmRs) {
  Words made(1);
  const std::vector<std::string>& words = made.Take(250'000, "\u2581");
  std::string file = R"({"normalizer":{"type":"NFC"},"pre_tokenizer":null,"decoder":null,)"
                     R"("model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0.0])";
  for (size_t i = 0; i < words.size(); ++i) {
    file += ",[\"" + words[i] + "\",-" + std::to_string(5 + 1e-5 * static_cast<double>(i)) +
            "382763671875]";
  }
  file += "]}}";
  const auto tokenizer = LoadWithin(file);
  ASSERT_NE(tokenizer, nullptr);
  // Alone, a word is its own best path, or two shorter ones score no better than its half.
  for (size_t i = 0; i < words.size(); i += 997) {
    EXPECT_EQ(Encoded(*tokenizer, words[i]), std::vector<int32_t>{static_cast<int32_t>(i) + 1})
        << words[i];
  }
  // Pretty-printed, as `tokenizers` saves it.
  std::string pretty;
  for (const char c : file) {
    pretty += c;
    if (c == '[' || c == ',') pretty += "\n        ";
  }
  EXPECT_NE(LoadWithin(pretty), nullptr);
}

TEST(LargeVocabularyTest, WordPieceAsMultilingualBerts) {
  Words made(2);
  const std::vector<std::string>& words = made.Take(119'000, "##");
  std::string file = R"({"normalizer":null,"pre_tokenizer":{"type":"WhitespaceSplit"},)"
                     R"("decoder":null,"model":{"type":"WordPiece","unk_token":"[UNK]",)"
                     R"("continuing_subword_prefix":"##","max_input_chars_per_word":100,)"
                     R"("vocab":{"[UNK]":0)";
  for (size_t i = 0; i < words.size(); ++i) {
    file += ",\"" + words[i] + "\":" + std::to_string(i + 1);
  }
  file += "}}}";
  const auto tokenizer = LoadWithin(file);
  ASSERT_NE(tokenizer, nullptr);
  for (size_t i = 0; i < words.size(); i += 997) {
    if (words[i].starts_with("##")) continue;
    EXPECT_EQ(Encoded(*tokenizer, words[i]), std::vector<int32_t>{static_cast<int32_t>(i) + 1})
        << words[i];
  }
}

// The files of before tokenizer.json say less about a token than that, so the fixed amount that is
// allowed beside ten times their size counts: LaBSE's 500,000 words are the most there are.
std::unique_ptr<Tokenizer> LoadFileWithin(const std::string& model_type, const std::string& name,
                                          const std::string& file) {
  TestFolder folder;
  folder.Write("config.json", R"({"model_type":")" + model_type + "\"}");
  folder.Write(name, file);
  const CountedMemory memory;
  auto tokenizer = Tokenizer::Load(folder.path());
  EXPECT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  EXPECT_LE(memory.peak_bytes(), 10 * file.size() + (32u << 20));
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

TEST(LargeVocabularyTest, VocabText) {
  for (const size_t count : {119'000, 500'000}) {
    Words made(4);
    const std::vector<std::string>& words = made.Take(count, "##");
    std::string file = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (const std::string& word : words) file += word + "\n";
    const auto tokenizer = LoadFileWithin("bert", "vocab.txt", file);
    ASSERT_NE(tokenizer, nullptr);
    for (size_t i = 0; i < count; i += 997) {
      EXPECT_EQ(tokenizer->TokenId(words[i]), static_cast<int32_t>(i) + 5);
    }
    EXPECT_EQ(Encoded(*tokenizer, "b"), std::vector<int32_t>{6});
  }
}

TEST(LargeVocabularyTest, SentencePieceAsXlmRs) {
  Words made(1);
  const std::vector<std::string>& words = made.Take(250'000, "\u2581");
  std::string file;
  float score = 0;
  const auto add = [&](const std::string& text, char type) {
    std::string score_bytes(sizeof(score), 0);
    std::memcpy(score_bytes.data(), &score, sizeof(score));
    const std::string piece = std::string("\x0A") + static_cast<char>(text.size()) + text + "\x15" +
                              score_bytes + "\x18" + type;
    file += std::string("\x0A") + static_cast<char>(piece.size()) + piece;
    score -= 1e-4f;
  };
  add("<unk>", 2);
  add("<s>", 3);
  add("</s>", 3);
  for (const std::string& word : words) add(word, 1);
  const auto tokenizer = LoadFileWithin("xlm-roberta", "sentencepiece.bpe.model", file);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->TokenId(words[1000]), 1004);
  EXPECT_EQ(tokenizer->vocab_size(), 250'005);
}

TEST(LargeVocabularyTest, ByteLevelBpeAsRobertas) {
  constexpr size_t kCount = 50'000;
  std::mt19937_64 random(3);
  std::vector<std::string> tokens, merges;
  std::unordered_set<std::string> seen;
  // The bytes' characters that stand for themselves are enough.
  for (char32_t c = 0x21; c < 0x17F; ++c) {
    std::string letter;
    AppendUtf8(c, &letter);
    if (c != U'"' && c != U'\\' && c != 0x7F) tokens.push_back(letter);
  }
  while (tokens.size() < kCount) {
    const std::string& left = tokens[random() % tokens.size()];
    const std::string& right = tokens[random() % std::min<size_t>(tokens.size(), 3000)];
    const std::string whole = left + right;
    if (whole.size() > 14 || !seen.insert(whole).second) continue;
    merges.push_back("\"" + left + " " + right + "\"");
    tokens.push_back(whole);
  }
  const auto write = [&](bool as_pairs) {
    std::string file = R"({"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,)"
                       R"("trim_offsets":true,"use_regex":true},"decoder":{"type":"ByteLevel"},)"
                       R"("model":{"type":"BPE","vocab":{)";
    for (size_t i = 0; i < tokens.size(); ++i) {
      file += (i == 0 ? "\"" : ",\"") + tokens[i] + "\":" + std::to_string(i);
    }
    file += "},\"merges\":[";
    for (size_t i = 0; i < merges.size(); ++i) {
      std::string merge = merges[i];
      if (as_pairs) merge = "[" + merge.replace(merge.find(' '), 1, "\",\"") + "]";
      file += (i == 0 ? "" : ",") + merge;
    }
    return file + "]}}";
  };
  for (const bool as_pairs : {false, true}) {
    const auto tokenizer = LoadWithin(write(as_pairs));
    ASSERT_NE(tokenizer, nullptr);
    EXPECT_EQ(tokenizer->vocab_size(), static_cast<int64_t>(kCount));
    for (uint32_t id = 0; id < kCount; id += 997) {
      const uint32_t ids[] = {id};
      const absl::StatusOr<std::string> text = tokenizer->Decode(ids, false);
      ASSERT_TRUE(text.ok());
      EXPECT_FALSE(Encoded(*tokenizer, *text).empty());
    }
  }
}

}  // namespace
}  // namespace bertrand

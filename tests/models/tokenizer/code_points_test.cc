// Every code point in several contexts: blocks of 256 (or 4096) are compared by a checksum of ids,
// spans and special masks with what `tokenizers` gave (make_expected.py). tokenizer_fuzz.py
// --code-points shows the difference in a block that fails. Then texts as long as they come.

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "models/tokenizer/pipeline.h"
#include "models/tokenizer/sentence_piece.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"
#include "tests/models/tokenizer/test_data.h"

namespace bertrand {
namespace {

// CRC-32 as zlib's.
class Crc32 {
 public:
  Crc32() {
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? 0xEDB88320u ^ value >> 1 : value >> 1;
      table_[i] = value;
    }
  }
  void Add(uint32_t number) {
    for (int shift = 0; shift < 32; shift += 8) {
      value_ = table_[(value_ ^ number >> shift) & 0xFF] ^ value_ >> 8;
    }
  }
  uint32_t value() const { return ~value_; }

 private:
  std::array<uint32_t, 256> table_;
  uint32_t value_ = ~0u;
};

struct Options {
  const char* name;
  const char* normalizer;
};
const Options kOptions[] = {
    {"chars_uncased",
     R"("clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true)"},
    {"chars_cased",
     R"("clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": false)"},
    {"chars_strip_only",
     R"("clean_text": false, "handle_chinese_chars": false, "strip_accents": true, "lowercase": false)"},
    {"chars_lower_accents",
     R"("clean_text": true, "handle_chinese_chars": false, "strip_accents": false, "lowercase": true)"},
    {"chars_no_clean",
     R"("clean_text": false, "handle_chinese_chars": true, "strip_accents": true, "lowercase": true)"},
};

// make_tokenizers.py's char_tokenizers.
std::string CharTokenizer(const char* normalizer) {
  std::string vocabulary;
  int id = 0;
  const auto add = [&](const std::string& token) {
    std::string escaped;
    for (const char c : token) {
      if (static_cast<unsigned char>(c) < 0x20) {
        char unit[8];
        std::snprintf(unit, sizeof(unit), "\\u%04x", static_cast<unsigned>(c));
        escaped += unit;
        continue;
      }
      if (c == '"' || c == '\\') escaped += '\\';
      escaped += c;
    }
    vocabulary.append(id == 0 ? "\"" : ", \"").append(escaped).append("\": ");
    vocabulary += std::to_string(id++);
  };
  for (const char* special : {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}) add(special);
  std::istringstream codes(ReadData("characters.txt"));
  uint32_t code;
  while (codes >> std::hex >> code) {
    std::string character;
    AppendUtf8(code, &character);
    add(character);
    add("##" + character);
  }
  return R"({"normalizer": {"type": "BertNormalizer", )" + std::string(normalizer) +
         R"(}, "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": null, "post_processor":
         {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}, "model": {"type":
         "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
         "max_input_chars_per_word": 100, "vocab": {)" +
         vocabulary + "}}}";
}

// make_expected.py's texts_of_code_point.
std::string TextOf(char32_t c) {
  std::string x;
  AppendUtf8(c, &x);
  return x + " a" + x + "B e\u0301" + x + "\u302e\u0323d";
}

uint32_t BlockChecksum(const Tokenizer& tokenizer, char32_t start, char32_t size,
                       Encoding* encoding) {
  EncodeOptions options;
  options.want_spans = true;
  Crc32 crc;
  for (char32_t c = start; c < start + size; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    EXPECT_TRUE(tokenizer.Encode(TextOf(c), nullptr, options, encoding).ok());
    crc.Add(static_cast<uint32_t>(encoding->ids.size()));
    for (size_t i = 0; i < encoding->ids.size(); ++i) {
      crc.Add(static_cast<uint32_t>(encoding->ids[i]));
      crc.Add(encoding->spans[i].start);
      crc.Add(encoding->spans[i].end);
      crc.Add(encoding->special[i]);
    }
  }
  return crc.value();
}

void ExpectHashes(const Tokenizer& tokenizer, const std::string& name, const std::string& what,
                  char32_t block = 256) {
  std::istringstream expected(ReadData(name + ".crc"));
  Encoding encoding;
  for (char32_t start = 0; start < 0x110000; start += block) {
    uint32_t checksum;
    ASSERT_TRUE(expected >> std::hex >> checksum);
    if (start >= 0xD800 && start + block <= 0xE000) continue;
    EXPECT_EQ(BlockChecksum(tokenizer, start, block, &encoding), checksum)
        << "U+" << std::hex << static_cast<uint32_t>(start) << std::dec << " and the " << block - 1
        << " that follow; " << what;
  }
}

constexpr char32_t kLargeBlock = 4096;

class CodePointsTest : public testing::TestWithParam<Options> {};

TEST_P(CodePointsTest, EqualTokenizers) {
  for (const bool short_way : {true, false}) {
    auto parts = PartsFromJson(CharTokenizer(GetParam().normalizer), "");
    ASSERT_TRUE(parts.ok()) << Message(parts.status());
    const auto tokenizer = Pipeline::Create(*std::move(parts), short_way);
    ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
    ExpectHashes(**tokenizer, GetParam().name, short_way ? "BertSplitter" : "step by step");
  }
}

INSTANTIATE_TEST_SUITE_P(All, CodePointsTest, testing::ValuesIn(kOptions),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(ModelCodePointsTest, EqualTokenizers) {
  for (const char* name : {"bpe_prefix", "unigram_spaces"}) {
    for (const bool short_way : {true, false}) {
      auto parts = PartsFromJson(ReadData("tokenizers/" + std::string(name) + ".json"), "");
      ASSERT_TRUE(parts.ok()) << Message(parts.status());
      const auto tokenizer = Pipeline::Create(*std::move(parts), short_way);
      ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
      ExpectHashes(**tokenizer, name, name);
    }
  }
}

// SentencePiece's own charsmap, nmt_nfkc, alone, and behind XLNet's and ALBERT's normalisers.
TEST(SentencePieceCodePointsTest, EqualTokenizers) {
  const std::tuple<const char*, const char*, const char*, char32_t> cases[] = {
      {"xlm_roberta_slow", "sentencepiece.bpe.model", "xlm-roberta", 256},
      {"camembert_slow", "sentencepiece.bpe.model", "camembert", kLargeBlock},
      {"xlnet_slow", "spiece.model", "xlnet", 256},
      {"albert_slow", "spiece.model", "albert", kLargeBlock},
  };
  for (const auto& [name, file, model_type, block] : cases) {
    const std::string folder = testing::TempDir() + "/code_points_" + name;
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/" + file, std::ios::binary) << ReadData("trained/unigram.model");
    std::ofstream(folder + "/config.json") << R"({"model_type": ")" << model_type << "\"}";
    const auto tokenizer = Tokenizer::Load(folder);
    ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
    ExpectHashes(**tokenizer, name, name, block);
    std::filesystem::remove_all(folder);
  }
}

// The same from the tokenizer.json that transformers saves of them.
TEST(SavedCodePointsTest, EqualTokenizers) {
  const auto model = ParseSentencePieceModel(ReadData("trained/unigram.model"));
  ASSERT_TRUE(model.ok()) << Message(model.status());
  for (const char* name : {"albert_slow", "camembert_slow"}) {
    std::string json = ReadData(std::string(name) + ".json");
    const std::string placeholder = "@charsmap";
    ASSERT_NE(json.find(placeholder), std::string::npos);
    json.replace(json.find(placeholder), placeholder.size(), Base64(model->precompiled_charsmap));
    const auto tokenizer = Tokenizer::FromJson(json, "");
    ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
    ExpectHashes(**tokenizer, name, std::string(name) + ".json", kLargeBlock);
  }
}

// Ten megabytes of one thing. Quadratic work anywhere would never end.
TEST(LongTextsTest, TakeLinearTime) {
  const auto tokenizer = Tokenizer::FromJson(CharTokenizer(kOptions[0].normalizer), "");
  ASSERT_TRUE(tokenizer.ok());
  constexpr size_t kBytes = 10'000'000;
  const std::pair<std::string, int64_t> cases[] = {
      {"a", 1},           {" ", 0},        {".", kBytes},       {"\u0301", 0},
      {"\u302e", 1},      {"\u4e00", -1},  {"\u00ad", 0},       {"[", kBytes},
      {"[SE", -1},        {"a\u0301", 1},  {"\u302e\u0323", 1}, {"\uac01", 1},
      {"a ", kBytes / 2}, {"\u00e9 ", -1},
  };
  Encoding encoding;
  for (const auto& [unit, tokens] : cases) {
    SCOPED_TRACE(unit);
    std::string text;
    while (text.size() + unit.size() <= kBytes) text += unit;
    for (const bool want_spans : {false, true}) {
      EncodeOptions options;
      options.want_spans = want_spans;
      options.add_special_tokens = false;
      ASSERT_TRUE((*tokenizer)->Encode(text, nullptr, options, &encoding).ok());
      if (tokens >= 0) {
        EXPECT_EQ(static_cast<int64_t>(encoding.ids.size()), tokens);
      }
      if (want_spans && !encoding.spans.empty()) {
        EXPECT_LE(encoding.spans.back().end_byte, text.size());
      }
    }
  }
}

// The same of the other models; their words are as long as the text.
TEST(LongTextsTest, TakeLinearTimeInOtherModels) {
  constexpr size_t kBytes = 10'000'000;
  Encoding encoding;
  for (const char* name : {"bpe_prefix", "bpe_no_regex", "unigram", "unigram_unsplit"}) {
    const auto tokenizer =
        Tokenizer::FromJson(ReadData("tokenizers/" + std::string(name) + ".json"), "");
    ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
    for (const char* unit : {"a", " ", "\u0301", "the", "1,", "\u4e2d", "<mask> ", "[SE", "'"}) {
      SCOPED_TRACE(std::string(name) + " " + unit);
      std::string text;
      while (text.size() < kBytes) text += unit;
      EncodeOptions options;
      ASSERT_TRUE((*tokenizer)->Encode(text, nullptr, options, &encoding).ok());
      EXPECT_LE(encoding.ids.size(), 3 * text.size());
    }
  }
}

}  // namespace
}  // namespace bertrand

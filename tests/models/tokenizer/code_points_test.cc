// Every code point in several contexts: blocks of 256 (or 4096) are compared by a checksum of ids,
// spans and special masks with what `tokenizers` gave (make_expected.py). tokenizer_fuzz.py
// --code-points shows the difference in a block that fails. Then texts as long as they come.

#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>

#include "models/tokenizer/pipeline.h"
#include "models/tokenizer/sentence_piece.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"
#include "tests/models/tokenizer/test_data.h"

namespace bertrand {
namespace {

// CRC-32 as zlib's, of numbers of four bytes, a table for each.
class Crc32 {
 public:
  void Add(uint32_t number) {
    const uint32_t x = value_ ^ number;
    value_ = kTables[3][x & 0xFF] ^ kTables[2][x >> 8 & 0xFF] ^ kTables[1][x >> 16 & 0xFF] ^
             kTables[0][x >> 24];
  }
  uint32_t value() const { return ~value_; }

 private:
  using Tables = std::array<std::array<uint32_t, 256>, 4>;
  // kTables[k][byte]: of that byte and k bytes of 0 behind it.
  static constexpr Tables kTables = [] {
    Tables tables{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value & 1 ? 0xEDB88320u ^ value >> 1 : value >> 1;
      tables[0][i] = value;
    }
    for (size_t k = 1; k < 4; ++k) {
      for (uint32_t i = 0; i < 256; ++i) {
        const uint32_t before = tables[k - 1][i];
        tables[k][i] = tables[0][before & 0xFF] ^ before >> 8;
      }
    }
    return tables;
  }();

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
void MakeTextOf(char32_t c, std::string* text) {
  std::array<char, 4> bytes{};
  text->clear();
  AppendUtf8(c, text);
  const std::string_view x(bytes.data(), text->copy(bytes.data(), bytes.size()));
  text->append(" a").append(x).append("B e\u0301").append(x).append("\u302e\u0323d");
}

// 10 MB of one thing.
std::string Repeated(std::string_view unit, size_t size) {
  std::string text(unit);
  while (2 * text.size() <= size) text += text;
  while (text.size() + unit.size() <= size) text += unit;
  return text;
}

uint32_t BlockChecksum(const Tokenizer& tokenizer, char32_t start, char32_t size,
                       Encoding* encoding) {
  EncodeOptions options;
  options.want_spans = true;
  Crc32 crc;
  std::string text;
  for (char32_t c = start; c < start + size; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    MakeTextOf(c, &text);
    const absl::Status status = tokenizer.Encode(text, nullptr, options, encoding);
    if (!status.ok()) ADD_FAILURE() << status;
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
    const std::string text = Repeated(unit, kBytes);
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
  std::map<std::string, std::unique_ptr<Tokenizer>> tokenizers;
  for (const char* name : {"bpe_prefix", "bpe_no_regex", "unigram", "unigram_unsplit"}) {
    auto tokenizer = Tokenizer::FromJson(ReadData("tokenizers/" + std::string(name) + ".json"), "");
    ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
    tokenizers[name] = *std::move(tokenizer);
  }
  for (const char* unit : {"a", " ", "\u0301", "the", "1,", "\u4e2d", "<mask> ", "[SE", "'"}) {
    const std::string text = Repeated(unit, kBytes);
    for (const auto& [name, tokenizer] : tokenizers) {
      SCOPED_TRACE(name + " " + unit);
      EncodeOptions options;
      ASSERT_TRUE(tokenizer->Encode(text, nullptr, options, &encoding).ok());
      EXPECT_LE(encoding.ids.size(), 3 * text.size());
    }
  }
}

}  // namespace
}  // namespace bertrand

// Files that are corrupt, unsupported or odd: one clear line each, never a crash.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "models/tokenizer/charsmap.h"
#include "models/tokenizer/conversion.h"
#include "models/tokenizer/sentence_piece.h"
#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"
#include "tests/models/tokenizer/test_data.h"

namespace bertrand {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t found = text.find(from);
  EXPECT_NE(found, std::string::npos) << from;
  return text.replace(found, from.size(), to);
}

std::string LoadError(const std::string& json, const std::string& config = "") {
  const auto tokenizer = Tokenizer::FromJson(json, config);
  EXPECT_FALSE(tokenizer.ok());
  return tokenizer.ok() ? "" : Message(tokenizer.status());
}

constexpr char kSmall[] = R"({"added_tokens": [{"id": 0, "content": "[UNK]", "special": true}],
 "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
 "strip_accents": null, "lowercase": true}, "pre_tokenizer": {"type": "BertPreTokenizer"},
 "post_processor": {"type": "TemplateProcessing", "single":
 [{"Sequence": {"id": "A", "type_id": 0}}],
 "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
 "special_tokens": {"[SEP]": {"id": "[SEP]", "ids": [2], "tokens": ["[SEP]"]}}},
 "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
 "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
 "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "[SEP]": 2, "##b": 3}}})";

TEST(LoadErrorsTest, NamesWhatIsNotSupported) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {"\"type\": \"WordPiece\", \"unk", "\"type\": \"WordLevel\", \"unk",
       "tokenizer.json: model type \"WordLevel\" is not supported by this version; BPE, Unigram "
       "and"},
      {"BertNormalizer", "ByteLevel", "normalizer type \"ByteLevel\" is not supported"},
      {"{\"type\": \"BertPreTokenizer\"}",
       R"({"type": "Split", "pattern": {"Regex": "a|b"}, "behavior": "Isolated"})",
       "regular expression of type \"a|b\" is not supported"},
      {"BertPreTokenizer", "UnicodeScripts", "pre_tokenizer type \"UnicodeScripts\" is not"},
      {"{\"type\": \"BertPreTokenizer\"}",
       R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true})",
       "WordPiece behind the pre_tokenizer ByteLevel is not supported"},
      {"{\"type\": \"BertPreTokenizer\"}",
       R"({"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": true},
          {"type": "WhitespaceSplit"}]})",
       "ByteLevel is supported as the last of a Sequence only"},
      {"TemplateProcessing", "FutureProcessing", "post_processor type \"FutureProcessing\" is not"},
      {"\"decoder\": {\"type\": \"WordPiece\"", "\"decoder\": {\"type\": \"CTC\"",
       "decoder type \"CTC\" is not supported"},
  };
  for (const auto& [from, to, message] : cases) {
    EXPECT_THAT(LoadError(Replaced(kSmall, from, to)), HasSubstr(message));
  }
}

TEST(LoadErrorsTest, NamesWhatIsWrong) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {"\"##b\": 3", "\"##b\": 1", "id 1 is both \"a\" and \"##b\""},
      {"\"##b\": 3", "\"##b\": -3", "is -3"},
      {"\"##b\": 3", "\"##b\": 9999999", "is 9999999; with 4 tokens it may be at most 16400"},
      {"\"##b\": 3", "\"##b\": 99999999999", "token ids go from 0"},
      {"\"##b\": 3", "\"##b\": \"3\"", "must be a token id"},
      {"\"##b\": 3", "\"##b\": 3.5", "must be a token id"},
      {"\"##b\": 3", "\"a\": 3", "a"},
      {"\"max_input_chars_per_word\": 100", "\"max_input_chars_per_word\": -1", "max_input_chars"},
      {"\"unk_token\": \"[UNK]\", ", "", "`unk_token` must be a string, but it is absent"},
      {"\"ids\": [2]", "\"ids\": [7]", "token id 7 is not in the vocabulary of 4"},
      {"\"id\": \"A\"", "\"id\": \"C\"", "A and B exist"},
      {"\"id\": \"A\"", "\"id\": \"B\"", "`single` uses sequence B"},
      {"{\"id\": \"[SEP]\", \"type_id\": 1}", "{\"id\": \"[X]\", \"type_id\": 1}", "\"[X]\""},
      {"\"clean_text\": true", "\"clean_text\": 1", "`clean_text` must be true or false"},
      {"\"id\": 0, \"content\"", "\"content\"", "`id`"},
      {"\"content\": \"[UNK]\"", "\"content\": 3", "`content` must be a string"},
      {"{\"added_tokens\"", "[{\"added_tokens\"", "tokenizer.json"},
  };
  for (const auto& [from, to, message] : cases) {
    SCOPED_TRACE(to);
    const std::string error = LoadError(Replaced(kSmall, from, to));
    EXPECT_THAT(error, HasSubstr(message));
    EXPECT_THAT(error, HasSubstr("tokenizer.json"));
    EXPECT_THAT(error, Not(HasSubstr("\n")));
  }
  EXPECT_THAT(LoadError(""), HasSubstr("tokenizer.json"));
  EXPECT_THAT(LoadError("[]"), HasSubstr("object"));
  EXPECT_THAT(LoadError("{}"), HasSubstr("model"));
  EXPECT_THAT(LoadError(kSmall, "[1"), HasSubstr("tokenizer_config.json"));
  EXPECT_THAT(LoadError(kSmall, R"({"truncation_side": "up"})"), HasSubstr("truncation_side"));
  EXPECT_THAT(LoadError(kSmall, R"({"model_max_length": "x"})"), HasSubstr("model_max_length"));
}

TEST(LoadErrorsTest, Folder) {
  const auto missing = Tokenizer::Load("tests/models/tokenizer");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(missing.status()), HasSubstr("has neither tokenizer.json nor vocab.txt"));
}

// One to three changes somewhere.
std::string Damaged(std::string text, std::mt19937* random) {
  for (uint32_t changes = 1 + (*random)() % 3; changes > 0; --changes) {
    const size_t at = (*random)() % text.size();
    switch ((*random)() % 4) {
      case 0:
        text[at] = static_cast<char>((*random)());
        break;
      case 1:
        text.erase(at, 1 + (*random)() % 9);
        break;
      case 2:
        text.insert(at, text.substr((*random)() % text.size(), (*random)() % 20));
        break;
      default:
        text[at] = "0123456789{}[]\",:-"[(*random)() % 18];
    }
  }
  return text;
}

// Of other models: what loads also runs.
TEST(LoadErrorsTest, DamagedModelsNeverCrash) {
  std::mt19937 random(7);
  Encoding encoding;
  EncodeOptions options;
  options.want_spans = true;
  for (const char* name : {"bpe_odd", "bpe_fused", "unigram", "unigram_first"}) {
    const std::string whole = ReadData("tokenizers/" + std::string(name) + ".json");
    int loaded = 0;
    for (int i = 0; i < 1500; ++i) {
      const auto tokenizer = Tokenizer::FromJson(Damaged(whole, &random), "");
      if (!tokenizer.ok()) continue;
      ++loaded;
      (void)(*tokenizer)->Encode("the aaab  abc e\u0301 [SEP] 1,", nullptr, options, &encoding);
    }
    EXPECT_GT(loaded, 0) << name;
  }
}

TEST(LoadErrorsTest, DamagedSentencePieceModelsNeverCrash) {
  std::mt19937 random(9);
  const std::string whole = ReadData("trained/lean.model");
  TokenizerConfig config;
  config.kind = TokenizerKind::kAlbert;
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    auto parts = PartsFromSentencePiece(Damaged(whole, &random), config);
    refused += !parts.ok();
    EXPECT_EQ(parts.ok(), Message(parts.status()).empty());
  }
  EXPECT_GT(refused, 0);
  EXPECT_THAT(Message(PartsFromSentencePiece(whole.substr(0, whole.size() - 1), config).status()),
              HasSubstr("no SentencePiece model"));
}

// A map's trie that leads anywhere.
TEST(LoadErrorsTest, DamagedCharsmapsNeverCrash) {
  std::mt19937 random(3);
  auto model = ParseSentencePieceModel(ReadData("trained/unigram.model"));
  ASSERT_TRUE(model.ok());
  const std::string& whole = model->precompiled_charsmap;
  for (int i = 0; i < 100; ++i) {
    std::string damaged = whole;
    for (int j = 0; j < 2000; ++j)
      damaged[4 + random() % (damaged.size() / 2)] ^= 1 << random() % 8;
    const auto map = Charsmap::Create(damaged);
    if (!map.ok()) continue;
    NormalizedText text, spare;
    std::string source;
    for (int j = 0; j < 300; ++j) {
      char32_t c = random() % (j % 2 == 0 ? 0x3000 : 0x20000);
      if (c >= 0xD800 && c < 0xE000) c = U'x';
      AppendUtf8(c, &source);
    }
    text.Assign(source, 0);
    (*map)->Normalize(&text, &spare);
    EXPECT_EQ(text.text.size(), text.source.size());
    EXPECT_FALSE(FindInvalidUtf8(text.text).has_value());
  }
  EXPECT_FALSE(Charsmap::Create("").ok());
  EXPECT_FALSE(Charsmap::Create(whole.substr(0, 1000)).ok());
}

// Whatever one byte is replaced by, the file loads or is refused.
TEST(LoadErrorsTest, DamagedFilesNeverCrash) {
  std::mt19937 random(5);
  const std::string whole = kSmall;
  for (int i = 0; i < 4000; ++i) {
    const std::string damaged = Damaged(whole, &random);
    const auto tokenizer = Tokenizer::FromJson(damaged, "");
    if (!tokenizer.ok()) continue;
    Encoding encoding;
    const std::string_view pair = "a [SEP]";
    EncodeOptions options;
    options.want_spans = true;
    (void)(*tokenizer)->Encode("ab [UNK] ba \u00e9\u302e", &pair, options, &encoding);
    const uint32_t ids[] = {0, 1, 2, 3};
    (void)(*tokenizer)->Decode(ids, true);
  }
}

TEST(TokenizerTest, RefusesBadUtf8ByOffset) {
  const auto tokenizer = Tokenizer::FromJson(kSmall, "");
  ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  Encoding encoding;
  EXPECT_EQ(Message((*tokenizer)->Encode("ab\xFF", nullptr, {}, &encoding)),
            "the text is not valid UTF-8 at byte 2");
  const std::string_view second = "\xC3";
  EXPECT_EQ(Message((*tokenizer)->Encode("ab", &second, {}, &encoding)),
            "second text: the text is not valid UTF-8 at byte 0");
}

TEST(TokenizerTest, DecodeNamesTheFirstUnknownId) {
  const auto tokenizer = Tokenizer::FromJson(kSmall, "");
  ASSERT_TRUE(tokenizer.ok());
  const uint32_t ids[] = {1, 3, 4, 5};
  EXPECT_EQ(Message((*tokenizer)->Decode(ids, false).status()),
            "token id 4 is not in the vocabulary of 4");
  const uint32_t good[] = {1, 3, 0};
  EXPECT_EQ(*(*tokenizer)->Decode(good, false), "ab [UNK]");
  EXPECT_EQ(*(*tokenizer)->Decode(good, true), "ab");
  EXPECT_EQ((*tokenizer)->vocab_size(), 4);
  EXPECT_TRUE((*tokenizer)->IsSpecial(0));
  EXPECT_FALSE((*tokenizer)->IsSpecial(2));
  EXPECT_FALSE((*tokenizer)->IsSpecial(-1));
  EXPECT_EQ((*tokenizer)->num_special_tokens(false), 0);
  EXPECT_EQ((*tokenizer)->num_special_tokens(true), 1);
}

TEST(TokenizerTest, MissingUnknownTokenIsAnErrorOnlyWhenNeeded) {
  const std::string json =
      Replaced(Replaced(kSmall, "{\"[UNK]\": 0, ", "{"), "\"id\": 0, \"content\": \"[UNK]\"",
               "\"id\": 1, \"content\": \"a\"");
  const auto tokenizer = Tokenizer::FromJson(json, "");
  ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  Encoding encoding;
  EXPECT_TRUE((*tokenizer)->Encode("a a", nullptr, {}, &encoding).ok());
  EXPECT_THAT(Message((*tokenizer)->Encode("a z", nullptr, {}, &encoding)),
              HasSubstr("unknown token \"[UNK]\""));
}

// White space that rstrip took is not found again, and a new token is numbered from the
// vocabulary's size, even where that has a hole. As `tokenizers` has it
// (tests/fuzz/tokenizer_config_fuzz.py).
TEST(TokenizerTest, AddedTokensSideBySide) {
  const std::string json =
      Replaced(Replaced(kSmall, "\"##b\": 3", "\"##b\": 9"),
               "{\"id\": 0, \"content\": \"[UNK]\", \"special\": true}",
               R"({"id": 2, "content": "[SEP]", "special": true, "rstrip": true},
         {"id": 9, "content": "##b", "special": true},
         {"id": 10, "content": " ", "special": true, "lstrip": true})");
  const auto tokenizer = Tokenizer::FromJson(json, "");
  ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
  Encoding encoding;
  EncodeOptions options;
  options.want_spans = true;
  for (const char* text : {"[SEP] ", "[SEP]   "}) {
    ASSERT_TRUE((*tokenizer)->Encode(text, nullptr, options, &encoding).ok());
    EXPECT_EQ(encoding.ids, std::vector<int32_t>{2}) << text;
  }
  ASSERT_TRUE((*tokenizer)->Encode("a a", nullptr, options, &encoding).ok());
  EXPECT_EQ(encoding.ids, (std::vector<int32_t>{1, 4, 1}));
}

TEST(TokenizerTest, IsThreadSafe) {
  const auto tokenizer = Tokenizer::FromJson(kSmall, "");
  ASSERT_TRUE(tokenizer.ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      Encoding encoding;
      EncodeOptions options;
      options.want_spans = true;
      for (int i = 0; i < 2000; ++i) {
        ASSERT_TRUE(
            (*tokenizer)->Encode("ab a \u00e9\u302e [UNK] ab", nullptr, options, &encoding).ok());
        ASSERT_EQ(encoding.ids.size(), 7u);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace bertrand

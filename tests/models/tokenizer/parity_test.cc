// Against what `tokenizers` and transformers answered (make_expected.py): each of the small
// tokenizers, and checkpoint folders with and without tokenizer.json.

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "models/tokenizer/pipeline.h"
#include "models/tokenizer/tokenizer.h"
#include "tests/models/tokenizer/test_data.h"

namespace bertrand {
namespace {

const char* const kTokenizers[] = {"uncased",
                                   "cased",
                                   "added",
                                   "added_normalized",
                                   "added_normalized_cased",
                                   "prefix",
                                   "no_prefix",
                                   "no_unk",
                                   "whitespace",
                                   "whitespace_split",
                                   "sequences",
                                   "contiguous",
                                   "bare",
                                   "bpe",
                                   "bpe_prefix",
                                   "bpe_untrimmed",
                                   "bpe_sequence",
                                   "bpe_no_regex",
                                   "bpe_holes",
                                   "bpe_characters",
                                   "bpe_fused",
                                   "bpe_affixes",
                                   "bpe_odd",
                                   "unigram",
                                   "unigram_bytes",
                                   "unigram_first",
                                   "unigram_spaces",
                                   "unigram_split",
                                   "unigram_parts",
                                   "unigram_unsplit",
                                   "unigram_no_unk"};

EncodeOptions OptionsOf(const Json& json) {
  EncodeOptions options;
  options.want_spans = options.want_words = true;
  options.add_special_tokens = json.Find("plain") == nullptr;
  if (const Json* limit = json.Find("limit")) {
    const std::string& mode = *json.Find("mode")->as_string();
    options.max_tokens = *limit->as_int();
    options.truncation = mode == "only_first"    ? TruncationMode::kOnlyFirst
                         : mode == "only_second" ? TruncationMode::kOnlySecond
                                                 : TruncationMode::kLongestFirst;
    options.side =
        *json.Find("side")->as_string() == "left" ? TruncationSide::kLeft : TruncationSide::kRight;
  }
  return options;
}

std::vector<int32_t> CodePointSpans(const Encoding& encoding) {
  std::vector<int32_t> spans;
  for (const TokenSpan& span : encoding.spans) {
    spans.push_back(static_cast<int32_t>(span.start));
    spans.push_back(static_cast<int32_t>(span.end));
  }
  return spans;
}

std::string Digits(const auto& column) {
  std::string digits;
  for (const int value : column) digits += value < 0 ? '-' : static_cast<char>('0' + value);
  return digits;
}

// make_expected.py's words_of.
std::string WordsOf(const Encoding& encoding) {
  std::string text;
  int32_t last = -1;
  for (const int32_t word : encoding.words) {
    if (word < 0) {
      text += '-';
      continue;
    }
    text += word == last ? "=" : word == last + 1 ? "+" : "(" + std::to_string(word) + ")";
    last = word;
  }
  return text;
}

std::string FromBytes(std::string_view text, size_t begin, size_t end) {
  return std::string(text.substr(begin, end - begin));
}

// A span in bytes covers the same text as the span in code points.
void ExpectBytesFit(std::string_view text, const TokenSpan& span) {
  const auto start = FromBytes(text, 0, span.start_byte), whole = FromBytes(text, 0, span.end_byte);
  const auto count = [](const std::string& part) {
    return std::count_if(part.begin(), part.end(), [](char c) { return (c & 0xC0) != 0x80; });
  };
  EXPECT_EQ(count(start), span.start);
  EXPECT_EQ(count(whole), span.end);
  EXPECT_FALSE(FindInvalidUtf8(start).has_value());
  EXPECT_FALSE(FindInvalidUtf8(whole).has_value());
}

void CheckEncode(const Tokenizer& tokenizer, const Json& json, Encoding* encoding) {
  const std::string& text = *json.Find("text")->as_string();
  const Json* pair = json.Find("pair");
  const std::string_view second = pair == nullptr ? std::string_view() : *pair->as_string();
  const EncodeOptions options = OptionsOf(json);
  SCOPED_TRACE(testing::Message() << "text \"" << text << "\" pair \"" << second << "\" limit "
                                  << options.max_tokens);
  const absl::Status status =
      tokenizer.Encode(text, pair == nullptr ? nullptr : &second, options, encoding);
  if (json.Find("error") != nullptr) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    return;
  }
  ASSERT_TRUE(status.ok()) << Message(status);
  EXPECT_EQ(encoding->ids, Integers(*json.Find("ids")));
  EXPECT_EQ(Digits(encoding->type_ids), *json.Find("types")->as_string());
  EXPECT_EQ(Digits(encoding->special), *json.Find("special")->as_string());
  EXPECT_EQ(Digits(encoding->sequence), *json.Find("sequence")->as_string());
  EXPECT_EQ(CodePointSpans(*encoding), Integers(*json.Find("spans")));
  EXPECT_EQ(WordsOf(*encoding), *json.Find("words")->as_string());
  for (size_t i = 0; i < encoding->spans.size(); ++i) {
    ExpectBytesFit(encoding->sequence[i] == 1 ? second : std::string_view(text),
                   encoding->spans[i]);
  }
  EXPECT_LE(static_cast<int64_t>(encoding->ids.size()), options.max_tokens);
  // Without spans it is another way through the code.
  const std::vector<int32_t> ids = encoding->ids;
  EncodeOptions plain = options;
  plain.want_spans = plain.want_words = false;
  ASSERT_TRUE(tokenizer.Encode(text, pair == nullptr ? nullptr : &second, plain, encoding).ok());
  EXPECT_EQ(encoding->ids, ids);
  EXPECT_TRUE(encoding->spans.empty());
}

void CheckDecode(const Tokenizer& tokenizer, const Json& json) {
  const std::vector<int32_t> ids = Integers(*json.Find("ids"));
  const std::vector<uint32_t> unsigned_ids(ids.begin(), ids.end());
  const auto text = tokenizer.Decode(unsigned_ids, *json.Find("skip")->as_bool());
  ASSERT_TRUE(text.ok()) << Message(text.status());
  EXPECT_EQ(*text, *json.Find("text")->as_string());
}

class SmallTokenizerTest : public testing::TestWithParam<const char*> {};

TEST_P(SmallTokenizerTest, EqualsTokenizers) {
  static const Json* const expected = new Json(ReadJsonData("expected.json"));
  const Json& cases = *expected->Find(GetParam());
  const std::string file = ReadData("tokenizers/" + std::string(GetParam()) + ".json");
  for (const bool short_way : {true, false}) {
    auto parts = PartsFromJson(file, "");
    ASSERT_TRUE(parts.ok()) << Message(parts.status());
    const auto tokenizer = Pipeline::Create(*std::move(parts), short_way);
    ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
    Encoding encoding;  // reused: nothing of one call may show in the next
    for (const Json& json : cases.Find("encode")->elements()) {
      CheckEncode(**tokenizer, json, &encoding);
    }
    for (const Json& json : cases.Find("decode")->elements()) CheckDecode(**tokenizer, json);
  }
}

INSTANTIATE_TEST_SUITE_P(All, SmallTokenizerTest, testing::ValuesIn(kTokenizers),
                         [](const auto& info) { return std::string(info.param); });

// A checkpoint's folder in the test's temporary folder.
std::string WriteFolder(const std::string& name, const Json& files, const std::string& tokenizer) {
  const std::string folder = testing::TempDir() + "/tokenizer_folder_" + name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  const auto write = [&](const std::string& file, const std::string& text) {
    std::ofstream(folder + "/" + file, std::ios::binary) << text;
  };
  for (const auto& [file, value] : files.members()) {
    const std::string& text = *value.as_string();
    write(file, text.starts_with("@") ? ReadData("trained/" + text.substr(1)) : text);
  }
  if (tokenizer == "uncased_left") {
    std::string text = ReadData("tokenizers/uncased.json");
    const std::string none = "\"truncation\": null";
    text.replace(text.find(none), none.size(),
                 "\"truncation\": {\"direction\": \"Left\", \"max_length\": 9, \"strategy\": "
                 "\"LongestFirst\", \"stride\": 0}");
    write("tokenizer.json", text);
  } else if (!tokenizer.empty()) {
    write("tokenizer.json", ReadData("tokenizers/" + tokenizer + ".json"));
  }
  return folder;
}

void CheckFolder(const Tokenizer& tokenizer, const Json& json) {
  for (const Json& one : json.Find("cases")->elements()) {
    const std::string& text = *one.Find("text")->as_string();
    SCOPED_TRACE(text);
    Encoding encoding;
    EncodeOptions options;
    options.want_spans = true;
    ASSERT_TRUE(tokenizer.Encode(text, nullptr, options, &encoding).ok());
    EXPECT_EQ(encoding.ids, Integers(*one.Find("ids")));
    EXPECT_EQ(CodePointSpans(encoding), Integers(*one.Find("spans")));
    const std::vector<uint32_t> ids(encoding.ids.begin(), encoding.ids.end());
    EXPECT_EQ(*tokenizer.Decode(ids, false), *one.Find("decoded")->as_string());
    EXPECT_EQ(*tokenizer.Decode(ids, true), *one.Find("decoded_skip")->as_string());
  }
  const Json& cut = *json.Find("cut");
  Encoding encoding;
  EncodeOptions options;
  options.max_tokens = 8;
  const std::string_view pair = *cut.Find("pair")->as_string();
  ASSERT_TRUE(tokenizer.Encode(*cut.Find("text")->as_string(), &pair, options, &encoding).ok());
  EXPECT_EQ(encoding.ids, Integers(*cut.Find("ids")));
  for (const auto& [token, id] : json.Find("tokens")->members()) {
    EXPECT_EQ(tokenizer.TokenId(token), *id.as_int()) << token;
    EXPECT_EQ(tokenizer.TokenText(*id.as_int()), token);
  }
  std::vector<int32_t> special;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (tokenizer.IsSpecial(id)) special.push_back(id);
  }
  EXPECT_EQ(special, Integers(*json.Find("special_ids")));
  const Json* length = json.FindNonNull("model_max_length");
  EXPECT_EQ(tokenizer.model_max_length(), length == nullptr ? std::nullopt : length->as_int());
}

TEST(FolderTest, EqualsTransformers) {
  const Json folders = ReadJsonData("folders.json");
  EXPECT_GE(folders.members().size(), 27u);
  for (const auto& [name, json] : folders.members()) {
    SCOPED_TRACE(name);
    const std::string folder =
        WriteFolder(name, *json.Find("files"), *json.Find("tokenizer")->as_string());
    const auto tokenizer = Tokenizer::Load(folder);
    ASSERT_TRUE(tokenizer.ok()) << Message(tokenizer.status());
    CheckFolder(**tokenizer, json);
    std::filesystem::remove_all(folder);
  }
}

}  // namespace
}  // namespace bertrand

// tokenizer.json files that are made to hurt: whatever they are, one clear line or a tokenizer that
// works, and never more memory than ten times the file and a fixed amount. Scaled to what takes
// seconds; tests/fuzz has the random ones.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "models/tokenizer/tokenizer.h"
#include "models/tokenizer/unicode.h"
#include "tests/fuzz/counted_memory.h"
#include "tests/models/tokenizer/test_data.h"

namespace bertrand {
namespace {

using ::testing::HasSubstr;

constexpr size_t kExpansionMax = 10;
constexpr size_t kFreeBytes = 4 << 20;
constexpr size_t kMegabyte = 1 << 20;

std::string Repeated(std::string_view text, size_t count) {
  std::string result;
  result.reserve(text.size() * count);
  for (size_t i = 0; i < count; ++i) result += text;
  return result;
}

// A whole file; members of the top object in `parts` come first.
std::string WithModel(const std::string& parts, const std::string& model) {
  return "{" + parts + (parts.empty() ? "" : ",") + "\"model\":{" + model + "}}";
}
std::string WordPieceFile(const std::string& parts, const std::string& vocab = R"("a":1,"b":2)") {
  return WithModel(parts, R"("type":"WordPiece","unk_token":"[UNK]","continuing_subword_prefix":)"
                          R"("##","max_input_chars_per_word":100,"vocab":{"[UNK]":0,)" +
                              vocab + "}");
}
std::string BpeFile(const std::string& vocab, const std::string& merges,
                    const std::string& more = "") {
  return WithModel("",
                   R"("type":"BPE","vocab":{)" + vocab + R"(},"merges":[)" + merges + "]" + more);
}
std::string UnigramFile(const std::string& vocab, const std::string& more = "\"unk_id\":0") {
  return WithModel("", R"("type":"Unigram","vocab":[)" + vocab + "]," + more);
}
std::string NormalizerFile(const std::string& normalizer, const std::string& token = "a") {
  return WordPieceFile(R"("normalizer":)" + normalizer + R"(,"added_tokens":[{"id":1,"content":")" +
                       token + R"(","normalized":true,"special":false}])");
}
std::string SequenceOf(const std::string& step, size_t count) {
  std::string steps = Repeated(step + ",", count);
  steps.pop_back();
  return R"({"type":"Sequence","normalizers":[)" + steps + "]}";
}

// What comes of the file, "" where it loads; a text goes through what does. Fails when it takes too
// much memory or says too much.
std::string Outcome(const std::string& file) {
  const CountedMemory memory;
  std::string message;
  {
    const auto tokenizer = Tokenizer::FromJson(file, "");
    EXPECT_LE(memory.peak_bytes(), kExpansionMax * file.size() + kFreeBytes);
    if (tokenizer.ok()) {
      Encoding encoding;
      EncodeOptions options;
      options.want_spans = true;
      const std::string_view second = "ab \u00e9";
      (void)(*tokenizer)->Encode("a b aab [SEP] \u4e2d\u0301 \ufb01", &second, options, &encoding);
      for (const int32_t id : encoding.ids) EXPECT_LT(id, (*tokenizer)->vocab_size());
      const uint32_t ids[] = {0, 1};
      (void)(*tokenizer)->Decode(ids, false);
    } else {
      message = Message(tokenizer.status());
      EXPECT_FALSE(message.empty());
    }
  }
  EXPECT_LE(message.size(), 1500u);
  EXPECT_EQ(message.find('\n'), std::string::npos);
  EXPECT_FALSE(FindInvalidUtf8(message).has_value());
  return message;
}

TEST(HostileTokenizerTest, Nesting) {
  constexpr size_t kDepth = 24 * kMegabyte;
  EXPECT_THAT(Outcome(std::string(kDepth, '[')), HasSubstr("not valid JSON"));
  EXPECT_THAT(Outcome(Repeated("{\"a\":", kDepth / 5)), HasSubstr("not valid JSON"));
  EXPECT_THAT(Outcome(std::string(kDepth / 2, '[') + std::string(kDepth / 2, ']')),
              HasSubstr("nested deeper than 64 levels"));
  const std::string open = R"({"type":"Sequence","normalizers":[)";
  EXPECT_THAT(Outcome(NormalizerFile(Repeated(open, 100'000) + Repeated("]}", 100'000))),
              HasSubstr("nested deeper than 64 levels"));
  EXPECT_EQ(Outcome(NormalizerFile(Repeated(open, 30) + Repeated("]}", 30))), "");
}

TEST(HostileTokenizerTest, ManyTinyValues) {
  constexpr size_t kCount = 4 * kMegabyte;
  EXPECT_THAT(Outcome("[" + Repeated("[],", kCount) + "[]]"), HasSubstr("tiny values"));
  EXPECT_THAT(Outcome("[" + Repeated("0,", kCount) + "0]"), ::testing::Not(""));
  EXPECT_THAT(Outcome(UnigramFile(Repeated("[\"\",0],", kCount / 4) + "[\"\",0]")),
              HasSubstr("tiny values"));
  EXPECT_THAT(Outcome(BpeFile("\"a\":0", Repeated("\"a a\",", kCount / 4) + "\"a a\"")),
              ::testing::Not(""));
  EXPECT_THAT(Outcome(NormalizerFile(SequenceOf(R"({"type":"NFC"})", 100'000))), ::testing::_);
}

TEST(HostileTokenizerTest, LongTexts) {
  const std::string long_text(20 * kMegabyte, 'x');
  EXPECT_THAT(Outcome(WordPieceFile(R"("added_tokens":[{"id":3,"content":")" + long_text +
                                    R"(","special":true}])")),
              HasSubstr("share too little"));
  // Longer than any word: not in the trie.
  EXPECT_EQ(Outcome(WordPieceFile("", "\"" + long_text + "\":1")), "");
  EXPECT_THAT(Outcome(UnigramFile("[\"" + long_text + "\",-1]")), HasSubstr("share too little"));
  EXPECT_THAT(Outcome(BpeFile("\"a\":0", "\"a " + long_text + "\"")),
              HasSubstr("is not in the vocabulary"));
  EXPECT_THAT(Outcome(WithModel("", R"("type":")" + long_text + "\"")),
              HasSubstr("is not supported"));
  EXPECT_THAT(Outcome(WordPieceFile("", "\"" + long_text + "\":-1")), HasSubstr("is -1"));
  EXPECT_THAT(Outcome(NormalizerFile(R"({"type":"Prepend","prepend":")" + long_text + "\"}")),
              HasSubstr("as long"));
}

TEST(HostileTokenizerTest, ManyAddedTokens) {
  std::string tokens;
  for (int i = 0; i < 300'000; ++i) {
    tokens += R"({"id":0,"content":")" + std::to_string(i) + R"(","normalized":true},)";
  }
  tokens.pop_back();
  (void)Outcome(WordPieceFile(R"("added_tokens":[)" + tokens + "]"));
}

TEST(HostileTokenizerTest, Ids) {
  for (const char* id :
       {"2147483648", "9007199254740992", "9223372036854775807", "-1", "-9223372036854775808",
        "18446744073709551616", "1.0", "1e3", "1e400", "NaN", "null", "true", "\"1\"", "[1]"}) {
    SCOPED_TRACE(id);
    const std::string value = id;
    EXPECT_THAT(Outcome(WordPieceFile("", "\"a\":" + value)), HasSubstr("the id of \"a\""));
    EXPECT_THAT(Outcome(BpeFile("\"a\":" + value, "")), HasSubstr("the id of \"a\""));
    EXPECT_THAT(Outcome(WordPieceFile(R"("added_tokens":[{"content":"a","id":)" + value + "}]")),
                HasSubstr("`id`"));
    if (value != "null") {
      EXPECT_THAT(Outcome(UnigramFile("[\"a\",0]", "\"unk_id\":" + value)), HasSubstr("`unk_id`"));
    }
    const std::string processor = R"("post_processor":{"type":"BertProcessing","cls":["a",)";
    EXPECT_THAT(Outcome(WordPieceFile(processor + value + R"(],"sep":["b",2]})")),
                HasSubstr("post_processor"));
  }
  EXPECT_THAT(Outcome(WordPieceFile("", R"("a":1,"b":1)")), HasSubstr("id 1 is both"));
  EXPECT_THAT(Outcome(WordPieceFile("", R"("a":1,"a":2)")), HasSubstr("stands twice"));
  EXPECT_THAT(Outcome(WordPieceFile("", "\"a\":16000000")), HasSubstr("it may be at most"));
  EXPECT_THAT(Outcome(UnigramFile("[\"a\",0]", "\"unk_id\":1")), HasSubstr("has 1 pieces"));
  EXPECT_THAT(Outcome(WordPieceFile(
                  R"("post_processor":{"type":"BertProcessing","cls":["a",3],"sep":["b",2]})")),
              HasSubstr("token id 3 is not in the vocabulary of 3"));
  // Whatever number an added token claims, it has the one that the vocabulary gives it.
  EXPECT_EQ(Outcome(WordPieceFile(R"("added_tokens":[{"content":"new","id":16000000}])")), "");
}

TEST(HostileTokenizerTest, Merges) {
  EXPECT_THAT(Outcome(BpeFile(R"("a":0,"b":1)", "\"a b\"")),
              HasSubstr("\"ab\" of merge 0 is not in the vocabulary"));
  EXPECT_THAT(Outcome(BpeFile(R"("a":0,"ab":1)", "\"a b\"")),
              HasSubstr("\"b\" of merge 0 is not in the vocabulary"));
  EXPECT_THAT(Outcome(BpeFile(R"("a":0)", "\"a\"")), HasSubstr("two tokens with one space"));
  EXPECT_THAT(Outcome(BpeFile(R"("a":0)", "[\"a\"]")), HasSubstr("two tokens with one space"));
  // What is made of itself: an empty token, and a prefix that vanishes.
  EXPECT_EQ(Outcome(BpeFile(R"("":0,"a":1,"b":2)", R"(" a","a ","b "," b"," ")")), "");
  EXPECT_EQ(Outcome(BpeFile(R"("##":0,"a":1,"##a":2,"b":3)", R"("a ##","##a ##","## ##")",
                            R"(,"continuing_subword_prefix":"##")")),
            "");
  // Each token of two that are made later, one by many merges, and one that is its own half.
  EXPECT_EQ(Outcome(BpeFile(R"("a":0,"aa":1,"aaa":2,"aaaa":3,"aaaaa":4)",
                            R"("aa aa","aaa a","a aaa","aaaa a","a a","aa a","a aa","aa aaa")")),
            "");
  EXPECT_THAT(
      Outcome(BpeFile(R"("##":0,"a":1)", "\"a a\"", R"(,"continuing_subword_prefix":"##")")),
      HasSubstr("is shorter than the prefix"));
}

// Steps that make a text longer, one after the other: 2^40 letters, for the added token too.
TEST(HostileTokenizerTest, TextsThatGrow) {
  const std::string doubles = R"({"type":"Replace","pattern":{"String":"a"},"content":"aa"})";
  EXPECT_THAT(Outcome(NormalizerFile(SequenceOf(doubles, 40))), HasSubstr("as long"));
  EXPECT_EQ(Outcome(NormalizerFile(SequenceOf(doubles, 8))), "");
  const std::string runs = R"({"type":"Replace","pattern":{"Regex":"a{4,}"},"content":"aaaaaaaa"})";
  EXPECT_THAT(Outcome(NormalizerFile(SequenceOf(runs, 40))), HasSubstr("as long"));
  const std::string nested = R"({"type":"Sequence","normalizers":[)" + SequenceOf(doubles, 6) +
                             "," + SequenceOf(doubles, 6) + "]}";
  EXPECT_THAT(Outcome(NormalizerFile(nested)), HasSubstr("as long"));
  EXPECT_THAT(Outcome(NormalizerFile(SequenceOf(R"({"type":"Prepend","prepend":"aaaaaaa"})", 30))),
              HasSubstr("as long"));
  const std::string decoders =
      R"("decoder":{"type":"Sequence","decoders":[)" + Repeated(doubles + ",", 39) + doubles + "]}";
  EXPECT_THAT(Outcome(WordPieceFile(decoders)), HasSubstr("as long"));
}

// A special token of a hundred thousand ids, a hundred thousand times; and a text as often.
TEST(HostileTokenizerTest, TemplatesThatGrow) {
  const auto file = [](const std::string& piece, size_t pieces, size_t ids) {
    return WordPieceFile(R"("post_processor":{"type":"TemplateProcessing","pair":[],"single":[)" +
                         Repeated(piece + ",", pieces - 1) + piece +
                         R"(],"special_tokens":{"s":{"ids":[)" + Repeated("1,", ids - 1) + "1]}}}");
  };
  const std::string special = R"({"SpecialToken":{"id":"s","type_id":0}})";
  const std::string text = R"({"Sequence":{"id":"A","type_id":0}})";
  EXPECT_THAT(Outcome(file(special, 10'000, 10'000)), HasSubstr("special tokens"));
  EXPECT_THAT(Outcome(file(special, 1, 5000)), HasSubstr("special tokens"));
  EXPECT_THAT(Outcome(file(text, 10'000, 1)), HasSubstr("stand for texts"));
  EXPECT_EQ(Outcome(file(special, 2, 30)), "");
  EXPECT_EQ(Outcome(file(text, 2, 1)), "");
}

TEST(HostileTokenizerTest, RegularExpressions) {
  for (const char* regex : {"(a+)+$", "(a|aa)*b", ".*.*.*=.*", "[", "a{1,99999}{1,99999}", "\\\\",
                            "a{99999999999999999999,}", "(?<=a{1,999})b", "\\\\p{", "\\\\x{110000}",
                            "(((((((((((((((((((((((((((((a"}) {
    SCOPED_TRACE(regex);
    const std::string pattern = std::string(R"("pattern":{"Regex":")") + regex + "\"}";
    EXPECT_THAT(Outcome(NormalizerFile(R"({"type":"Replace","content":"",)" + pattern + "}")),
                HasSubstr("is not supported"));
    EXPECT_THAT(Outcome(WordPieceFile(
                    R"("pre_tokenizer":{"type":"Split","behavior":"Isolated","invert":false,)" +
                    pattern + "}")),
                HasSubstr("is not supported"));
  }
  EXPECT_THAT(Outcome(NormalizerFile(R"({"type":"Replace","content":"","pattern":{"Regex":")" +
                                     std::string(4 * kMegabyte, '(') + "\"}}")),
              HasSubstr("is not supported"));
  EXPECT_EQ(
      Outcome(NormalizerFile(
          R"({"type":"Replace","content":"","pattern":{"Regex":"b{18446744073709551615,}"}})")),
      "");
}

// Each of 256 units is for its own byte and leads to itself, or to where its results would be.
std::string SelfReferringMap(uint32_t flags, const std::string& results) {
  std::string bytes;
  const auto add = [&](uint32_t unit) {
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(unit >> shift & 0xFF);
  };
  add(1024);
  for (uint32_t i = 0; i < 256; ++i) add(i | flags);
  bytes += results;
  return R"({"type":"Precompiled","precompiled_charsmap":")" + Base64(bytes) + "\"}";
}

TEST(HostileTokenizerTest, Charsmaps) {
  const auto outcome = [](const std::string& base64) {
    return Outcome(NormalizerFile(
        R"({"type":"Precompiled","precompiled_charsmap":")" + base64 + "\"}", "[x]"));
  };
  EXPECT_THAT(outcome("!!!!"), HasSubstr("is not base64"));
  EXPECT_THAT(outcome("AAA"), HasSubstr("is not base64"));
  EXPECT_THAT(outcome(""), HasSubstr("too few"));
  EXPECT_THAT(outcome("AAAA"), HasSubstr("too few"));
  EXPECT_THAT(outcome("AAAAAAAA"), HasSubstr("its trie should have 0 bytes"));
  EXPECT_THAT(outcome("////////"), HasSubstr("its trie should have 4294967295 bytes"));
  EXPECT_THAT(outcome("BAAAAAAAAAD/"), HasSubstr("of its results is not UTF-8"));
  EXPECT_THAT(outcome(Repeated("AAAA", kMegabyte)), HasSubstr("its trie should have 0 bytes"));
  for (const uint32_t flags :
       {0u, 1u << 8, 1u << 9, 1u << 8 | 1u << 10, 0x80000100u, 0xFFFFFF00u}) {
    EXPECT_EQ(Outcome(NormalizerFile(SelfReferringMap(flags, "abc"), "[x]")), "") << flags;
  }
  // Every code point becomes a thousand, twice.
  const std::string grows = SelfReferringMap(1u << 8, std::string(1000, 'a'));
  EXPECT_THAT(
      Outcome(NormalizerFile(R"({"type":"Sequence","normalizers":[)" + grows + "," + grows + "]}")),
      HasSubstr("as long"));
}

TEST(HostileTokenizerTest, Scores) {
  for (const char* score : {"NaN", "Infinity", "-Infinity", "1e400", "\"0\"", "null", "[0]"}) {
    EXPECT_THAT(Outcome(UnigramFile(std::string("[\"a\",") + score + "]")),
                HasSubstr("must be an array of a piece and its score"))
        << score;
  }
  EXPECT_EQ(Outcome(UnigramFile(R"(["<unk>",0],["a",1e308],["b",-1e308],["ab",1e308],["",5])")),
            "");
}

}  // namespace
}  // namespace bertrand

#include "models/tokenizer/pre_tokenizer.h"

#include <string>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

using PreTokenizerOr = absl::StatusOr<std::unique_ptr<PreTokenizer>>;

enum class Class : uint8_t { kRemoved, kAlone, kLetter, kOther };

// Words are runs of code points of one class; kRemoved ones belong to none, kAlone ones are words
// by themselves.
template <typename Classify>
class ClassSplitter final : public PreTokenizer {
 public:
  explicit ClassSplitter(Classify classify) : classify_(classify) {}
  void Apply(PreTokenized* words) const override {
    words->Cut([this](std::string_view text, WordRange part, std::vector<WordRange>* out) {
      Class last = Class::kRemoved;
      size_t at = part.begin;
      while (at < part.end) {
        const size_t start = at;
        const Class now = classify_(RecordOf(NextCodePoint(text, &at)).flags);
        if (now == Class::kRemoved) {
          // no word
        } else if (now == last && now != Class::kAlone) {
          out->back().end = at;
        } else {
          out->push_back({start, at});
        }
        last = now;
      }
    });
  }

 private:
  Classify classify_;
};

template <typename Classify>
std::unique_ptr<PreTokenizer> SplitByClass(Classify classify) {
  return std::make_unique<ClassSplitter<Classify>>(classify);
}

Class ClassForBert(uint16_t flags) {
  if (flags & kSpace) return Class::kRemoved;
  return flags & kPunctuation ? Class::kAlone : Class::kLetter;
}
// `\w+|[^\w\s]+`
Class ClassForWhitespace(uint16_t flags) {
  if (flags & kWord) return Class::kLetter;
  return flags & kSpace ? Class::kRemoved : Class::kOther;
}
Class ClassForWhitespaceSplit(uint16_t flags) {
  return flags & kSpace ? Class::kRemoved : Class::kLetter;
}

enum class Behavior : uint8_t { kRemoved, kIsolated, kWithPrevious, kWithNext, kContiguous };

// Cuts a part at matches, which come in order and do not overlap, as the library's
// SplitDelimiterBehavior says.
class DelimiterCut {
 public:
  DelimiterCut(Behavior behavior, std::vector<WordRange>* words)
      : behavior_(behavior), words_(*words) {}

  // Text between matches, or a match; not empty.
  void Add(WordRange range, bool is_match) {
    const bool was_match = std::exchange(last_is_match_, is_match);
    const bool is_first = std::exchange(first_, false);
    switch (behavior_) {
      case Behavior::kRemoved:
        if (is_match) return;
        break;
      case Behavior::kIsolated:
        break;
      case Behavior::kContiguous:
        // The library begins as if there had been text before.
        if (!is_first && is_match == was_match) return Extend(range);
        break;
      case Behavior::kWithPrevious:
        if (is_match && !was_match && !is_first) return Extend(range);
        break;
      case Behavior::kWithNext:
        if (!is_match && was_match && !is_first) return Extend(range);
        break;
    }
    words_.push_back(range);
  }

 private:
  void Extend(WordRange range) { words_.back().end = range.end; }
  const Behavior behavior_;
  std::vector<WordRange>& words_;
  bool last_is_match_ = false, first_ = true;
};

class Split final : public PreTokenizer {
 public:
  Split(Pattern pattern, Behavior behavior, bool invert)
      : pattern_(std::move(pattern)), behavior_(behavior), invert_(invert) {}
  void Apply(PreTokenized* words) const override {
    words->Cut([this](std::string_view text, WordRange part, std::vector<WordRange>* out) {
      DelimiterCut cut(behavior_, out);
      size_t done = part.begin;
      WordRange match;
      while (pattern_.Find(text, done, part.end, &match)) {
        if (done < match.begin) cut.Add({done, match.begin}, invert_);
        cut.Add(match, !invert_);
        done = match.end;
      }
      if (done < part.end) cut.Add({done, part.end}, invert_);
    });
  }

 private:
  Pattern pattern_;
  Behavior behavior_;
  bool invert_;
};

// Each code point with a flag is a match: Punctuation and Digits.
class FlagSplit final : public PreTokenizer {
 public:
  FlagSplit(CodePointFlag flag, Behavior behavior) : flag_(flag), behavior_(behavior) {}
  void Apply(PreTokenized* words) const override {
    words->Cut([this](std::string_view text, WordRange part, std::vector<WordRange>* out) {
      DelimiterCut cut(behavior_, out);
      size_t at = part.begin, done = part.begin;
      while (at < part.end) {
        const size_t begin = at;
        if (!HasFlag(NextCodePoint(text, &at), flag_)) continue;
        if (done < begin) cut.Add({done, begin}, false);
        cut.Add({begin, at}, true);
        done = at;
      }
      if (done < part.end) cut.Add({done, part.end}, false);
    });
  }

 private:
  CodePointFlag flag_;
  Behavior behavior_;
};

// What a rewriting pre-tokenizer puts before a word has the source of the word's first code point.
void AppendBefore(const NormalizedText& text, WordRange word, std::string_view prefix,
                  NormalizedText* out) {
  out->text += prefix;
  if (out->tracked) out->source.insert(out->source.end(), prefix.size(), text.source[word.begin]);
}

class ByteLevel final : public PreTokenizer {
 public:
  ByteLevel(bool add_prefix_space, bool use_regex)
      : add_prefix_space_(add_prefix_space), use_regex_(use_regex) {}
  void Apply(PreTokenized* words) const override {
    if (add_prefix_space_) {
      words->Rewrite([](const NormalizedText& text, WordRange word, NormalizedText* out) {
        if (text.text[word.begin] != ' ') AppendBefore(text, word, " ", out);
        out->text.append(text.text, word.begin, word.end - word.begin);
        if (!text.tracked) return;
        const auto at = text.source.begin();
        out->source.insert(out->source.end(), at + static_cast<std::ptrdiff_t>(word.begin),
                           at + static_cast<std::ptrdiff_t>(word.end));
      });
    }
    if (!use_regex_) return;
    words->Cut([](std::string_view text, WordRange part, std::vector<WordRange>* out) {
      size_t at = part.begin;
      while (at < part.end) {
        const size_t end = NextByteLevelWord(text, at, part.end);
        out->push_back({at, end});
        at = end;
      }
    });
  }

 private:
  bool add_prefix_space_, use_regex_;
};

// Spaces become the replacement; each is the start of a word.
class Metaspace final : public PreTokenizer {
 public:
  Metaspace(char32_t replacement, PrependScheme scheme, bool split)
      : scheme_(scheme), split_(split) {
    AppendUtf8(replacement, &replacement_);
  }
  void Apply(PreTokenized* words) const override {
    words->Rewrite([this](const NormalizedText& text, WordRange word, NormalizedText* out) {
      const std::string_view old = std::string_view(text.text).substr(0, word.end);
      const bool has_prefix =
          old[word.begin] == ' ' || old.substr(word.begin).starts_with(replacement_);
      // kFirst: where the source of the word begins at 0.
      const bool wanted = scheme_ == PrependScheme::kAlways ||
                          (scheme_ == PrependScheme::kFirst && text.source[word.begin].start == 0);
      if (wanted && !has_prefix) AppendBefore(text, word, replacement_, out);
      size_t at = word.begin;
      while (at < word.end) {
        const size_t space = std::min(old.find(' ', at), word.end);
        out->text.append(old, at, space - at);
        if (text.tracked) {
          const auto from = text.source.begin();
          out->source.insert(out->source.end(), from + static_cast<std::ptrdiff_t>(at),
                             from + static_cast<std::ptrdiff_t>(space));
        }
        at = space;
        if (at == word.end) break;
        AppendBefore(text, {at, at + 1}, replacement_, out);
        ++at;
      }
    });
    if (split_) words->Cut([this](auto text, auto part, auto* out) { Cut(text, part, out); });
  }

 private:
  void Cut(std::string_view text, WordRange part, std::vector<WordRange>* out) const {
    const std::string_view whole = text.substr(0, part.end);
    size_t begin = part.begin;
    while (begin < part.end) {
      const size_t next = std::min(whole.find(replacement_, begin + 1), part.end);
      out->push_back({begin, next});
      begin = next;
    }
  }

  std::string replacement_;
  PrependScheme scheme_;
  bool split_;
};

class SequencePreTokenizer final : public PreTokenizer {
 public:
  explicit SequencePreTokenizer(std::vector<std::unique_ptr<PreTokenizer>> steps)
      : steps_(std::move(steps)) {}
  void Apply(PreTokenized* words) const override {
    for (const auto& step : steps_) step->Apply(words);
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

absl::StatusOr<Behavior> ParseBehavior(const std::string& name) {
  if (name == "Removed") return Behavior::kRemoved;
  if (name == "Isolated") return Behavior::kIsolated;
  if (name == "MergedWithPrevious") return Behavior::kWithPrevious;
  if (name == "MergedWithNext") return Behavior::kWithNext;
  if (name == "Contiguous") return Behavior::kContiguous;
  return NotSupported("pre_tokenizer: behavior", name,
                      "Removed, Isolated, MergedWithPrevious, MergedWithNext and Contiguous are");
}

PreTokenizerOr ParsePunctuation(const JsonFields& fields) {
  std::string name;
  BERTRAND_ASSIGN_OR_RETURN(name, fields.String("behavior", "Isolated"));
  Behavior behavior;
  BERTRAND_ASSIGN_OR_RETURN(behavior, ParseBehavior(name));
  return std::make_unique<FlagSplit>(kPunctuation, behavior);
}

PreTokenizerOr ParseSplit(const Json& json, const JsonFields& fields) {
  absl::StatusOr<Pattern> pattern = Pattern::Parse(json.Find("pattern"), "pre_tokenizer: Split");
  if (!pattern.ok()) return pattern.status();
  std::string name;
  BERTRAND_ASSIGN_OR_RETURN(name, fields.String("behavior"));
  Behavior behavior;
  BERTRAND_ASSIGN_OR_RETURN(behavior, ParseBehavior(name));
  bool invert;
  BERTRAND_ASSIGN_OR_RETURN(invert, fields.Bool("invert", false));
  return std::make_unique<Split>(*std::move(pattern), behavior, invert);
}

PreTokenizerOr ParseByteLevel(const JsonFields& fields, PreTokenizerTraits* traits) {
  PreTokenizerTraits::ByteLevel options;
  BERTRAND_ASSIGN_OR_RETURN(options.add_prefix_space, fields.Bool("add_prefix_space"));
  BERTRAND_ASSIGN_OR_RETURN(options.use_regex, fields.Bool("use_regex", true));
  options.alone = true;
  traits->byte_level = options;
  return MakeByteLevelPreTokenizer(options.add_prefix_space, options.use_regex);
}

PreTokenizerOr ParseMetaspace(const Json& json, const JsonFields& fields,
                              PreTokenizerTraits* traits) {
  char32_t replacement;
  BERTRAND_ASSIGN_OR_RETURN(replacement, ParseReplacement(json, "pre_tokenizer: Metaspace"));
  PrependScheme scheme;
  BERTRAND_ASSIGN_OR_RETURN(scheme, ParsePrependScheme(json, "pre_tokenizer: Metaspace"));
  traits->needs_sources = scheme == PrependScheme::kFirst;
  bool split;
  BERTRAND_ASSIGN_OR_RETURN(split, fields.Bool("split", true));
  return MakeMetaspacePreTokenizer(replacement, scheme, split);
}

PreTokenizerOr ParseSequence(const Json& json, PreTokenizerTraits* traits) {
  const Json* list = json.Find("pretokenizers");
  if (list == nullptr || !list->is_array()) {
    return InvalidArgument("pre_tokenizer: `pretokenizers` must be an array");
  }
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  for (const Json& element : list->elements()) {
    if (traits->byte_level.has_value()) {
      return Unimplemented("pre_tokenizer: ByteLevel is supported as the last of a Sequence only");
    }
    PreTokenizerTraits step_traits;
    std::unique_ptr<PreTokenizer> step;
    BERTRAND_ASSIGN_OR_RETURN(step, ParsePreTokenizer(&element, &step_traits));
    traits->needs_sources |= step_traits.needs_sources;
    if (step_traits.byte_level.has_value()) {
      traits->byte_level = step_traits.byte_level;
      traits->byte_level->alone = false;
    }
    if (step != nullptr) steps.push_back(std::move(step));
  }
  return std::make_unique<SequencePreTokenizer>(std::move(steps));
}

}  // namespace

void PreTokenized::Start(const NormalizedText& text, WordRange part) {
  text_ = &text;
  words_.assign(1, part);
}

std::unique_ptr<PreTokenizer> MakeBertPreTokenizer() { return SplitByClass(ClassForBert); }

std::unique_ptr<PreTokenizer> MakeByteLevelPreTokenizer(bool add_prefix_space, bool use_regex) {
  return std::make_unique<ByteLevel>(add_prefix_space, use_regex);
}

std::unique_ptr<PreTokenizer> MakeMetaspacePreTokenizer(char32_t replacement, PrependScheme scheme,
                                                        bool split) {
  return std::make_unique<Metaspace>(replacement, scheme, split);
}

absl::StatusOr<PrependScheme> ParsePrependScheme(const Json& json, std::string_view where) {
  const JsonFields fields(json, where);
  std::string name;
  BERTRAND_ASSIGN_OR_RETURN(name, fields.String("prepend_scheme", ""));
  if (name == "always") return PrependScheme::kAlways;
  if (name == "first") return PrependScheme::kFirst;
  if (name == "never") return PrependScheme::kNever;
  if (!name.empty()) {
    return NotSupported(std::string(where) + ": prepend_scheme", name,
                        "always, first and never are");
  }
  bool add_prefix_space;
  BERTRAND_ASSIGN_OR_RETURN(add_prefix_space, fields.Bool("add_prefix_space", true));
  return add_prefix_space ? PrependScheme::kAlways : PrependScheme::kNever;
}

absl::StatusOr<char32_t> ParseReplacement(const Json& json, std::string_view where) {
  std::string text;
  BERTRAND_ASSIGN_OR_RETURN(text, JsonFields(json, where).String("replacement"));
  size_t at = 0;
  const char32_t c = text.empty() ? 0 : NextCodePoint(text, &at);
  if (text.empty() || at != text.size()) {
    return InvalidArgument(std::string(where) + ": `replacement` must be one character, not \"" +
                           text + "\"");
  }
  return c;
}

PreTokenizerOr ParsePreTokenizer(const Json* json, PreTokenizerTraits* traits) {
  *traits = {};
  if (json == nullptr || json->is_null()) return std::unique_ptr<PreTokenizer>();
  const JsonFields fields(*json, "pre_tokenizer");
  std::string type;
  BERTRAND_ASSIGN_OR_RETURN(type, fields.String("type"));
  traits->is_bert = type == "BertPreTokenizer";
  if (traits->is_bert) return MakeBertPreTokenizer();
  if (type == "Whitespace") return SplitByClass(ClassForWhitespace);
  if (type == "WhitespaceSplit") return SplitByClass(ClassForWhitespaceSplit);
  if (type == "Punctuation") return ParsePunctuation(fields);
  if (type == "Digits") {
    bool individual;
    BERTRAND_ASSIGN_OR_RETURN(individual, fields.Bool("individual_digits"));
    return std::make_unique<FlagSplit>(kNumeric,
                                       individual ? Behavior::kIsolated : Behavior::kContiguous);
  }
  if (type == "Split") return ParseSplit(*json, fields);
  if (type == "ByteLevel") return ParseByteLevel(fields, traits);
  if (type == "Metaspace") return ParseMetaspace(*json, fields, traits);
  if (type == "Sequence") return ParseSequence(*json, traits);
  return NotSupported("pre_tokenizer", type,
                      "BertPreTokenizer, ByteLevel, Digits, Metaspace, Punctuation, Sequence, "
                      "Split, Whitespace and WhitespaceSplit are");
}

}  // namespace bertrand

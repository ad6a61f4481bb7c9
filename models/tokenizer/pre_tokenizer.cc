#include "models/tokenizer/pre_tokenizer.h"

#include <string>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

enum class Class : uint8_t { kRemoved, kAlone, kLetter, kOther };

// Words are runs of code points of one class; kRemoved ones belong to none, kAlone ones are words
// by themselves.
template <typename Classify>
void SplitByClass(std::string_view text, WordRange part, std::vector<WordRange>* words,
                  Classify classify) {
  Class last = Class::kRemoved;
  size_t at = part.begin;
  while (at < part.end) {
    const size_t start = at;
    const Class now = classify(RecordOf(NextCodePoint(text, &at)).flags);
    if (now == Class::kRemoved) {
      // no word
    } else if (now == last && now != Class::kAlone) {
      words->back().end = at;
    } else {
      words->push_back({start, at});
    }
    last = now;
  }
}

class BertPreTokenizer final : public PreTokenizer {
 public:
  void Split(std::string_view text, WordRange part, std::vector<WordRange>* words) const override {
    SplitByClass(text, part, words, [](uint8_t flags) {
      if (flags & kSpace) return Class::kRemoved;
      return flags & kPunctuation ? Class::kAlone : Class::kLetter;
    });
  }
};

// `\w+|[^\w\s]+`
class WhitespacePreTokenizer final : public PreTokenizer {
 public:
  void Split(std::string_view text, WordRange part, std::vector<WordRange>* words) const override {
    SplitByClass(text, part, words, [](uint8_t flags) {
      if (flags & kWord) return Class::kLetter;
      return flags & kSpace ? Class::kRemoved : Class::kOther;
    });
  }
};

class WhitespaceSplitPreTokenizer final : public PreTokenizer {
 public:
  void Split(std::string_view text, WordRange part, std::vector<WordRange>* words) const override {
    SplitByClass(text, part, words,
                 [](uint8_t flags) { return flags & kSpace ? Class::kRemoved : Class::kLetter; });
  }
};

class PunctuationPreTokenizer final : public PreTokenizer {
 public:
  // What a punctuation mark becomes: alone, removed, or a run.
  explicit PunctuationPreTokenizer(Class punctuation) : punctuation_(punctuation) {}
  void Split(std::string_view text, WordRange part, std::vector<WordRange>* words) const override {
    SplitByClass(text, part, words, [this](uint8_t flags) {
      return flags & kPunctuation ? punctuation_ : Class::kLetter;
    });
  }

 private:
  Class punctuation_;
};

class SequencePreTokenizer final : public PreTokenizer {
 public:
  explicit SequencePreTokenizer(std::vector<std::unique_ptr<PreTokenizer>> steps)
      : steps_(std::move(steps)) {}
  void Split(std::string_view text, WordRange part, std::vector<WordRange>* words) const override {
    std::vector<WordRange> now{part}, next;
    for (const auto& step : steps_) {
      next.clear();
      for (const WordRange& word : now) step->Split(text, word, &next);
      std::swap(now, next);
    }
    words->insert(words->end(), now.begin(), now.end());
  }

 private:
  std::vector<std::unique_ptr<PreTokenizer>> steps_;
};

absl::StatusOr<std::unique_ptr<PreTokenizer>> ParsePunctuation(const Json& json) {
  std::string behavior;
  BERTRAND_ASSIGN_OR_RETURN(behavior,
                            JsonFields(json, "pre_tokenizer").String("behavior", "Isolated"));
  Class punctuation;
  if (behavior == "Isolated") {
    punctuation = Class::kAlone;
  } else if (behavior == "Removed") {
    punctuation = Class::kRemoved;
  } else if (behavior == "Contiguous") {
    punctuation = Class::kOther;
  } else {
    return NotSupported("pre_tokenizer: Punctuation behavior", behavior,
                        "Isolated, Removed and Contiguous are");
  }
  return std::make_unique<PunctuationPreTokenizer>(punctuation);
}

absl::StatusOr<std::unique_ptr<PreTokenizer>> ParseSequence(const Json& json) {
  const Json* list = json.Find("pretokenizers");
  if (list == nullptr || !list->is_array()) {
    return InvalidArgument("pre_tokenizer: `pretokenizers` must be an array");
  }
  std::vector<std::unique_ptr<PreTokenizer>> steps;
  for (const Json& element : list->elements()) {
    bool is_bert;
    std::unique_ptr<PreTokenizer> step;
    BERTRAND_ASSIGN_OR_RETURN(step, ParsePreTokenizer(&element, &is_bert));
    if (step != nullptr) steps.push_back(std::move(step));
  }
  return std::make_unique<SequencePreTokenizer>(std::move(steps));
}

}  // namespace

absl::StatusOr<std::unique_ptr<PreTokenizer>> ParsePreTokenizer(const Json* json, bool* is_bert) {
  *is_bert = false;
  if (json == nullptr || json->is_null()) return std::unique_ptr<PreTokenizer>();
  std::string type;
  BERTRAND_ASSIGN_OR_RETURN(type, JsonFields(*json, "pre_tokenizer").String("type"));
  *is_bert = type == "BertPreTokenizer";
  if (*is_bert) return std::make_unique<BertPreTokenizer>();
  if (type == "Whitespace") return std::make_unique<WhitespacePreTokenizer>();
  if (type == "WhitespaceSplit") return std::make_unique<WhitespaceSplitPreTokenizer>();
  if (type == "Punctuation") return ParsePunctuation(*json);
  if (type == "Sequence") return ParseSequence(*json);
  return NotSupported(
      "pre_tokenizer", type,
      "BertPreTokenizer, Whitespace, WhitespaceSplit, Punctuation and Sequence are");
}

}  // namespace bertrand

// The `normalizer` of tokenizer.json, and the small normalizers.

#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/charsmap.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/normalizer.h"
#include "models/tokenizer/pattern.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

using NormalizerOr = absl::StatusOr<std::unique_ptr<Normalizer>>;
using Step = void (*)(NormalizedText* text, NormalizedText* spare);

// A normalizer without options.
class StepNormalizer final : public Normalizer {
 public:
  explicit StepNormalizer(Step step) : step_(step) {}
  void Normalize(NormalizedText* text, NormalizedText* spare) const override { step_(text, spare); }

 private:
  Step step_;
};

// Calls visit(code point, source, out) for each code point of *text, which becomes what is
// appended.
template <typename Visit>
void ForEach(NormalizedText* text, NormalizedText* spare, Visit visit) {
  spare->Clear();
  spare->tracked = text->tracked;
  size_t at = 0;
  while (at < text->text.size()) {
    const SourceRange from = text->tracked ? text->source[at] : SourceRange{};
    const char32_t c = NextCodePoint(text->text, &at);
    visit(c, from, spare);
  }
  text->Swap(spare);
}

void RemoveMarks(NormalizedText* text, NormalizedText* spare) {
  ForEach(text, spare, [](char32_t c, SourceRange from, NormalizedText* out) {
    if (!HasFlag(c, kMark)) out->Append(c, from);
  });
}

// The normaliser of Google's NMT system: controls vanish, separators become spaces.
void NormalizeNmt(NormalizedText* text, NormalizedText* spare) {
  ForEach(text, spare, [](char32_t c, SourceRange from, NormalizedText* out) {
    const bool vanishes = (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F ||
                          c == 0x8F || c == 0x9F;
    if (vanishes) return;
    const bool is_space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 ||
                          (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
                          c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
    out->Append(is_space ? U' ' : c, from);
  });
}

class Strip final : public Normalizer {
 public:
  Strip(bool left, bool right) : left_(left), right_(right) {}
  void Normalize(NormalizedText* text, NormalizedText*) const override {
    std::string& bytes = text->text;
    size_t end = bytes.size(), begin = 0;
    while (right_ && end > 0) {
      size_t at = PreviousBoundary(bytes, end);
      const size_t start = at;
      if (!HasFlag(NextCodePoint(bytes, &at), kSpace)) break;
      end = start;
    }
    while (left_ && begin < end) {
      size_t at = begin;
      if (!HasFlag(NextCodePoint(bytes, &at), kSpace)) break;
      begin = at;
    }
    Cut(begin, end, text);
  }

 private:
  static void Cut(size_t begin, size_t end, NormalizedText* text) {
    if (begin == 0 && end == text->text.size()) return;
    text->text.erase(end);
    text->text.erase(0, begin);
    if (!text->tracked) return;
    text->source.resize(end);
    text->source.erase(text->source.begin(),
                       text->source.begin() + static_cast<std::ptrdiff_t>(begin));
  }
  bool left_, right_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string text) : text_(std::move(text)) {}
  void Normalize(NormalizedText* text, NormalizedText*) const override {
    if (text->text.empty()) return;
    text->text.insert(0, text_);
    if (text->tracked) {
      const SourceRange first = text->source.front();
      text->source.insert(text->source.begin(), text_.size(), first);
    }
  }
  // Of a text of one byte.
  uint64_t MaxGrowth() const override { return 1 + text_.size(); }

 private:
  std::string text_;
};

// What takes a match's place has the source of the match's last code point.
class Replace final : public Normalizer {
 public:
  Replace(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void Normalize(NormalizedText* text, NormalizedText* spare) const override {
    const std::string& old = text->text;
    WordRange match;
    if (!pattern_.Find(old, 0, old.size(), &match)) return;
    spare->Clear();
    spare->tracked = text->tracked;
    size_t done = 0;
    const auto copy = [&](size_t end) {
      spare->text.append(old, done, end - done);
      if (!text->tracked) return;
      const auto at = text->source.begin();
      spare->source.insert(spare->source.end(), at + static_cast<std::ptrdiff_t>(done),
                           at + static_cast<std::ptrdiff_t>(end));
    };
    do {
      copy(match.begin);
      spare->text += content_;
      if (text->tracked) {
        spare->source.insert(spare->source.end(), content_.size(), text->source[match.end - 1]);
      }
      done = match.end;
    } while (pattern_.Find(old, done, old.size(), &match));
    copy(old.size());
    text->Swap(spare);
  }
  uint64_t MaxGrowth() const override { return pattern_.MaxGrowth(content_); }

 private:
  Pattern pattern_;
  std::string content_;
};

class SequenceNormalizer final : public Normalizer {
 public:
  explicit SequenceNormalizer(std::vector<std::unique_ptr<Normalizer>> steps)
      : steps_(std::move(steps)) {}
  void Normalize(NormalizedText* text, NormalizedText* spare) const override {
    for (const auto& step : steps_) step->Normalize(text, spare);
  }
  uint64_t MaxGrowth() const override {
    uint64_t growth = 1;
    for (const auto& step : steps_) growth = MultipliedGrowth(growth, step->MaxGrowth());
    return growth;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

absl::StatusOr<BertNormalizerOptions> ParseBertOptions(const JsonFields& fields, const Json& json) {
  BertNormalizerOptions options;
  BERTRAND_ASSIGN_OR_RETURN(options.clean_text, fields.Bool("clean_text"));
  BERTRAND_ASSIGN_OR_RETURN(options.handle_chinese_chars, fields.Bool("handle_chinese_chars"));
  BERTRAND_ASSIGN_OR_RETURN(options.lowercase, fields.Bool("lowercase"));
  options.strip_accents = options.lowercase;  // null: as the original BERT
  if (json.FindNonNull("strip_accents") != nullptr) {
    BERTRAND_ASSIGN_OR_RETURN(options.strip_accents, fields.Bool("strip_accents"));
  }
  return options;
}

NormalizerOr ParseSequence(const Json& json) {
  const Json* list = json.Find("normalizers");
  if (list == nullptr || !list->is_array()) {
    return InvalidArgument("normalizer: `normalizers` must be an array");
  }
  std::vector<std::unique_ptr<Normalizer>> steps;
  for (const Json& element : list->elements()) {
    std::unique_ptr<Normalizer> step;
    BERTRAND_ASSIGN_OR_RETURN(step, ParseNormalizer(&element, nullptr));
    if (step != nullptr) steps.push_back(std::move(step));
  }
  return std::make_unique<SequenceNormalizer>(std::move(steps));
}

NormalizerOr ParseCharsmap(const Json& json, const JsonFields& fields) {
  if (json.FindNonNull("precompiled_charsmap") == nullptr) return std::unique_ptr<Normalizer>();
  std::string text;
  BERTRAND_ASSIGN_OR_RETURN(text, fields.String("precompiled_charsmap"));
  const std::optional<std::string> bytes = DecodeBase64(text);
  if (!bytes.has_value()) {
    return InvalidArgument("normalizer: `precompiled_charsmap` is not base64");
  }
  std::unique_ptr<Charsmap> map;
  BERTRAND_ASSIGN_OR_RETURN(map, Charsmap::Create(*bytes));
  return map;
}

struct NamedStep {
  const char* name;
  Step step;
};
constexpr NamedStep kSteps[] = {
    {"NFC", [](NormalizedText* t, NormalizedText* s) { ApplyForm(false, true, t, s); }},
    {"NFD", [](NormalizedText* t, NormalizedText* s) { ApplyForm(false, false, t, s); }},
    {"NFKC", [](NormalizedText* t, NormalizedText* s) { ApplyForm(true, true, t, s); }},
    {"NFKD", [](NormalizedText* t, NormalizedText* s) { ApplyForm(true, false, t, s); }},
    {"Lowercase", LowerCase},
    {"Nmt", NormalizeNmt},
    {"StripAccents", RemoveMarks},
};

}  // namespace

std::unique_ptr<Normalizer> MakeSequenceNormalizer(NormalizerList steps) {
  return std::make_unique<SequenceNormalizer>(std::move(steps));
}

NormalizerOr ParseNormalizer(const Json* json, std::optional<BertNormalizerOptions>* bert) {
  if (json == nullptr || json->is_null()) return std::unique_ptr<Normalizer>();
  const JsonFields fields(*json, "normalizer");
  std::string type;
  BERTRAND_ASSIGN_OR_RETURN(type, fields.String("type"));
  for (const NamedStep& step : kSteps) {
    if (type == step.name) return std::make_unique<StepNormalizer>(step.step);
  }
  if (type == "Sequence") return ParseSequence(*json);
  if (type == "Precompiled") return ParseCharsmap(*json, fields);
  if (type == "BertNormalizer") {
    BertNormalizerOptions options;
    BERTRAND_ASSIGN_OR_RETURN(options, ParseBertOptions(fields, *json));
    if (bert != nullptr) *bert = options;
    return std::make_unique<BertNormalizer>(options);
  }
  if (type == "Strip") {
    bool left, right;
    BERTRAND_ASSIGN_OR_RETURN(left, fields.Bool("strip_left"));
    BERTRAND_ASSIGN_OR_RETURN(right, fields.Bool("strip_right"));
    return std::make_unique<Strip>(left, right);
  }
  if (type == "Prepend") {
    std::string text;
    BERTRAND_ASSIGN_OR_RETURN(text, fields.String("prepend"));
    return std::make_unique<Prepend>(std::move(text));
  }
  if (type == "Replace") {
    std::string content;
    BERTRAND_ASSIGN_OR_RETURN(content, fields.String("content"));
    absl::StatusOr<Pattern> pattern = Pattern::Parse(json->Find("pattern"), "normalizer: Replace");
    if (!pattern.ok()) return pattern.status();
    return std::make_unique<Replace>(*std::move(pattern), std::move(content));
  }
  return NotSupported("normalizer", type,
                      "BertNormalizer, Lowercase, NFC, NFD, NFKC, NFKD, Nmt, Precompiled, Prepend, "
                      "Replace, Sequence, Strip and StripAccents are");
}

}  // namespace bertrand

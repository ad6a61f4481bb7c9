#include "models/tokenizer/normalizer.h"

#include <algorithm>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

// Calls visit(code point, source range) for each code point of `text`.
template <typename Visit>
void ForEachCodePoint(const NormalizedText& text, Visit visit) {
  size_t i = 0;
  while (i < text.text.size()) {
    const SourceRange from = text.source[i];
    const char32_t c = NextCodePoint(text.text, &i);
    visit(c, from);
  }
}

// One step: *spare is filled from *text by `visit(c, from, out)`, then they are exchanged.
template <typename Visit>
void Rewrite(NormalizedText* text, NormalizedText* spare, Visit visit) {
  spare->Clear();
  ForEachCodePoint(*text, [&](char32_t c, SourceRange from) { visit(c, from, spare); });
  std::swap(text->text, spare->text);
  std::swap(text->source, spare->source);
}

}  // namespace

void CanonicalDecomposer::Start(NormalizedText* out) {
  out_ = out;
  run_.clear();
  sources_.clear();
  next_source_ = 0;
}

void CanonicalDecomposer::Add(char32_t c, SourceRange from) {
  char32_t parts[kMaxDecomposition];
  const size_t count = Decompose(c, parts);
  for (size_t i = 0; i < count; ++i) {
    const uint8_t rank = RecordOf(parts[i]).combining_rank;
    if (rank == 0) Flush();
    if (i == 0) sources_.push_back(from);
    run_.push_back({parts[i], rank, i == 0});
    if (rank == 0) Flush();
  }
}

void CanonicalDecomposer::Flush() {
  std::stable_sort(run_.begin(), run_.end(),
                   [](const Part& a, const Part& b) { return a.rank < b.rank; });
  for (const Part& part : run_) {
    if (part.replaces) last_ = sources_[next_source_++];
    out_->Append(part.c, last_);
  }
  run_.clear();
  sources_.clear();
  next_source_ = 0;
}

void NormalizedText::Assign(std::string_view source_text, uint32_t base) {
  text.assign(source_text);
  source.resize(source_text.size());
  size_t i = 0;
  while (i < source_text.size()) {
    const size_t start = i;
    NextCodePoint(source_text, &i);
    const SourceRange range{base + static_cast<uint32_t>(start), base + static_cast<uint32_t>(i)};
    std::fill(source.begin() + start, source.begin() + i, range);
  }
}

void NormalizedText::Append(char32_t c, SourceRange from) {
  char buffer[4];
  const size_t length = WriteUtf8(c, buffer);
  text.append(buffer, length);
  source.insert(source.end(), length, from);
}

void CleanText(NormalizedText* text, NormalizedText* spare) {
  Rewrite(text, spare, [](char32_t c, SourceRange from, NormalizedText* out) {
    const uint8_t flags = RecordOf(c).flags;
    if (flags & kCleanedAway) return;
    out->Append(flags & kSpace ? U' ' : c, from);
  });
}

void IsolateIdeographs(NormalizedText* text, NormalizedText* spare) {
  Rewrite(text, spare, [](char32_t c, SourceRange from, NormalizedText* out) {
    const bool isolate = HasFlag(c, kIdeograph);
    if (isolate) out->Append(U' ', from);
    out->Append(c, from);
    if (isolate) out->Append(U' ', from);
  });
}

void DecomposeCanonically(NormalizedText* text, NormalizedText* spare) {
  spare->Clear();
  CanonicalDecomposer decomposer;
  decomposer.Start(spare);
  ForEachCodePoint(*text, [&](char32_t c, SourceRange from) { decomposer.Add(c, from); });
  decomposer.Flush();
  std::swap(text->text, spare->text);
  std::swap(text->source, spare->source);
}

void RemoveNonspacingMarks(NormalizedText* text, NormalizedText* spare) {
  Rewrite(text, spare, [](char32_t c, SourceRange from, NormalizedText* out) {
    if (!HasFlag(c, kNonspacingMark)) out->Append(c, from);
  });
}

void LowerCase(NormalizedText* text, NormalizedText* spare) {
  Rewrite(text, spare, [](char32_t c, SourceRange from, NormalizedText* out) {
    const uint16_t lower = RecordOf(c).lower;
    if (lower == 0) {
      out->Append(c, from);
      return;
    }
    for (const char32_t part : SequenceAt(lower)) out->Append(part, from);
  });
}

void BertNormalizer::Normalize(NormalizedText* text, NormalizedText* spare) const {
  if (options_.clean_text) CleanText(text, spare);
  if (options_.handle_chinese_chars) IsolateIdeographs(text, spare);
  if (options_.strip_accents) {
    DecomposeCanonically(text, spare);
    RemoveNonspacingMarks(text, spare);
  }
  if (options_.lowercase) LowerCase(text, spare);
}

namespace {

class NfdNormalizer final : public Normalizer {
 public:
  void Normalize(NormalizedText* text, NormalizedText* spare) const override {
    DecomposeCanonically(text, spare);
  }
};

class LowercaseNormalizer final : public Normalizer {
 public:
  void Normalize(NormalizedText* text, NormalizedText* spare) const override {
    LowerCase(text, spare);
  }
};

class SequenceNormalizer final : public Normalizer {
 public:
  explicit SequenceNormalizer(std::vector<std::unique_ptr<Normalizer>> steps)
      : steps_(std::move(steps)) {}
  void Normalize(NormalizedText* text, NormalizedText* spare) const override {
    for (const auto& step : steps_) step->Normalize(text, spare);
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

absl::StatusOr<BertNormalizerOptions> ParseBertOptions(const Json& json) {
  const JsonFields fields(json, "normalizer");
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

absl::StatusOr<std::unique_ptr<Normalizer>> ParseSequence(const Json& json) {
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

}  // namespace

absl::StatusOr<std::unique_ptr<Normalizer>> ParseNormalizer(
    const Json* json, std::optional<BertNormalizerOptions>* bert) {
  if (json == nullptr || json->is_null()) return std::unique_ptr<Normalizer>();
  std::string type;
  BERTRAND_ASSIGN_OR_RETURN(type, JsonFields(*json, "normalizer").String("type"));
  if (type == "BertNormalizer") {
    BertNormalizerOptions options;
    BERTRAND_ASSIGN_OR_RETURN(options, ParseBertOptions(*json));
    if (bert != nullptr) *bert = options;
    return std::make_unique<BertNormalizer>(options);
  }
  if (type == "Lowercase") return std::make_unique<LowercaseNormalizer>();
  if (type == "NFD") return std::make_unique<NfdNormalizer>();
  if (type == "Sequence") return ParseSequence(*json);
  return NotSupported("normalizer", type, "BertNormalizer, Lowercase, NFD and Sequence are");
}

}  // namespace bertrand

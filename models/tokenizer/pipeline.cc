#include "models/tokenizer/pipeline.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {

struct Encoding::Scratch {
  TokenRun runs[2];
  BertSplitter::Word word;
  NormalizedText text, spare;
  std::vector<WordRange> words;
  std::vector<uint32_t> ends;
};

namespace {

// Turns byte positions into code points, for positions that mostly grow.
class CodePointCursor {
 public:
  explicit CodePointCursor(std::string_view text) : text_(text) {}
  uint32_t At(uint32_t byte) {
    for (; byte_ < byte; ++byte_) code_point_ += IsStart(byte_);
    for (; byte_ > byte; --byte_) code_point_ -= IsStart(byte_ - 1);
    return code_point_;
  }

 private:
  bool IsStart(uint32_t byte) const {
    return (static_cast<unsigned char>(text_[byte]) & 0xC0) != 0x80;
  }
  std::string_view text_;
  uint32_t byte_ = 0, code_point_ = 0;
};

void FillSpans(std::string_view text, const SourceRange* sources, size_t count, TokenSpan* spans) {
  if (CountCodePoints(text) == text.size()) {
    for (size_t i = 0; i < count; ++i) {
      const SourceRange& range = sources[i];
      spans[i] = {range.start, range.end, range.start, range.end};
    }
    return;
  }
  CodePointCursor starts(text), ends(text);
  for (size_t i = 0; i < count; ++i) {
    const SourceRange& range = sources[i];
    spans[i] = {starts.At(range.start), ends.At(range.end), range.start, range.end};
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Pipeline::Create(PipelineParts parts,
                                                            bool allow_short_way) {
  std::unique_ptr<Pipeline> pipeline(new Pipeline(std::move(parts)));
  PipelineParts& made = pipeline->parts_;
  BERTRAND_CHECK(made.model != nullptr && made.decoder != nullptr, "parts are missing");
  BERTRAND_RETURN_IF_ERROR(made.added_tokens.Build(made.normalizer.get()));
  for (const bool is_pair : {false, true}) {
    for (const TemplatePiece& piece : made.post_processor.Pieces(is_pair)) {
      for (const int32_t id : piece.ids) {
        if (id < pipeline->vocab_size()) continue;
        return InvalidArgument("post_processor: token id " + std::to_string(id) +
                               " is not in the vocabulary of " +
                               std::to_string(pipeline->vocab_size()));
      }
    }
  }
  // Added tokens that are looked for in normalised text need that text as a whole.
  if (allow_short_way && made.bert_normalizer.has_value() && made.bert_pre_tokenizer &&
      !made.added_tokens.has_normalized()) {
    pipeline->short_way_.emplace(*made.bert_normalizer, *made.model);
  }
  return pipeline;
}

void Pipeline::TokenizeWords(WordRange part, Encoding::Scratch* scratch, TokenRun* run) const {
  const NormalizedText& text = scratch->text;
  scratch->words.clear();
  if (parts_.pre_tokenizer == nullptr) {
    scratch->words.push_back(part);
  } else {
    parts_.pre_tokenizer->Split(text.text, part, &scratch->words);
  }
  const WordPiece& model = *parts_.model;
  for (const WordRange& range : scratch->words) {
    const std::string_view word =
        std::string_view(text.text).substr(range.begin, range.end - range.begin);
    size_t count = 0;
    if (CountCodePoints(word) <= model.max_input_chars()) {
      run->Reserve(word.size());
      if (scratch->ends.size() < word.size()) scratch->ends.resize(2 * word.size());
      count = model.Match(word, run->next_id(), scratch->ends.data());
    }
    if (count == 0) {
      if (!model.unk_id().has_value()) {
        scratch->word.missing_unk = true;
        continue;
      }
      run->Add(*model.unk_id(), {text.source[range.begin].start, text.source[range.end - 1].end});
      run->EndWord();
      continue;
    }
    size_t start = range.begin;
    for (size_t i = 0; run->want_sources() && i < count; ++i) {
      const size_t end = range.begin + scratch->ends[i];
      run->AddSource({text.source[start].start, text.source[end - 1].end}, run->size() + i);
      start = end;
    }
    run->Advance(count);
    run->EndWord();
  }
}

void Pipeline::TokenizeStepByStep(std::string_view text, size_t begin, size_t end,
                                  Encoding::Scratch* scratch, TokenRun* run) const {
  NormalizedText& normalized = scratch->text;
  normalized.Assign(text.substr(begin, end - begin), static_cast<uint32_t>(begin));
  if (parts_.normalizer != nullptr) parts_.normalizer->Normalize(&normalized, &scratch->spare);
  parts_.added_tokens.Split(true, normalized.text, [&](const AddedMatch& match) {
    if (match.id < 0) {
      TokenizeWords({match.begin, match.end}, scratch, run);
    } else {
      run->Add(match.id,
               {normalized.source[match.begin].start, normalized.source[match.end - 1].end});
      run->EndWord();
    }
  });
}

void Pipeline::TokenizePart(std::string_view text, size_t begin, size_t end,
                            Encoding::Scratch* scratch, TokenRun* run) const {
  if (short_way_.has_value()) {
    short_way_->Tokenize(text, begin, end, &scratch->word, run);
  } else {
    TokenizeStepByStep(text, begin, end, scratch, run);
  }
}

absl::Status Pipeline::Tokenize(std::string_view text, Encoding::Scratch* scratch,
                                TokenRun* run) const {
  if (text.size() >= std::numeric_limits<uint32_t>::max()) {
    return InvalidArgument("a text of " + std::to_string(text.size()) + " bytes is too long");
  }
  if (const auto invalid = FindInvalidUtf8(text)) {
    return InvalidArgument("the text is not valid UTF-8 at byte " + std::to_string(*invalid));
  }
  scratch->word.missing_unk = false;
  parts_.added_tokens.Split(false, text, [&](const AddedMatch& match) {
    if (match.id < 0) {
      TokenizePart(text, match.begin, match.end, scratch, run);
    } else {
      run->Add(match.id, {static_cast<uint32_t>(match.begin), static_cast<uint32_t>(match.end)});
      run->EndWord();
    }
  });
  if (scratch->word.missing_unk) {
    return InvalidArgument("a word needs the unknown token \"" + parts_.model->options().unk_token +
                           "\", which the vocabulary does not have");
  }
  return absl::OkStatus();
}

absl::Status Pipeline::Encode(std::string_view first, const std::string_view* second,
                              const EncodeOptions& options, Encoding* encoding) const {
  if (encoding->scratch == nullptr) encoding->scratch = std::make_shared<Encoding::Scratch>();
  Encoding::Scratch* scratch = encoding->scratch.get();
  const bool is_pair = second != nullptr;
  for (TokenRun& run : scratch->runs) run.Clear(options.want_spans, options.want_words);
  BERTRAND_RETURN_IF_ERROR(Tokenize(first, scratch, &scratch->runs[0]));
  if (is_pair) {
    if (absl::Status status = Tokenize(*second, scratch, &scratch->runs[1]); !status.ok()) {
      return Annotate(status, "second text");
    }
  }
  const int64_t num_special = options.add_special_tokens ? num_special_tokens(is_pair) : 0;
  const size_t num_first = scratch->runs[0].size(), num_second = scratch->runs[1].size();
  KeptTokens kept;
  BERTRAND_ASSIGN_OR_RETURN(kept, Truncate(num_first, num_second, is_pair, num_special, options));
  encoding->num_truncated = static_cast<int64_t>(num_first - kept.first + num_second - kept.second);
  const std::string_view texts[2] = {first, is_pair ? *second : std::string_view()};
  Assemble(kept, texts, is_pair, options, encoding);
  return absl::OkStatus();
}

void Pipeline::Assemble(const KeptTokens& kept, const std::string_view* texts, bool is_pair,
                        const EncodeOptions& options, Encoding* encoding) const {
  const std::vector<TemplatePiece>& pieces = parts_.post_processor.Pieces(is_pair);
  const size_t kept_of[2] = {kept.first, kept.second};
  size_t total = 0;
  for (const TemplatePiece& piece : pieces) {
    total += piece.sequence >= 0          ? kept_of[piece.sequence]
             : options.add_special_tokens ? piece.ids.size()
                                          : 0;
  }
  encoding->ids.resize(total);
  encoding->type_ids.resize(total);
  encoding->special.resize(total);
  encoding->sequence.resize(total);
  encoding->spans.assign(options.want_spans ? total : 0, TokenSpan{});
  encoding->words.assign(options.want_words ? total : 0, -1);
  const TruncationSide side =
      options.side == TruncationSide::kAsConfigured ? parts_.truncation_side : options.side;
  size_t at = 0;
  for (const TemplatePiece& piece : pieces) {
    const bool is_special = piece.sequence < 0;
    if (is_special && !options.add_special_tokens) continue;
    const TokenRun& run = encoding->scratch->runs[is_special ? 0 : piece.sequence];
    const size_t count = is_special ? piece.ids.size() : kept_of[piece.sequence];
    const size_t skip = side == TruncationSide::kLeft ? run.size() - count : 0;
    const int32_t* ids = is_special ? piece.ids.data() : run.ids() + skip;
    std::copy_n(ids, count, encoding->ids.begin() + at);
    std::fill_n(encoding->type_ids.begin() + at, count, piece.type_id);
    std::fill_n(encoding->special.begin() + at, count, is_special ? 1 : 0);
    std::fill_n(encoding->sequence.begin() + at, count, static_cast<int8_t>(piece.sequence));
    if (options.want_spans && !is_special) {
      FillSpans(texts[piece.sequence], run.sources() + skip, count, encoding->spans.data() + at);
    }
    if (options.want_words && !is_special) {
      std::copy_n(run.words() + skip, count, encoding->words.begin() + at);
    }
    at += count;
  }
}

absl::StatusOr<std::string> Pipeline::Decode(std::span<const uint32_t> ids,
                                             bool skip_special_tokens) const {
  std::string text;
  bool is_first = true;
  for (const uint32_t id : ids) {
    if (id >= vocab_size()) {
      return InvalidArgument("token id " + std::to_string(id) + " is not in the vocabulary of " +
                             std::to_string(vocab_size()));
    }
    if (parts_.added_tokens.Get(id) == nullptr && !parts_.model->vocabulary().Has(id)) continue;
    if (skip_special_tokens && IsSpecial(id)) continue;
    parts_.decoder->Append(TokenText(id), is_first, &text);
    is_first = false;
  }
  return parts_.clean_up_tokenization_spaces ? CleanUpTokenization(std::move(text)) : text;
}

std::optional<int32_t> Pipeline::NamedTokenId(NamedToken name) const {
  const auto token = parts_.named_tokens.find(name);
  return token == parts_.named_tokens.end() ? std::nullopt : TokenId(token->second);
}

std::string Pipeline::JoinTokens(std::span<const std::string_view> tokens) const {
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) parts_.decoder->Append(tokens[i], i == 0, &text);
  return text;
}

int64_t Pipeline::vocab_size() const {
  return std::max(parts_.model->vocabulary().size(), parts_.added_tokens.size());
}

std::string_view Pipeline::TokenText(int64_t id) const {
  const AddedToken* added = parts_.added_tokens.Get(id);
  return added != nullptr ? std::string_view(added->content) : parts_.model->vocabulary().Text(id);
}

std::optional<int32_t> Pipeline::TokenId(std::string_view token) const {
  const std::optional<int32_t> added = parts_.added_tokens.Find(token);
  return added.has_value() ? added : parts_.model->vocabulary().Find(token);
}

bool Pipeline::IsSpecial(int64_t id) const {
  const std::string_view text = TokenText(id);
  return !text.empty() && parts_.added_tokens.IsSpecial(text);
}

}  // namespace bertrand

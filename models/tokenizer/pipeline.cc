#include "models/tokenizer/pipeline.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {

struct Encoding::Scratch {
  TokenRun runs[2];
  BertSplitter::Word word;
  NormalizedText text, spare;
  PreTokenized pre_tokenized;
  ModelScratch model;
  ByteLevelSplitter::Memory bytes;
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

char32_t FirstCodePoint(std::string_view text) {
  size_t at = 0;
  return NextCodePoint(text, &at);
}

// Turns code points into bytes by walking from the nearer of the last answer and a place that the
// caller knows: a step for most tokens, and no more than the text for a row of tokens which all end
// where the white space behind them does.
class ByteCursor {
 public:
  explicit ByteCursor(std::string_view text) : text_(text) {}
  uint32_t At(uint32_t code_point, uint32_t known_code_point, uint32_t known_byte) {
    const auto distance = [&](uint32_t from) {
      return from < code_point ? code_point - from : from - code_point;
    };
    if (distance(known_code_point) < distance(code_point_)) {
      code_point_ = known_code_point;
      byte_ = known_byte;
    }
    for (; code_point_ < code_point && byte_ < text_.size(); ++code_point_) {
      NextCodePoint(text_, &byte_);
    }
    for (; code_point_ > code_point; --code_point_) byte_ = PreviousBoundary(text_, byte_);
    return static_cast<uint32_t>(byte_);
  }

 private:
  std::string_view text_;
  size_t byte_ = 0;
  uint32_t code_point_ = 0;
};

absl::Status CheckGrowth(const char* what, uint64_t growth) {
  if (growth <= kMaxGrowth) return absl::OkStatus();
  return InvalidArgument(std::string(what) + ": a text may become " + std::to_string(growth) +
                         " times as long; at most " + std::to_string(kMaxGrowth) +
                         " times are served");
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Pipeline::Create(PipelineParts parts,
                                                            bool allow_short_way) {
  std::unique_ptr<Pipeline> pipeline(new Pipeline(std::move(parts)));
  PipelineParts& made = pipeline->parts_;
  BERTRAND_CHECK(made.model != nullptr && made.decoder != nullptr, "parts are missing");
  if (made.normalizer != nullptr) {
    BERTRAND_RETURN_IF_ERROR(CheckGrowth("normalizer", made.normalizer->MaxGrowth()));
  }
  BERTRAND_RETURN_IF_ERROR(CheckGrowth("decoder", made.decoder->MaxGrowth()));
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
  const bool is_short = allow_short_way && !made.added_tokens.has_normalized();
  if (is_short && made.bert_normalizer.has_value() && made.pre_tokenizer_traits.is_bert &&
      made.word_piece != nullptr) {
    pipeline->short_way_.emplace(*made.bert_normalizer, *made.word_piece);
  }
  const std::optional<PreTokenizerTraits::ByteLevel>& byte_level =
      made.pre_tokenizer_traits.byte_level;
  if (is_short && made.bpe != nullptr && made.normalizer == nullptr && byte_level.has_value() &&
      byte_level->alone && byte_level->use_regex) {
    pipeline->bytes_way_.emplace(*made.bpe);
  }
  if (made.post_processor.trim_offsets) {
    // The model's texts: an added token may have taken the id of one. Added ones are marked.
    for (int64_t id = 0; id < pipeline->vocab_size(); ++id) {
      pipeline->spaces_.push_back(CountSpacesAround(made.model->vocabulary().Text(id)));
    }
  }
  return pipeline;
}

// trim_offsets for the tokens from `skip` on, as the library's process_offsets: in code points of
// the source text, whatever stands there.
void Pipeline::TrimSpans(const TokenRun& run, size_t skip, std::string_view text,
                         bool is_behind_special, std::span<TokenSpan> spans) const {
  auto spaced = run.spaced().begin();
  ByteCursor starts(text), ends(text);
  for (size_t i = 0; i < spans.size(); ++i) {
    while (spaced != run.spaced().end() && spaced->index < skip + i) ++spaced;
    SpacesAround spaces = spaces_[static_cast<size_t>(run.ids()[skip + i])];
    if (spaced != run.spaced().end() && spaced->index == skip + i) {
      spaces = spaced->spaces;
    }
    TokenSpan& span = spans[i];
    const TokenSpan whole = span;
    if (spaces.leading > 0) {
      // The one space that was put there is not in the text.
      const bool is_first = (i == 0 && !is_behind_special) || whole.start == 0;
      if (is_first && parts_.post_processor.add_prefix_space && spaces.leading == 1) {
        spaces.leading = 0;
      }
      span.start = std::min(span.start + spaces.leading, span.end);
      span.start_byte = starts.At(span.start, whole.start, whole.start_byte);
    }
    if (spaces.trailing > 0 && span.end >= spaces.trailing) {
      span.end = std::max(span.end - spaces.trailing, span.start);
      span.end_byte = ends.At(span.end, whole.end, whole.end_byte);
    }
  }
}

// Cuts text[part] of the normalised text into words, and those into tokens.
void Pipeline::TokenizeWords(WordRange part, Encoding::Scratch* scratch, TokenRun* run) const {
  PreTokenized& words = scratch->pre_tokenized;
  words.Start(scratch->text, part);
  if (parts_.pre_tokenizer != nullptr) parts_.pre_tokenizer->Apply(&words);
  const NormalizedText& text = words.text();
  for (const WordRange& range : words.words()) {
    const std::string_view word =
        std::string_view(text.text).substr(range.begin, range.end - range.begin);
    const SourceRange* source = run->want_sources() ? &text.source[range.begin] : nullptr;
    if (!parts_.model->AddWord(word, source, &scratch->model, run)) {
      scratch->word.missing_unk = true;
    }
    run->EndWord();
  }
}

// Tokens of white space that rstrip widens all end where it does: of those only the first is read.
SpacesAround Pipeline::SpacesAroundMatch(const AddedMatch& match, std::string_view text,
                                         WhiteMatch* white) {
  if (white->begin <= match.begin && match.end == white->end) {
    white->count -= static_cast<uint32_t>(
        CountCodePoints(text.substr(white->begin, match.begin - white->begin)));
    white->begin = match.begin;
    return {white->count, white->count};
  }
  const std::string_view whole = text.substr(match.begin, match.end - match.begin);
  const SpacesAround spaces = CountSpacesAround(whole);
  if (spaces.leading == CountCodePoints(whole)) *white = {match.begin, match.end, spaces.leading};
  return spaces;
}

// An added token was found: text[match.begin, match.end), from `range` of the source.
void Pipeline::AddToken(const AddedMatch& match, std::string_view text, SourceRange range,
                        WhiteMatch* white, TokenRun* run) const {
  if (run->want_sources() && parts_.post_processor.trim_offsets) {
    run->MarkSpaced(SpacesAroundMatch(match, text, white));
  }
  run->Add(match.id, range);
  run->EndWord();
}

void Pipeline::TokenizeStepByStep(std::string_view text, size_t begin, size_t end,
                                  Encoding::Scratch* scratch, TokenRun* run) const {
  NormalizedText& normalized = scratch->text;
  normalized.Assign(text.substr(begin, end - begin), static_cast<uint32_t>(begin),
                    run->want_sources() || parts_.pre_tokenizer_traits.needs_sources);
  if (parts_.normalizer != nullptr) parts_.normalizer->Normalize(&normalized, &scratch->spare);
  WhiteMatch white;
  parts_.added_tokens.Split(true, normalized.text, [&](const AddedMatch& match) {
    if (match.id < 0) {
      TokenizeWords({match.begin, match.end}, scratch, run);
    } else {
      AddToken(match, normalized.text, normalized.SourceOf(match.begin, match.end), &white, run);
    }
  });
}

// ByteLevel alone before a byte-level model.
void Pipeline::TokenizeBytes(std::string_view text, size_t begin, size_t end,
                             Encoding::Scratch* scratch, TokenRun* run) const {
  const bool is_spaced =
      parts_.pre_tokenizer_traits.byte_level->add_prefix_space && text[begin] != ' ';
  if (is_spaced && HasFlag(FirstCodePoint(text.substr(begin)), kSpace)) {
    return TokenizeStepByStep(text, begin, end, scratch, run);
  }
  scratch->word.missing_unk |=
      !bytes_way_->Tokenize(text, begin, end, is_spaced, &scratch->bytes, run);
}

void Pipeline::TokenizePart(std::string_view text, size_t begin, size_t end,
                            Encoding::Scratch* scratch, TokenRun* run) const {
  if (short_way_.has_value()) {
    short_way_->Tokenize(text, begin, end, &scratch->word, run);
  } else if (bytes_way_.has_value()) {
    TokenizeBytes(text, begin, end, scratch, run);
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
  WhiteMatch white;
  parts_.added_tokens.Split(false, text, [&](const AddedMatch& match) {
    if (match.id < 0) {
      TokenizePart(text, match.begin, match.end, scratch, run);
    } else {
      AddToken(match, text, {static_cast<uint32_t>(match.begin), static_cast<uint32_t>(match.end)},
               &white, run);
    }
  });
  if (scratch->word.missing_unk) {
    return InvalidArgument("a word needs the unknown token \"" +
                           std::string(parts_.model->unk_token()) +
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
      TokenSpan* const spans = encoding->spans.data() + at;
      FillSpans(texts[piece.sequence], run.sources() + skip, count, spans);
      const bool is_behind_special =
          options.add_special_tokens && parts_.post_processor.is_behind_special[piece.sequence];
      if (!spaces_.empty()) {
        TrimSpans(run, skip, texts[piece.sequence], is_behind_special, {spans, count});
      }
    }
    if (options.want_words && !is_special) {
      std::copy_n(run.words() + skip, count, encoding->words.begin() + at);
    }
    at += count;
  }
}

absl::StatusOr<std::string> Pipeline::Decode(std::span<const uint32_t> ids,
                                             bool skip_special_tokens) const {
  std::vector<std::string> pieces;
  for (const uint32_t id : ids) {
    if (id >= vocab_size()) {
      return InvalidArgument("token id " + std::to_string(id) + " is not in the vocabulary of " +
                             std::to_string(vocab_size()));
    }
    if (parts_.added_tokens.Get(id) == nullptr && !parts_.model->vocabulary().Has(id)) continue;
    if (skip_special_tokens && IsSpecial(id)) continue;
    pieces.emplace_back(TokenText(id));
  }
  parts_.decoder->Decode(&pieces);
  std::string text;
  for (const std::string& piece : pieces) text += piece;
  return parts_.clean_up_tokenization_spaces ? CleanUpTokenization(std::move(text)) : text;
}

std::optional<int32_t> Pipeline::NamedTokenId(NamedToken name) const {
  const auto token = parts_.named_tokens.find(name);
  return token == parts_.named_tokens.end() ? std::nullopt : TokenId(token->second);
}

std::string Pipeline::JoinTokens(std::span<const std::string_view> tokens) const {
  std::vector<std::string> pieces(tokens.begin(), tokens.end());
  parts_.decoder->Decode(&pieces);
  std::string text;
  for (const std::string& piece : pieces) text += piece;
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

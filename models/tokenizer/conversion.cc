#include "models/tokenizer/conversion.h"

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>

#include "kernels/status.h"
#include "models/checkpoint/json.h"
#include "models/tokenizer/bpe.h"
#include "models/tokenizer/charsmap.h"
#include "models/tokenizer/sentence_piece.h"
#include "models/tokenizer/unicode.h"
#include "models/tokenizer/unigram.h"

namespace bertrand {
namespace {

constexpr char32_t kMetaspace = 0x2581;
// What a token takes that is looked for in the text itself, in several tables.
constexpr size_t kAddedTokenBytes = 512;

// SentencePiece's pieces that end in a digit and a comma are made less likely, so that numbers are
// not cut behind it.
double NumberCommaScore(const SentencePieceModel::Piece& piece) {
  constexpr double kPenalty = 100;
  if (!piece.text.ends_with(',') || piece.text.size() < 2) return piece.score;
  const std::string_view before = piece.text.substr(0, piece.text.size() - 1);
  size_t at = PreviousBoundary(before, before.size());
  const bool is_digit = HasFlag(NextCodePoint(before, &at), kNumeric);
  return is_digit ? piece.score - kPenalty : piece.score;
}

struct PieceLayout {
  Unigram::Pieces pieces;
  int64_t unk_id = 0;
};

// The ids that the family gives to pieces.
absl::StatusOr<PieceLayout> LayOut(const SentencePieceModel& model, TokenizerKind kind,
                                   size_t memory_max) {
  PieceLayout layout;
  constexpr size_t kMorePieces = 6, kMoreBytes = 64;
  size_t text_bytes = kMoreBytes;
  for (const SentencePieceModel::Piece& piece : model.pieces) text_bytes += piece.text.size();
  const size_t count = model.pieces.size() + kMorePieces;
  BERTRAND_RETURN_IF_ERROR(Annotate(
      CheckMemory(Unigram::Pieces::ReservedBytes(count, text_bytes), memory_max), "vocab"));
  layout.pieces.Reserve(count, text_bytes);
  const auto add = [&](std::string_view text, double score) { layout.pieces.Add(text, score); };
  const auto add_from = [&](size_t first) {
    for (size_t i = first; i < model.pieces.size(); ++i) {
      add(model.pieces[i].text, model.pieces[i].score);
    }
  };
  if (kind == TokenizerKind::kXlmRoberta) {
    for (const char* text : {"<s>", "<pad>", "</s>", "<unk>"}) add(text, 0);
    add_from(3);
    add("<mask>", 0);
    layout.unk_id = 3;
  } else if (kind == TokenizerKind::kCamembert) {
    for (const char* text : {"<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>"}) add(text, 0);
    add("<unk>NOTUSED", -100);
    add_from(1);
    add("<mask>", 0);
    layout.unk_id = 3;
  } else {
    for (const SentencePieceModel::Piece& piece : model.pieces) {
      add(piece.text, NumberCommaScore(piece));
    }
    layout.unk_id = model.unk_id;
  }
  return layout;
}

// The pieces that are looked for in the text itself.
absl::StatusOr<std::vector<AddedToken>> AddedTokensOf(
    const std::vector<SentencePieceModel::Piece>& pieces, size_t memory_max) {
  const auto is_added = [](const SentencePieceModel::Piece& piece) {
    return piece.type == SentencePieceModel::Type::kControl ||
           piece.type == SentencePieceModel::Type::kUserDefined;
  };
  const auto count = static_cast<size_t>(std::count_if(pieces.begin(), pieces.end(), is_added));
  BERTRAND_RETURN_IF_ERROR(Annotate(CheckMemory(2 * count * kAddedTokenBytes, memory_max),
                                    "control and user-defined pieces"));
  std::vector<AddedToken> added;
  added.reserve(count);
  for (const SentencePieceModel::Piece& piece : pieces) {
    if (!is_added(piece)) continue;
    AddedToken& token = added.emplace_back();
    token.content = piece.text;
    token.normalized = false;
    token.special = piece.type == SentencePieceModel::Type::kControl;
  }
  return added;
}

// The normaliser, put together in the words of tokenizer.json, but for the charsmap.
absl::Status AddNormalizer(std::string_view json, NormalizerList* list) {
  Json parsed;
  BERTRAND_ASSIGN_OR_RETURN(parsed, Json::Parse(json, "normalizer"));
  std::unique_ptr<Normalizer> step;
  BERTRAND_ASSIGN_OR_RETURN(step, ParseNormalizer(&parsed, nullptr));
  list->push_back(std::move(step));
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Normalizer>> SentencePieceNormalizer(const SentencePieceModel& model,
                                                                    const TokenizerConfig& config) {
  const bool is_lean =
      config.kind == TokenizerKind::kAlbert || config.kind == TokenizerKind::kXlnet;
  std::vector<std::string_view> before, after;
  if (is_lean) {
    before = {R"({"type": "Replace", "pattern": {"String": "``"}, "content": "\""})",
              R"({"type": "Replace", "pattern": {"String": "''"}, "content": "\""})"};
    if (!config.keep_accents) {
      before.push_back(R"({"type": "NFKD"})");
      before.push_back(R"({"type": "StripAccents"})");
    }
    if (config.do_lower_case) before.push_back(R"({"type": "Lowercase"})");
    after = {R"({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})"};
  } else {
    after = {R"({"type": "Strip", "strip_left": false, "strip_right": true})",
             R"({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"})"};
  }
  NormalizerList list;
  for (const std::string_view json : before) BERTRAND_RETURN_IF_ERROR(AddNormalizer(json, &list));
  if (!model.precompiled_charsmap.empty()) {
    std::unique_ptr<Charsmap> map;
    BERTRAND_ASSIGN_OR_RETURN(map, Charsmap::Create(model.precompiled_charsmap));
    list.push_back(std::move(map));
  }
  for (const std::string_view json : after) BERTRAND_RETURN_IF_ERROR(AddNormalizer(json, &list));
  return MakeSequenceNormalizer(std::move(list));
}

// merges.txt: the first line is a version, and what follows the last line end does not count. Of
// equal merges the first one's place counts.
absl::StatusOr<Bpe::MergeList> ParseMergesText(std::string_view text, const Vocabulary& vocabulary,
                                               size_t memory_max) {
  Bpe::MergeList merges;
  const auto num_lines = static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  size_t token_bytes = 0;
  for (int64_t id = 0; id < vocabulary.size(); ++id) token_bytes += vocabulary.Text(id).size();
  const auto num_tokens = static_cast<size_t>(vocabulary.size());
  const size_t needed = num_lines * sizeof(Bpe::MergeList::value_type) +
                        Bpe::TableBytes(num_tokens, token_bytes, num_lines);
  BERTRAND_RETURN_IF_ERROR(Annotate(CheckMemory(needed, memory_max), "merges.txt"));
  merges.reserve(num_lines);
  std::unordered_set<std::string_view> seen;
  seen.reserve(num_lines);
  size_t start = text.find('\n');
  if (start == std::string_view::npos) return merges;
  ++start;
  for (size_t end; (end = text.find('\n', start)) != std::string_view::npos; start = end + 1) {
    std::string_view line = text.substr(start, end - start);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
      return InvalidArgument("merges.txt: \"" + std::string(line) +
                             "\" must be two tokens with one space between");
    }
    if (seen.insert(line).second) {
      merges.emplace_back(line.substr(0, space), line.substr(space + 1));
    }
  }
  return merges;
}

// Assigning an empty string would keep the memory.
void Free(std::string* text) { std::string().swap(*text); }

TemplatePiece Special(int32_t id, int32_t type_id) { return {-1, {id}, type_id}; }

}  // namespace

absl::StatusOr<PipelineParts> PartsFromVocabText(std::string text, const TokenizerConfig& config) {
  PipelineParts parts;
  Vocabulary vocabulary;
  const size_t memory_max = MemoryBoundOf(text.size());
  BERTRAND_ASSIGN_OR_RETURN(vocabulary, ParseVocabText(text, memory_max - text.size()));
  Free(&text);
  WordPieceOptions options;
  options.unk_token = config.unk_token;
  std::unique_ptr<WordPiece> word_piece;
  BERTRAND_ASSIGN_OR_RETURN(
      word_piece, WordPiece::Create(std::move(vocabulary), std::move(options), memory_max));
  parts.word_piece = word_piece.get();
  parts.model = std::move(word_piece);
  parts.bert_normalizer.emplace();
  parts.pre_tokenizer = MakeBertPreTokenizer();
  parts.pre_tokenizer_traits.is_bert = true;
  parts.decoder = MakeWordPieceDecoder("##", true);
  // The default of BERT's slow tokenizers, which goes over to the fast one that is made of them.
  parts.clean_up_tokenization_spaces = true;
  return parts;
}

absl::StatusOr<PipelineParts> PartsFromMerges(std::string vocab_json, std::string merges_text,
                                              const TokenizerConfig& config) {
  PipelineParts parts;
  const size_t memory_max = MemoryBoundOf(vocab_json.size() + merges_text.size());
  Json json;
  BERTRAND_ASSIGN_OR_RETURN(json, Json::ParseOwned(std::move(vocab_json), "vocab.json"));
  Vocabulary vocabulary;
  BERTRAND_ASSIGN_OR_RETURN(vocabulary, ParseVocabulary(json));
  json = Json();
  if (const auto invalid = FindInvalidUtf8(merges_text)) {
    return InvalidArgument("merges.txt: byte " + std::to_string(*invalid) + " is not UTF-8");
  }
  Bpe::MergeList merges;
  const size_t taken = vocabulary.memory_bytes() + merges_text.size();
  BERTRAND_ASSIGN_OR_RETURN(
      merges, ParseMergesText(merges_text, vocabulary, memory_max - std::min(memory_max, taken)));
  Free(&merges_text);
  BpeOptions options;
  options.byte_level = true;
  std::unique_ptr<Bpe> bpe;
  BERTRAND_ASSIGN_OR_RETURN(bpe, Bpe::Create(std::move(vocabulary), merges, std::move(options)));
  parts.bpe = bpe.get();
  parts.model = std::move(bpe);
  PreTokenizerTraits::ByteLevel byte_level;
  byte_level.add_prefix_space = config.add_prefix_space;
  byte_level.alone = true;
  parts.pre_tokenizer_traits.byte_level = byte_level;
  parts.pre_tokenizer = MakeByteLevelPreTokenizer(config.add_prefix_space, true);
  parts.decoder = MakeByteLevelDecoder();
  return parts;
}

absl::StatusOr<PipelineParts> PartsFromSentencePiece(std::string bytes,
                                                     const TokenizerConfig& config) {
  const size_t memory_max = MemoryBoundOf(bytes.size());
  SentencePieceModel model;
  BERTRAND_ASSIGN_OR_RETURN(model, ParseSentencePieceModel(bytes));
  constexpr int64_t kUnigram = 1;
  if (model.model_type != kUnigram) {
    return Unimplemented("a SentencePiece model of type " + std::to_string(model.model_type) +
                         " is not supported; type 1, unigram, is");
  }
  PipelineParts parts;
  PieceLayout layout;
  const size_t taken = bytes.size() + model.pieces.capacity() * sizeof(SentencePieceModel::Piece);
  BERTRAND_ASSIGN_OR_RETURN(layout, LayOut(model, config.kind, memory_max - taken));
  if (layout.unk_id < 0 || layout.unk_id >= static_cast<int64_t>(layout.pieces.size())) {
    return InvalidArgument("unk_id is " + std::to_string(layout.unk_id) + "; there are " +
                           std::to_string(layout.pieces.size()) + " pieces");
  }
  BERTRAND_ASSIGN_OR_RETURN(parts.normalizer, SentencePieceNormalizer(model, config));
  std::vector<AddedToken> added;
  BERTRAND_ASSIGN_OR_RETURN(added, AddedTokensOf(std::exchange(model.pieces, {}), memory_max));
  Free(&bytes);
  BERTRAND_ASSIGN_OR_RETURN(
      parts.model, Unigram::Create(std::move(layout.pieces), static_cast<int32_t>(layout.unk_id),
                                   false, memory_max - added.size() * kAddedTokenBytes));
  parts.pre_tokenizer = MakeMetaspacePreTokenizer(kMetaspace, PrependScheme::kAlways, true);
  parts.decoder = MakeMetaspaceDecoder(kMetaspace, true);
  for (const AddedToken& token : added) {
    parts.added_tokens.Add(token, parts.model->vocabulary());
  }
  return parts;
}

absl::Status FinishConversion(const TokenizerConfig& config, PipelineParts* parts) {
  // SentencePiece's converters name these two, whatever the configuration calls them.
  std::string cls = config.cls_token, sep = config.sep_token;
  if (config.kind == TokenizerKind::kAlbert) cls = "[CLS]", sep = "[SEP]";
  if (config.kind == TokenizerKind::kXlnet) cls = "<cls>", sep = "<sep>";
  const bool is_fairseq =
      config.kind == TokenizerKind::kXlmRoberta || config.kind == TokenizerKind::kCamembert;
  if (is_fairseq) cls = "<s>", sep = "</s>";
  const auto id_of = [&](const std::string& token) {
    const std::optional<int32_t> added = parts->added_tokens.Find(token);
    return added.has_value() ? added : parts->model->vocabulary().Find(token);
  };
  const std::optional<int32_t> cls_id = id_of(cls), sep_id = id_of(sep);
  if (!cls_id.has_value() || !sep_id.has_value()) {
    return InvalidArgument("the vocabulary must have \"" + cls + "\" and \"" + sep +
                           "\", which go around a text");
  }
  switch (config.kind) {
    case TokenizerKind::kRoberta:
      parts->post_processor = RobertaPostProcessor(*cls_id, *sep_id);
      parts->post_processor.trim_offsets = config.trim_offsets;
      parts->post_processor.add_prefix_space = config.add_prefix_space;
      parts->post_processor.has_options = true;
      break;
    case TokenizerKind::kXlmRoberta:
    case TokenizerKind::kCamembert:
      parts->post_processor = RobertaPostProcessor(*cls_id, *sep_id);
      break;
    case TokenizerKind::kXlnet:
      parts->post_processor.single = {{0, {}, 0}, Special(*sep_id, 0), Special(*cls_id, 2)};
      parts->post_processor.pair = {
          {0, {}, 0}, Special(*sep_id, 0), {1, {}, 1}, Special(*sep_id, 1), Special(*cls_id, 2)};
      break;
    default:
      parts->post_processor = BertPostProcessor(*cls_id, *sep_id);
  }
  return absl::OkStatus();
}

}  // namespace bertrand

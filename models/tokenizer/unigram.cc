#include "models/tokenizer/unigram.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "kernels/status.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

constexpr double kUnknownPenalty = 10.0;
constexpr uint32_t kUnset = ModelScratch::kNone;

// The length of the code point that begins with this byte of valid UTF-8.
size_t LengthFrom(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

}  // namespace

void Unigram::Pieces::Reserve(size_t count, size_t text_bytes) {
  vocabulary_.Reserve(count, text_bytes, static_cast<int64_t>(count) - 1);
  scores_.reserve(count);
}

size_t Unigram::Pieces::ReservedBytes(size_t count, size_t text_bytes) {
  return Vocabulary::ReservedBytes(count, text_bytes, static_cast<int64_t>(count) - 1) +
         count * sizeof(double);
}

void Unigram::Pieces::Add(std::string_view text, double score) {
  if (vocabulary_.Find(text).has_value()) vocabulary_.CountRepeated();
  vocabulary_.Replace(text, static_cast<int32_t>(scores_.size()));
  scores_.push_back(score);
}

absl::StatusOr<std::unique_ptr<Unigram>> Unigram::Create(Pieces pieces,
                                                         std::optional<int32_t> unk_id,
                                                         bool byte_fallback, size_t memory_max) {
  if (static_cast<int64_t>(pieces.size()) > kMaxTokenId) {
    return InvalidArgument("vocab: " + std::to_string(pieces.size()) + " pieces; at most " +
                           std::to_string(kMaxTokenId) + " are supported");
  }
  if (unk_id.has_value() && static_cast<size_t>(*unk_id) >= pieces.size()) {
    return InvalidArgument("`unk_id` is " + std::to_string(*unk_id) + "; the vocabulary has " +
                           std::to_string(pieces.size()) + " pieces");
  }
  std::unique_ptr<Unigram> model(new Unigram);
  model->vocabulary_ = std::move(pieces.vocabulary_);
  model->scores_ = std::move(pieces.scores_);
  double lowest = std::numeric_limits<double>::infinity();
  for (const double score : model->scores_) lowest = std::min(lowest, score);
  const auto num_pieces = static_cast<int64_t>(model->scores_.size());
  const size_t taken =
      model->vocabulary_.memory_bytes() + model->scores_.capacity() * sizeof(double);
  memory_max -= std::min(memory_max, taken);
  BERTRAND_RETURN_IF_ERROR(
      Annotate(CheckMemory(static_cast<size_t>(num_pieces) * sizeof(DoubleArray::Key), memory_max),
               "vocab"));
  std::vector<DoubleArray::Key> keys;
  keys.reserve(static_cast<size_t>(num_pieces));
  for (int64_t id = 0; id < num_pieces; ++id) {
    const std::string_view text = model->vocabulary_.Text(id);
    if (!text.empty()) keys.push_back({text, 0, static_cast<uint32_t>(id)});
  }
  std::vector<uint32_t> ends;
  if (absl::Status status = model->trie_.Build(keys, 1, &ends, memory_max); !status.ok()) {
    return Annotate(status, "vocab");
  }
  model->trie_.Seal();
  for (size_t i = 0; i < keys.size(); ++i) model->trie_.cell(ends[i]).first = keys[i].value() + 1;
  model->unk_score_ = lowest - kUnknownPenalty;
  model->unk_id_ = unk_id;
  model->byte_fallback_ = byte_fallback;
  for (unsigned byte = 0; byte < 256; ++byte) {
    constexpr char kHex[] = "0123456789ABCDEF";
    const std::string text = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
    model->byte_ids_[byte] = model->vocabulary_.Find(text).value_or(-1);
  }
  return model;
}

// Fills scratch->nodes: for each end of a path, where its last piece starts.
bool Unigram::FindBestPath(std::string_view word, ModelScratch* scratch) const {
  const size_t size = word.size();
  if (scratch->nodes.size() <= size) scratch->nodes.resize(2 * size + 64);
  ModelScratch::Node* const nodes = scratch->nodes.data();
  nodes[0].score = 0;
  for (size_t i = 1; i <= size; ++i) nodes[i].start = kUnset;
  const auto improve = [&](size_t end, double score, size_t start, int32_t id) {
    ModelScratch::Node& node = nodes[end];
    if (node.start == kUnset || score > node.score) {
      node = {score, static_cast<uint32_t>(start), id};
    }
  };
  size_t start = 0;
  while (start < size) {
    const double so_far = nodes[start].score;
    const size_t next = start + LengthFrom(word[start]);
    bool has_single = false;
    uint32_t state = 1;
    for (size_t i = start; i < size;) {
      state = trie_.Step(state, static_cast<unsigned char>(word[i]));
      if (state == DoubleArray::kNone) break;
      ++i;
      const uint32_t found = trie_.cell(state).first;
      if (found == 0) continue;
      improve(i, scores_[found - 1] + so_far, start, static_cast<int32_t>(found) - 1);
      has_single |= i == next;
    }
    if (!has_single) {
      const double score = unk_score_ + so_far;
      if (nodes[next].start == kUnset || score > nodes[next].score) {
        if (!unk_id_.has_value()) return false;
        improve(next, score, start, *unk_id_);
      }
    }
    start = next;
  }
  return true;
}

// A run of unknown code points. Together they may be a piece, which is then that one after all.
void Unigram::AddUnknown(std::string_view text, SourceRange range, TokenRun* run) const {
  if (const auto id = vocabulary_.Find(text)) return run->Add(*id, range);
  const bool as_bytes = byte_fallback_ && std::all_of(text.begin(), text.end(), [this](char c) {
                          return byte_ids_[static_cast<unsigned char>(c)] >= 0;
                        });
  if (!as_bytes) {
    // The library calls an unknown token by what stands in the text.
    if (run->want_sources()) run->MarkSpaced(CountSpacesAround(text));
    return run->Add(*unk_id_, range);
  }
  for (const char byte : text) run->Add(byte_ids_[static_cast<unsigned char>(byte)], range);
}

bool Unigram::AddWord(std::string_view word, const SourceRange* source, ModelScratch* scratch,
                      TokenRun* run) const {
  if (!FindBestPath(word, scratch)) return false;
  std::vector<ModelScratch::Node>& pieces = scratch->pieces;
  pieces.clear();
  for (size_t end = word.size(); end > 0; end = scratch->nodes[end].start) {
    pieces.push_back(scratch->nodes[end]);
  }
  run->Reserve(pieces.size());
  // Pieces are in reverse. An unknown one grows as long as more follow.
  for (size_t i = pieces.size(); i > 0;) {
    const size_t begin = pieces[i - 1].start;
    const int32_t id = pieces[i - 1].id;
    --i;
    const bool is_unknown = unk_id_.has_value() && id == *unk_id_;
    while (is_unknown && i > 0 && pieces[i - 1].id == id) --i;
    const size_t end = i == 0 ? word.size() : pieces[i - 1].start;
    SourceRange range;
    if (source != nullptr) range = {source[begin].start, source[end - 1].end};
    if (is_unknown) {
      AddUnknown(word.substr(begin, end - begin), range, run);
    } else {
      run->Add(id, range);
    }
  }
  return true;
}

namespace {

// serde_json's reading of a number, which is what `tokenizers` has: at most 19 or 20 digits as an
// integer, then one multiplication or division by a power of ten, each rounded. In one of eight
// scores that is a unit in the last place away from the nearest double, and ties between paths can
// hang on it. The digits are those of the shortest form of the nearest double, as files have them.
double ReadAsSerde(double nearest) {
  if (!std::isfinite(nearest)) return nearest;
  char text[64];
  const auto written = std::to_chars(text, text + sizeof(text), std::abs(nearest));
  uint64_t digits = 0;
  int exponent = 0;
  bool fraction = false, full = false;
  const char* at = text;
  for (; at != written.ptr && *at != 'e'; ++at) {
    if (*at == '.') {
      fraction = true;
      continue;
    }
    const auto digit = static_cast<uint64_t>(*at - '0');
    full |= digits > (std::numeric_limits<uint64_t>::max() - digit) / 10;
    if (full) {
      exponent += !fraction;
    } else {
      digits = 10 * digits + digit;
      exponent -= fraction;
    }
  }
  if (at != written.ptr) {
    int written_exponent = 0;
    const char* from = at + 1 + (at[1] == '+');
    std::from_chars(from, written.ptr, written_exponent);
    exponent += written_exponent;
  }
  auto value = static_cast<double>(digits);
  const auto power = [](int n) {
    double result = 1;
    const std::string form = "1e" + std::to_string(n);
    std::from_chars(form.data(), form.data() + form.size(), result);
    return result;
  };
  constexpr int kMaxPower = 308;
  while (exponent < -kMaxPower && value != 0) {
    value /= power(kMaxPower);
    exponent += kMaxPower;
  }
  if (value != 0) value = exponent < 0 ? value / power(-exponent) : value * power(exponent);
  return std::signbit(nearest) ? -value : value;
}

absl::StatusOr<Unigram::Pieces> ParsePieces(const Json* json) {
  if (json == nullptr || !json->is_array()) {
    return InvalidArgument("model: `vocab` must be an array of pieces and their scores");
  }
  Unigram::Pieces pieces;
  size_t text_bytes = 0;
  for (const Json& element : json->elements()) {
    const std::vector<Json>& pair = element.elements();
    const std::string* text = pair.empty() ? nullptr : pair[0].as_string();
    text_bytes += text == nullptr ? 0 : text->size();
  }
  pieces.Reserve(json->elements().size(), text_bytes);
  for (const Json& element : json->elements()) {
    const std::vector<Json>& pair = element.elements();
    const std::string* text = pair.size() == 2 ? pair[0].as_string() : nullptr;
    const std::optional<double> score = pair.size() == 2 ? pair[1].as_number() : std::nullopt;
    if (text == nullptr || !score.has_value() || !std::isfinite(*score)) {
      return InvalidArgument("model: `vocab`: element " + std::to_string(pieces.size()) +
                             " must be an array of a piece and its score");
    }
    pieces.Add(*text, ReadAsSerde(*score));
  }
  return pieces;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Unigram>> ParseUnigram(Json json, size_t memory_max) {
  const JsonFields fields(json, "model");
  Unigram::Pieces pieces;
  BERTRAND_ASSIGN_OR_RETURN(pieces, ParsePieces(json.Find("vocab")));
  std::optional<int32_t> unk_id;
  if (json.FindNonNull("unk_id") != nullptr) {
    BERTRAND_ASSIGN_OR_RETURN(unk_id, fields.TokenId("unk_id"));
  }
  bool byte_fallback;
  BERTRAND_ASSIGN_OR_RETURN(byte_fallback, fields.Bool("byte_fallback", false));
  json = Json();  // its memory is for the trie
  return Unigram::Create(std::move(pieces), unk_id, byte_fallback, memory_max);
}

}  // namespace bertrand

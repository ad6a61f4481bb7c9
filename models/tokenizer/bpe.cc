#include "models/tokenizer/bpe.h"

#include <algorithm>
#include <bit>

#include "kernels/status.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/json_fields.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

constexpr uint32_t kNone = ModelScratch::kNone;

// The order of merging, for a heap whose top is the largest: first by rank, then from the left.
bool ComesLater(const ModelScratch::Merge& a, const ModelScratch::Merge& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

// What `tokenizers` counts a byte of a byte-level word as: the UTF-8 of its character.
uint32_t CountedLength(char byte) {
  return ByteLevelCharacter(static_cast<unsigned char>(byte)) < 0x80 ? 1 : 2;
}

}  // namespace

Bpe::Bpe(Vocabulary vocabulary, BpeOptions options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {
  if (options_.unk_token.has_value()) unk_id_ = vocabulary_.Find(*options_.unk_token);
}

absl::StatusOr<std::unique_ptr<Bpe>> Bpe::Create(Vocabulary vocabulary, const MergeList& merges,
                                                 BpeOptions options) {
  std::unique_ptr<Bpe> model(new Bpe(std::move(vocabulary), std::move(options)));
  BERTRAND_RETURN_IF_ERROR(model->BuildMerges(merges));
  model->BuildSymbols();
  model->BuildOrigins(merges);
  BERTRAND_RETURN_IF_ERROR(model->BuildMatcher());
  model->BuildShortMerger(merges);
  return model;
}

size_t Bpe::TableBytes(size_t num_tokens, size_t text_bytes, size_t num_merges) {
  // Twice the merges up to a power of two, with eight bits each beside them.
  const size_t merges = std::bit_ceil(2 * num_merges + 2) * (sizeof(Merge) + 1);
  // A line of words_ is made for two tokens, up to a power of two. Proper tokens are in a list, and
  // their keys with the places where they end in another one.
  constexpr size_t kByToken = sizeof(Origin) + sizeof(uint32_t) + sizeof(int32_t) + 64 +
                              sizeof(std::pair<std::string, int32_t>) + sizeof(DoubleArray::Key) +
                              sizeof(uint32_t);
  // What double_array.h allows, which is more than twenty bytes a state.
  const size_t states = DoubleArray::kFreeStates + (text_bytes + 8 * num_tokens) / 3;
  // Lists below 2^16 are merged in registers, too.
  const size_t short_merger = ShortMerger::TableBytes(num_merges);
  return merges + kByToken * num_tokens + text_bytes + 24 * states + short_merger;
}

absl::Status Bpe::BuildMerges(const MergeList& merges) {
  const size_t size = std::bit_ceil(2 * merges.size() + 2);
  merges_.assign(size, Merge{});
  merges_mask_ = size - 1;
  const size_t num_bits = std::max<size_t>(64, 8 * size);
  merge_bits_.assign(num_bits / 64, 0);
  bits_shift_ = 64 - std::countr_zero(num_bits);
  const size_t prefix_bytes = options_.continuing_subword_prefix.size();
  for (size_t i = 0; i < merges.size(); ++i) {
    const auto& [left, right] = merges[i];
    if (right.size() < prefix_bytes) {
      return InvalidArgument("merges: \"" + right + "\" is shorter than the prefix");
    }
    const std::string merged = left + right.substr(prefix_bytes);
    const std::string* const texts[] = {&left, &right, &merged};
    int32_t ids[3];
    for (int part = 0; part < 3; ++part) {
      const std::optional<int32_t> id = vocabulary_.Find(*texts[part]);
      if (!id.has_value()) {
        return InvalidArgument("merges: \"" + *texts[part] + "\" of merge " + std::to_string(i) +
                               " is not in the vocabulary");
      }
      ids[part] = *id;
    }
    // Of a pair that is listed twice the last place counts.
    const uint64_t pair = PairOf(ids[0], ids[1]);
    uint64_t at = Mixed(pair) & merges_mask_;
    while (merges_[at].pair != kNoPair && merges_[at].pair != pair) at = (at + 1) & merges_mask_;
    merges_[at] = {pair, static_cast<uint32_t>(i), ids[2]};
    const uint64_t bit = Mixed(pair) >> bits_shift_;
    merge_bits_[bit / 64] |= uint64_t{1} << (bit % 64);
  }
  return absl::OkStatus();
}

void Bpe::BuildSymbols() {
  for (unsigned byte = 0; byte < 256; ++byte) {
    std::string text;
    AppendUtf8(ByteLevelCharacter(static_cast<unsigned char>(byte)), &text);
    byte_ids_[byte] = vocabulary_.Find(text).value_or(-1);
    constexpr char kHex[] = "0123456789ABCDEF";
    const std::string fallback = {'<', '0', 'x', kHex[byte >> 4], kHex[byte & 15], '>'};
    fallback_ids_[byte] = vocabulary_.Find(fallback).value_or(-1);
  }
}

// What a word must be to be this token's text; empty when no word can.
std::optional<std::string> Bpe::BytesOf(int64_t id) const {
  const std::string_view text = vocabulary_.Text(id);
  if (text.empty()) return std::nullopt;
  return options_.byte_level ? ByteLevelBytes(text) : std::string(text);
}

// Sets backtracks_ if the list of merges is as training makes it.
void Bpe::BuildOrigins(const MergeList& merges) {
  origins_.resize(static_cast<size_t>(vocabulary_.size()));
  lengths_.resize(origins_.size());
  backtracks_ = options_.continuing_subword_prefix.empty() && options_.end_of_word_suffix.empty();
  std::vector<bool> is_symbol(origins_.size(), false);
  for (int64_t id = 0; id < vocabulary_.size(); ++id) {
    const std::optional<std::string> bytes = BytesOf(id);
    if (!bytes.has_value()) continue;
    const auto index = static_cast<size_t>(id);
    lengths_[index] = static_cast<uint32_t>(bytes->size());
    is_symbol[index] = options_.byte_level ? bytes->size() == 1 : CountCodePoints(*bytes) == 1;
  }
  const auto is_made = [&](int32_t id) {
    return is_symbol[static_cast<size_t>(id)] || origins_[static_cast<size_t>(id)].rank != 0;
  };
  for (size_t i = 0; i < merges.size() && backtracks_; ++i) {
    const int32_t left = *vocabulary_.Find(merges[i].first);
    const int32_t right = *vocabulary_.Find(merges[i].second);
    const int32_t id = FindMerge(left, right)->id;
    if (is_made(id) || !is_made(left) || !is_made(right)) backtracks_ = false;
    Origin& origin = origins_[static_cast<size_t>(id)];
    origin.rank = static_cast<uint32_t>(i) + 1;
    origin.left = left;
    origin.right = right;
  }
}

absl::Status Bpe::BuildMatcher() {
  const bool is_plain =
      options_.continuing_subword_prefix.empty() && options_.end_of_word_suffix.empty();
  std::vector<std::pair<std::string, int32_t>> proper;
  proper.reserve(static_cast<size_t>(vocabulary_.size()));
  ModelScratch scratch;
  for (int64_t id = 0; id < vocabulary_.size(); ++id) {
    std::optional<std::string> bytes = BytesOf(id);
    if (!bytes.has_value() || !is_plain) continue;
    if (!options_.ignore_merges) {
      if (!AddSymbols(*bytes, &scratch)) continue;
      MergeAll(&scratch);
      const bool is_one = !scratch.symbols.empty() && scratch.symbols[0].id == id &&
                          scratch.symbols[0].next == kNone;
      if (!is_one) continue;
    }
    proper.emplace_back(*std::move(bytes), static_cast<int32_t>(id));
  }
  words_.Reserve(proper.size());
  for (const auto& [text, id] : proper) words_.Add(text, id);
  // Words that are not looked up whole are merged; so ignore_merges has no list of proper tokens.
  backtracks_ = backtracks_ && !options_.ignore_merges;
  if (!backtracks_) return absl::OkStatus();
  std::vector<DoubleArray::Key> keys;
  keys.reserve(proper.size());
  for (const auto& [text, id] : proper) keys.push_back({text, 0, static_cast<uint32_t>(id)});
  std::vector<uint32_t> ends;
  if (absl::Status status = proper_.Build(keys, 1, &ends); !status.ok()) {
    return Annotate(status, "vocab");
  }
  proper_.Seal();
  for (size_t i = 0; i < keys.size(); ++i) proper_.cell(ends[i]).first = keys[i].value() + 1;
  shorter_.assign(origins_.size(), -1);
  for (const auto& [text, id] : proper) {
    uint32_t state = 1;
    for (size_t i = 0; i + 1 < text.size(); ++i) {
      state = proper_.Step(state, static_cast<unsigned char>(text[i]));
      const uint32_t found = proper_.cell(state).first;
      if (found != 0) shorter_[static_cast<size_t>(id)] = static_cast<int32_t>(found) - 1;
    }
  }
  return absl::OkStatus();
}

void Bpe::BuildShortMerger(const MergeList& merges) {
  const auto is_absent = [](int32_t id) { return id < 0; };
  if (!backtracks_ || !options_.byte_level) return;
  if (std::any_of(byte_ids_.begin(), byte_ids_.end(), is_absent)) return;
  std::vector<int32_t> ids(byte_ids_.begin(), byte_ids_.end());
  std::vector<uint32_t> numbers(origins_.size());
  for (size_t byte = 0; byte < ids.size(); ++byte) {
    numbers[static_cast<size_t>(ids[byte])] = static_cast<uint32_t>(byte);
  }
  const auto number_of = [&](const std::string& token) {
    return numbers[static_cast<size_t>(*vocabulary_.Find(token))];
  };
  std::vector<ShortMerger::Merge> numbered;
  std::vector<std::string> made;
  numbered.reserve(merges.size());
  made.reserve(merges.size());
  for (const auto& [left, right] : merges) {
    const int32_t id = *vocabulary_.Find(left + right);
    made.push_back(*BytesOf(id));
    numbers[static_cast<size_t>(id)] = static_cast<uint32_t>(ids.size());
    numbered.push_back({number_of(left), number_of(right)});
    ids.push_back(id);
  }
  if (short_merger_.Build(numbered, std::move(ids))) sure_cuts_.Build(made);
}

bool Bpe::AddFallback(std::string_view symbol, ModelScratch* scratch) const {
  for (const char byte : symbol) {
    if (fallback_ids_[static_cast<unsigned char>(byte)] < 0) return false;
  }
  for (const char byte : symbol) {
    scratch->symbols.push_back({fallback_ids_[static_cast<unsigned char>(byte)], 0, 0, 1});
  }
  return true;
}

bool Bpe::AddSymbols(std::string_view word, ModelScratch* scratch) const {
  std::vector<ModelScratch::Symbol>& symbols = scratch->symbols;
  symbols.clear();
  uint32_t unknown_length = 0;  // of one that is still to be added; 0: none
  const auto add_unknown = [&] {
    if (unknown_length != 0) symbols.push_back({*unk_id_, 0, 0, unknown_length});
    unknown_length = 0;
  };
  std::string text;
  size_t at = 0;
  while (at < word.size()) {
    const size_t begin = at;
    text.clear();
    if (begin != 0) text = options_.continuing_subword_prefix;
    const size_t prefix = text.size();
    if (options_.byte_level) {
      AppendUtf8(ByteLevelCharacter(static_cast<unsigned char>(word[at++])), &text);
    } else {
      NextCodePoint(word, &at);
      text += word.substr(begin, at - begin);
    }
    const auto length = static_cast<uint32_t>(text.size() - prefix);
    if (at == word.size()) text += options_.end_of_word_suffix;
    const bool is_byte = options_.byte_level && text.size() == length;
    const int32_t id = is_byte ? byte_ids_[static_cast<unsigned char>(word[begin])]
                               : vocabulary_.Find(text).value_or(-1);
    if (id >= 0) {
      add_unknown();
      symbols.push_back({id, 0, 0, length});
    } else if (options_.byte_fallback && AddFallback(text, scratch)) {
      // An unknown one that is waiting stays behind it, as in the library.
    } else if (options_.unk_token.has_value()) {
      if (!unk_id_.has_value()) return false;
      if (!options_.fuse_unk) add_unknown();
      unknown_length += length;
    }
  }
  add_unknown();
  return true;
}

void Bpe::MergeAll(ModelScratch* scratch) const {
  std::vector<ModelScratch::Symbol>& symbols = scratch->symbols;
  std::vector<ModelScratch::Merge>& heap = scratch->merges;
  heap.clear();
  const auto count = static_cast<uint32_t>(symbols.size());
  for (uint32_t i = 0; i < count; ++i) {
    symbols[i].previous = i == 0 ? kNone : i - 1;
    symbols[i].next = i + 1 == count ? kNone : i + 1;
    if (i + 1 == count) break;
    if (const Merge* merge = FindMerge(symbols[i].id, symbols[i + 1].id)) {
      heap.push_back({merge->rank, i, merge->id});
    }
  }
  std::make_heap(heap.begin(), heap.end(), ComesLater);
  const auto push = [&](uint32_t left, uint32_t right) {
    const Merge* merge = FindMerge(symbols[left].id, symbols[right].id);
    if (merge == nullptr) return;
    heap.push_back({merge->rank, left, merge->id});
    std::push_heap(heap.begin(), heap.end(), ComesLater);
  };
  while (!heap.empty()) {
    const ModelScratch::Merge top = heap.front();
    std::pop_heap(heap.begin(), heap.end(), ComesLater);
    heap.pop_back();
    ModelScratch::Symbol& left = symbols[top.position];
    if (left.length == 0 || left.next == kNone) continue;
    ModelScratch::Symbol& right = symbols[left.next];
    // A candidate from before another merge counts if the same token comes of what is there now.
    const Merge* now = FindMerge(left.id, right.id);
    if (now == nullptr || now->id != top.id) continue;
    left.id = top.id;
    left.length += right.length;
    left.next = right.next;
    right.length = 0;
    if (left.next != kNone) symbols[left.next].previous = top.position;
    if (left.previous != kNone) push(left.previous, top.position);
    if (left.next != kNone) push(top.position, left.next);
  }
}

void Bpe::AddJob(const MergeJob& job, const SourceRange* source, TokenRun* run) const {
  run->Reserve(MergeJob::kMaxBytes);
  for (uint64_t starts = job.starts; starts != 0; starts &= starts - 1) {
    const auto begin = static_cast<size_t>(std::countr_zero(starts));
    SourceRange range;
    if (source != nullptr) {
      const uint64_t rest = starts & (starts - 1);
      const size_t end = rest == 0 ? job.word.size() : static_cast<size_t>(std::countr_zero(rest));
      range = {source[begin].start, source[end - 1].end};
    }
    run->AddReserved(short_merger_.TokenAt(job, begin), range);
  }
}

void Bpe::AddPath(std::string_view word, const SourceRange* source, std::span<const int32_t> path,
                  TokenRun* run) const {
  run->Reserve(path.size());
  std::copy(path.begin(), path.end(), run->next_id());
  size_t begin = 0, index = run->size();
  for (const int32_t id : path) {
    if (source == nullptr) break;
    const size_t end = begin + lengths_[static_cast<size_t>(id)];
    run->AddSource({source[begin].start, source[end - 1].end}, index++);
    begin = end;
  }
  BERTRAND_CHECK(source == nullptr || begin == word.size(), "tokens do not cover the word");
  run->Advance(path.size());
}

void Bpe::AddMerged(std::string_view word, const SourceRange* source, const ModelScratch& scratch,
                    TokenRun* run) const {
  // Lengths are those that the library counts, which fall behind where symbols were dropped:
  // `counted` is the counted end of word[0, at].
  size_t at = 0, begin = 0;
  size_t counted = options_.byte_level ? CountedLength(word[0]) : 1;
  const auto covering = [&](size_t position) {
    while (counted <= position && at + 1 < word.size()) {
      ++at;
      counted += options_.byte_level ? CountedLength(word[at]) : 1;
    }
    return source[at];
  };
  if (scratch.symbols.empty()) return;
  for (uint32_t i = 0; i != kNone; i = scratch.symbols[i].next) {
    const ModelScratch::Symbol& symbol = scratch.symbols[i];
    SourceRange range;
    if (source != nullptr) {
      range.start = covering(begin).start;
      range.end = covering(begin + symbol.length - 1).end;
    }
    run->Add(symbol.id, range);
    begin += symbol.length;
  }
}

bool Bpe::AddWord(std::string_view word, const SourceRange* source, ModelScratch* scratch,
                  TokenRun* run) const {
  const int32_t whole = words_.Find(word, false);
  if (whole < 0) return AddParts(word, source, scratch, run);
  run->Add(whole, source == nullptr ? SourceRange{}
                                    : SourceRange{source[0].start, source[word.size() - 1].end});
  return true;
}

bool Bpe::AddParts(std::string_view word, const SourceRange* source, ModelScratch* scratch,
                   TokenRun* run) const {
  if (options_.ignore_merges) {
    std::string text;
    if (options_.byte_level) {
      for (const char byte : word) {
        AppendUtf8(ByteLevelCharacter(static_cast<unsigned char>(byte)), &text);
      }
    } else {
      text = word;
    }
    if (const std::optional<int32_t> whole = vocabulary_.Find(text)) {
      run->Add(*whole, source == nullptr
                           ? SourceRange{}
                           : SourceRange{source[0].start, source[word.size() - 1].end});
      return true;
    }
  }
  if (CanMerge(word)) {
    MergeJob job;
    job.word = word;
    short_merger_.Run({&job, 1});
    AddJob(job, source, run);
    return true;
  }
  if (short_merger_.is_built()) {
    MergeLong({&word, 1}, scratch);
    AddPath(word, source, scratch->path, run);
    return true;
  }
  if (backtracks_ && Backtrack(word, scratch, &scratch->path)) {
    AddPath(word, source, scratch->path, run);
    return true;
  }
  if (!AddSymbols(word, scratch)) return false;
  MergeAll(scratch);
  AddMerged(word, source, *scratch, run);
  return true;
}

namespace {

// "a b", or ["a", "b"].
absl::StatusOr<std::pair<std::string, std::string>> ParseMerge(const Json& json, size_t index) {
  const std::vector<Json>& pair = json.elements();
  if (pair.size() == 2 && pair[0].is_string() && pair[1].is_string()) {
    return std::make_pair(*pair[0].as_string(), *pair[1].as_string());
  }
  const std::string* text = json.as_string();
  const size_t space = text == nullptr ? std::string::npos : text->find(' ');
  if (space == std::string::npos || text->find(' ', space + 1) != std::string::npos) {
    return InvalidArgument("merges: merge " + std::to_string(index) +
                           " must be two tokens with one space between, or an array of two");
  }
  return std::make_pair(text->substr(0, space), text->substr(space + 1));
}

absl::StatusOr<Bpe::MergeList> ParseMerges(const Json* json) {
  if (json == nullptr || !json->is_array()) {
    return InvalidArgument("model: `merges` must be an array");
  }
  Bpe::MergeList merges;
  merges.reserve(json->elements().size());
  for (const Json& element : json->elements()) {
    const std::string* text = element.as_string();
    if (text != nullptr && text->starts_with("#version")) continue;
    std::pair<std::string, std::string> merge;
    BERTRAND_ASSIGN_OR_RETURN(merge, ParseMerge(element, merges.size()));
    merges.push_back(std::move(merge));
  }
  return merges;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Bpe>> ParseBpe(Json json, bool byte_level) {
  const JsonFields fields(json, "model");
  if (const Json* dropout = json.FindNonNull("dropout")) {
    if (dropout->as_number() != 0.0) {
      return Unimplemented("model: BPE with `dropout` is not supported: set it to null");
    }
  }
  BpeOptions options;
  options.byte_level = byte_level;
  if (json.FindNonNull("unk_token") != nullptr) {
    BERTRAND_ASSIGN_OR_RETURN(options.unk_token, fields.String("unk_token"));
  }
  BERTRAND_ASSIGN_OR_RETURN(options.continuing_subword_prefix,
                            fields.String("continuing_subword_prefix", ""));
  BERTRAND_ASSIGN_OR_RETURN(options.end_of_word_suffix, fields.String("end_of_word_suffix", ""));
  BERTRAND_ASSIGN_OR_RETURN(options.fuse_unk, fields.Bool("fuse_unk", false));
  BERTRAND_ASSIGN_OR_RETURN(options.byte_fallback, fields.Bool("byte_fallback", false));
  BERTRAND_ASSIGN_OR_RETURN(options.ignore_merges, fields.Bool("ignore_merges", false));
  const Json* entries = json.Find("vocab");
  if (entries == nullptr) return InvalidArgument("model: `vocab` is absent");
  Vocabulary vocabulary;
  BERTRAND_ASSIGN_OR_RETURN(vocabulary, ParseVocabulary(*entries));
  Bpe::MergeList merges;
  BERTRAND_ASSIGN_OR_RETURN(merges, ParseMerges(json.Find("merges")));
  json = Json();  // its memory is for the tables
  return Bpe::Create(std::move(vocabulary), merges, std::move(options));
}

}  // namespace bertrand

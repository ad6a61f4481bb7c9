#include "models/tokenizer/bert_splitter.h"

#include <algorithm>
#include <cstring>

#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

// ASCII letters are collected in pieces of this many bytes, so that a word's memory is bounded by
// its longest admissible form and not by the text. A word has as much room behind it, too, which
// MatchPadded relies on.
constexpr size_t kPiece = 256;
static_assert(kPiece >= WordPiece::kWholeWordBytes);

}  // namespace

// One text. kSources: source ranges are wanted.
template <bool kSources>
class BertSplitter::Pass {
 public:
  Pass(const BertSplitter& splitter, std::string_view text, size_t begin, size_t end, Word* word,
       TokenRun* run)
      : splitter_(splitter),
        model_(splitter.model_),
        text_(text),
        begin_(begin),
        end_(end),
        word_(*word),
        run_(*run) {}

  void Run() {
    StartWord();
    size_t at = begin_;
    while (at < end_) {
      const auto byte = static_cast<unsigned char>(text_[at]);
      switch (splitter_.ascii_kind_[byte]) {
        case Kind::kLetter:
          at = Letters(at);
          break;
        case Kind::kBreak:
          EndWord();
          ++at;
          break;
        case Kind::kAlone:
          EndWord();
          AsciiAlone(byte, at);
          ++at;
          break;
        case Kind::kDrop:
          ++at;
          break;
        default:
          at = Wide(at);
      }
    }
    EndWord();
  }

 private:
  void StartWord() {
    word_.size = 0;
    word_.num_code_points = 0;
    word_.uneven = false;
  }

  // Room for kPiece more bytes. Returns where they go.
  char* Room() {
    if (word_.bytes.size() < word_.size + kPiece) word_.bytes.resize(2 * word_.size + 2 * kPiece);
    return word_.bytes.data() + word_.size;
  }

  // From now on each byte of the word has its own source range.
  void MakeUneven() {
    word_.uneven = true;
    word_.sources.resize(word_.size);
    for (size_t i = 0; i < word_.size; ++i) {
      const auto byte = word_.start + static_cast<uint32_t>(i);
      word_.sources[i] = {byte, byte + 1};
    }
  }

  // `num_bytes` bytes that are at Room() become part of the word. `even`: they are as many in the
  // source text, code point for code point.
  void Grow(size_t num_bytes, size_t num_code_points, bool even, uint32_t from, uint32_t to) {
    if (word_.num_code_points == 0) word_.start = from;
    if constexpr (kSources) {
      if (!word_.uneven && word_.num_code_points != 0 && (!even || from != word_.end)) MakeUneven();
      if (!word_.uneven && !even) word_.uneven = true, word_.sources.clear();
      if (word_.uneven) AddSources(num_bytes, even, from, to);
    }
    word_.end = to;
    word_.size += num_bytes;
    word_.num_code_points += num_code_points;
    // A word that is too long is one unknown token: its bytes are not needed any more.
    if (word_.num_code_points > model_.max_input_chars()) word_.size = 0;
  }

  void AddSources(size_t num_bytes, bool even, uint32_t from, uint32_t to) {
    word_.sources.resize(word_.size);
    for (uint32_t i = 0; i < num_bytes; ++i) {
      word_.sources.push_back(even ? SourceRange{from + i, from + i + 1} : SourceRange{from, to});
    }
  }

  size_t Letters(size_t at) {
    const size_t start = at, limit = std::min(end_, at + kPiece);
    char* out = Room();
    auto byte = static_cast<unsigned char>(text_[at]);
    do {
      *out++ = splitter_.ascii_lower_[byte];
      if (++at == limit) break;
      byte = static_cast<unsigned char>(text_[at]);
    } while (splitter_.ascii_kind_[byte] == Kind::kLetter);
    Grow(at - start, at - start, true, static_cast<uint32_t>(start), static_cast<uint32_t>(at));
    return at;
  }

  void Unknown() {
    const std::optional<int32_t> id = model_.unk_id();
    if (!id.has_value()) {
      word_.missing_unk = true;
      return;
    }
    run_.Add(*id, {word_.start, word_.end});
  }

  void AsciiAlone(unsigned char byte, size_t at) {
    word_.start = static_cast<uint32_t>(at);
    word_.end = word_.start + 1;
    const int32_t id = splitter_.ascii_alone_id_[byte];
    if (id < 0) {
      Unknown();
    } else {
      run_.Add(id, {word_.start, word_.end});
    }
    run_.EndWord();
  }

  void EndWord() {
    if (word_.num_code_points == 0) return;
    MatchWord();
    run_.EndWord();
    StartWord();
  }

  void MatchWord() {
    if (word_.num_code_points > model_.max_input_chars()) return Unknown();
    run_.Reserve(word_.size);
    const std::string_view bytes(word_.bytes.data(), word_.size);
    if constexpr (!kSources) {
      const size_t count = model_.MatchPadded(bytes, run_.next_id(), nullptr);
      if (count == 0) return Unknown();
      run_.Advance(count);
    } else {
      if (word_.ends.size() < word_.size) word_.ends.resize(2 * word_.size);
      const size_t count = model_.MatchPadded(bytes, run_.next_id(), word_.ends.data());
      if (count == 0) return Unknown();
      uint32_t start = 0;
      for (size_t i = 0; i < count; ++i) {
        const uint32_t end = word_.ends[i];
        run_.AddSource(word_.uneven
                           ? SourceRange{word_.sources[start].start, word_.sources[end - 1].end}
                           : SourceRange{word_.start + start, word_.start + end},
                       run_.size() + i);
        start = end;
      }
      run_.Advance(count);
    }
  }

  // A code point that is not ASCII. Returns where the text goes on.
  size_t Wide(size_t at) {
    size_t next = at;
    const char32_t c = NextCodePoint(text_, &next);
    const SourceRange from{static_cast<uint32_t>(at), static_cast<uint32_t>(next)};
    const Action& action = splitter_.actions_[RecordIndexOf(c)];
    switch (action.kind) {
      case Kind::kLetter:
        Copy(from);
        break;
      case Kind::kReplace:
        std::memcpy(Room(), splitter_.bytes_.data() + action.offset, action.num_bytes);
        Grow(action.num_bytes, action.num_code_points,
             action.num_code_points == 1 && action.num_bytes == next - at, from.start, from.end);
        break;
      case Kind::kBreak:
        EndWord();
        break;
      case Kind::kAlone:
        EndWord();
        Copy(from);
        EndWord();
        break;
      case Kind::kMixed:
        for (int i = 0; i < action.num_code_points; ++i) {
          Normalized(splitter_.mixed_[action.offset + i], from);
        }
        break;
      case Kind::kHangul: {
        char32_t parts[kMaxDecomposition];
        const size_t count = Decompose(c, parts);
        for (size_t i = 0; i < count; ++i) Normalized(parts[i], from);
        break;
      }
      case Kind::kMarks:
        return Marks(at);
      default:
        break;  // dropped
    }
    return next;
  }

  // The code point as it is.
  void Copy(SourceRange from) {
    std::memcpy(Room(), text_.data() + from.start, from.end - from.start);
    Grow(from.end - from.start, 1, true, from.start, from.end);
  }

  // A normalised code point, of whatever class.
  void Normalized(char32_t c, SourceRange from) {
    const uint16_t flags = RecordOf(c).flags;
    if (flags & kSpace) return EndWord();
    const bool alone = (flags & kPunctuation) != 0;
    if (alone) EndWord();
    const size_t num_bytes = WriteUtf8(c, Room());
    Grow(num_bytes, 1, false, from.start, from.end);
    if (alone) EndWord();
  }

  bool CleanedAway(char32_t c) const {
    return splitter_.options_.clean_text && HasFlag(c, kCleanedAway);
  }

  // The run of marks that `at` is in. What came before `at` was dropped, except for the starter
  // that the run begins with. Returns the end of the run.
  size_t Marks(size_t at) {
    const auto is_mark = [](char32_t c) {
      char32_t parts[kMaxDecomposition];
      Decompose(c, parts);
      return RecordOf(parts[0]).combining_rank != 0;
    };
    const auto code_point = [&](size_t position, size_t* next) {
      *next = position;
      return NextCodePoint(text_, next);
    };
    size_t start = at, next;
    bool has_starter = false;
    for (size_t q = at; !has_starter && q > begin_;) {
      if (q == at && !is_mark(code_point(at, &next))) break;  // it is itself the starter
      q = PreviousBoundary(text_, q);
      const char32_t c = code_point(q, &next);
      if (CleanedAway(c)) continue;
      start = q;
      has_starter = !is_mark(c);
    }
    word_.marks.Clear();
    word_.decomposer.Start(&word_.marks);
    size_t end = start;
    bool first = true;
    while (end < end_) {
      const char32_t c = code_point(end, &next);
      if (!CleanedAway(c)) {
        if (!first && !is_mark(c)) break;
        first = false;
        const bool space = splitter_.options_.clean_text && HasFlag(c, kSpace);
        word_.decomposer.Add(space ? U' ' : c,
                             {static_cast<uint32_t>(end), static_cast<uint32_t>(next)});
      }
      end = next;
    }
    word_.decomposer.Flush();
    EmitMarks(has_starter);
    return end;
  }

  // `skip_starters`: they have been dealt with.
  void EmitMarks(bool skip_starters) {
    const NormalizedText& marks = word_.marks;
    size_t i = 0;
    while (i < marks.text.size()) {
      const SourceRange from = marks.source[i];
      const char32_t c = NextCodePoint(marks.text, &i);
      const CodePointRecord& record = RecordOf(c);
      if (record.flags & kNonspacingMark) continue;
      if (skip_starters && record.combining_rank == 0) continue;
      if (!splitter_.options_.lowercase || record.lower == 0) {
        Normalized(c, from);
      } else {
        for (const char32_t part : SequenceAt(record.lower)) Normalized(part, from);
      }
    }
  }

  const BertSplitter& splitter_;
  const WordPiece& model_;
  const std::string_view text_;
  const size_t begin_, end_;
  Word& word_;
  TokenRun& run_;
};

BertSplitter::BertSplitter(const BertNormalizerOptions& options, const WordPiece& model)
    : options_(options), model_(model), actions_(kNumCodePointRecords) {
  std::vector<bool> done(kNumCodePointRecords, false);
  for (char32_t c = 0; c < 0x110000; ++c) {
    const uint16_t record = RecordIndexOf(c);
    if (done[record] || (c >= 0xD800 && c < 0xE000)) continue;
    done[record] = true;
    actions_[record] = MakeAction(c);
  }
  ascii_kind_.fill(Kind::kWide);
  for (unsigned char c = 0; c < 0x80; ++c) {
    const Action& action = actions_[RecordIndexOf(c)];
    const bool replaced = action.kind == Kind::kReplace;
    ascii_kind_[c] = replaced ? Kind::kLetter : action.kind;
    ascii_lower_[c] = replaced ? bytes_[action.offset] : static_cast<char>(c);
    const char byte = static_cast<char>(c);
    int32_t id = -1;
    const bool known = model_.max_input_chars() > 0 && model_.Match({&byte, 1}, &id, nullptr) == 1;
    ascii_alone_id_[c] = known ? id : -1;
  }
}

BertSplitter::Action BertSplitter::MakeAction(char32_t c) {
  const CodePointRecord& record = RecordOf(c);
  Action action;
  if (options_.clean_text && (record.flags & kCleanedAway)) {
    action.kind = Kind::kDrop;
    return action;
  }
  if ((options_.clean_text && (record.flags & kSpace)) || c == U' ') {
    action.kind = Kind::kBreak;
    return action;
  }
  if (options_.strip_accents && (record.flags & kHangulSyllable)) {
    action.kind = Kind::kHangul;
    return action;
  }
  char32_t parts[kMaxDecomposition] = {c};
  const size_t num_parts = options_.strip_accents ? Decompose(c, parts) : 1;
  std::vector<char32_t> out;
  for (size_t i = 0; i < num_parts; ++i) {
    const CodePointRecord& part = RecordOf(parts[i]);
    if (options_.strip_accents) {
      if (part.flags & kNonspacingMark) continue;
      if (part.combining_rank != 0) {
        action.kind = Kind::kMarks;
        return action;
      }
    }
    if (options_.lowercase && part.lower != 0) {
      const std::u32string_view lower = SequenceAt(part.lower);
      out.insert(out.end(), lower.begin(), lower.end());
    } else {
      out.push_back(parts[i]);
    }
  }
  if (out.empty()) {
    action.kind = Kind::kDrop;
    return action;
  }
  const bool isolated = options_.handle_chinese_chars && (record.flags & kIdeograph);
  const bool letters = std::none_of(out.begin(), out.end(), [](char32_t o) {
    return RecordOf(o).flags & (kSpace | kPunctuation);
  });
  if (out.size() == 1 && out[0] == c && !HasFlag(c, kSpace)) {
    action.kind = letters && !isolated ? Kind::kLetter : Kind::kAlone;
    return action;
  }
  if (letters && !isolated) {
    action.kind = Kind::kReplace;
    action.offset = static_cast<uint32_t>(bytes_.size());
    for (const char32_t o : out) AppendUtf8(o, &bytes_);
    action.num_bytes = static_cast<uint8_t>(bytes_.size() - action.offset);
  } else {
    if (isolated) {
      out.insert(out.begin(), U' ');
      out.push_back(U' ');
    }
    action.kind = Kind::kMixed;
    action.offset = static_cast<uint32_t>(mixed_.size());
    mixed_.insert(mixed_.end(), out.begin(), out.end());
  }
  action.num_code_points = static_cast<uint8_t>(out.size());
  return action;
}

void BertSplitter::Tokenize(std::string_view text, size_t begin, size_t end, Word* word,
                            TokenRun* run) const {
  if (run->want_sources()) {
    Pass<true>(*this, text, begin, end, word, run).Run();
  } else {
    Pass<false>(*this, text, begin, end, word, run).Run();
  }
}

}  // namespace bertrand

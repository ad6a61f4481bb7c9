// Bpe's ways for long words: matching, and merging in windows.

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <span>

#include "kernels/status.h"
#include "models/tokenizer/bpe.h"

namespace bertrand {
namespace {

constexpr size_t kWindow = MergeJob::kMaxBytes;
// Tokens that begin this close to a window's end may be others in the whole word.
constexpr size_t kDoubtful = 8;
// Where windows are too short for the tokens there, this much is matched, and less trusted.
constexpr size_t kPiece = 256, kTrusted = 192;
// Going back in vain must not add up.
constexpr size_t kLeastProgress = 24, kMostRetreats = 3;
// So many pieces are merged in turn.
constexpr size_t kNumPieces = 288;
// A piece of one window has at least so many bytes.
constexpr size_t kLeastCut = 20;
static_assert(kLeastCut > SureCuts::kAtOnce);
// Pieces that do not end at a sure cut: each one is twice as long as the one before it. They go on
// for some way into what is behind, until both have a token in common.
constexpr size_t kLeastPiece = 256, kMostPiece = 2048, kOverlap = 32;

// The place of the first bit behind bit `at`, or 64.
size_t NextBit(uint64_t bits, size_t at) {
  return static_cast<size_t>(std::countr_zero(bits & ~uint64_t{1} << at));
}

}  // namespace

int32_t Bpe::LongestMatch(std::string_view text) const {
  uint32_t state = 1, found = 0;
  for (const char byte : text) {
    state = proper_.Step(state, static_cast<unsigned char>(byte));
    if (state == DoubleArray::kNone) break;
    if (proper_.cell(state).first != 0) found = proper_.cell(state).first;
  }
  return static_cast<int32_t>(found) - 1;
}

bool Bpe::IsCompatible(int32_t left, int32_t right) const {
  // Merges from this rank on have been undone.
  uint32_t limit = std::numeric_limits<uint32_t>::max();
  for (;;) {
    const Merge* merge = FindMerge(left, right);
    if (merge != nullptr && merge->rank + 1 < limit) return false;
    const Origin& left_origin = origins_[static_cast<size_t>(left)];
    const Origin& right_origin = origins_[static_cast<size_t>(right)];
    if (left_origin.rank > right_origin.rank) {
      limit = left_origin.rank;
      left = left_origin.right;
    } else {
      if (right_origin.rank == 0) return true;
      // Of equal merges the left one comes first: one that meets the boundary would have, too.
      limit = right_origin.rank + 1;
      right = right_origin.left;
    }
  }
}

bool Bpe::Backtrack(std::string_view word, ModelScratch* scratch,
                    std::vector<int32_t>* tokens) const {
  std::vector<int32_t>& path = *tokens;
  std::vector<uint64_t>& dead_ends = scratch->dead_ends;
  path.clear();
  dead_ends.assign(word.size() / 64 + 1, 0);
  size_t at = 0;
  int32_t token = LongestMatch(word);
  while (token >= 0) {
    const int32_t last = path.empty() ? -1 : path.back();
    size_t end = 0;
    while (token >= 0) {
      ++scratch->work;
      end = at + lengths_[static_cast<size_t>(token)];
      const bool is_dead = (dead_ends[end / 64] >> (end % 64) & 1) != 0;
      if (!is_dead && (last < 0 || IsCompatible(last, token))) break;
      token = shorter_[static_cast<size_t>(token)];
    }
    if (token >= 0) {
      path.push_back(token);
      at = end;
      if (at == word.size()) return true;
      token = LongestMatch(word.substr(at));
    } else {
      if (last < 0) return false;
      dead_ends[at / 64] |= uint64_t{1} << (at % 64);
      path.pop_back();
      at -= lengths_[static_cast<size_t>(last)];
      token = last;
    }
  }
  return false;  // a symbol that is not in the vocabulary
}

// Long words are cut into pieces, whose windows are merged in turn.
class Bpe::LongWords {
 public:
  LongWords(const Bpe& model, ModelScratch* scratch)
      : model_(model), scratch_(*scratch), pieces_(scratch->pieces_of_words) {
    pieces_.resize(kNumPieces);
    scratch_.windows.resize(2 * kNumPieces);
    scratch_.window_cache.Clear();
  }

  void Add(std::string_view word) {
    size_t at = 0, first = 0, chain = 0, size = kLeastPiece;
    while (at < word.size()) {
      size_t end = EndOfWindow(word, at);
      const bool is_cut = end != 0 || word.size() - at <= size;
      if (is_cut) {
        end = end != 0 ? end : word.size();
        size = kLeastPiece;
      } else {
        end = at + size;
        size = std::min(2 * size, kMostPiece);
      }
      Piece& piece = pieces_[count_++];
      piece.word = is_cut ? word.substr(0, end) : word;
      piece.whole_size = word.size();
      piece.chain = chain;
      piece.at = piece.begin = at;
      piece.first = first;
      piece.is_joined = !is_cut && count_ < kNumPieces;
      piece.stop = std::min(end + (piece.is_joined ? kOverlap : 0), word.size());
      piece.retreated_at = 0;
      piece.num_retreats = 0;
      piece.has_failed = false;
      piece.only = nullptr;
      piece.tokens.clear();
      at = end;
      first = 0;
      if (is_cut) chain = end;
      if (count_ < kNumPieces) continue;
      const Piece& last = Flush();
      if (is_cut) continue;
      at = last.at;
      first = last.first;
    }
  }

  void Finish() {
    if (count_ > 0) Flush();
  }

 private:
  using Piece = ModelScratch::PieceOfWord;

  size_t LengthOf(int32_t id) const { return model_.lengths_[static_cast<size_t>(id)]; }

  // Where a window from `at` on can end for good; 0: nowhere.
  size_t EndOfWindow(std::string_view word, size_t at) const {
    if (word.size() - at <= kWindow) return word.size();
    const size_t last = std::min(at + kWindow, word.size() - 2);
    return model_.sure_cuts_.FindLast(word, at + kLeastCut, last);
  }

  // Merges what has been added, and puts it behind the path. The place of the piece that is
  // returned is where it ends.
  const Piece& Flush() {
    std::array<Piece*, kNumPieces> active;
    size_t num_active = 0;
    for (Piece& piece : std::span(pieces_).first(count_)) active[num_active++] = &piece;
    // What comes of the first windows stays where it is until the end.
    for (size_t windows = 0; num_active > 0; windows = kNumPieces) {
      MergeWindows(std::span(active).first(num_active), windows);
      size_t kept = 0;
      for (size_t i = 0; i < num_active; ++i) {
        if (windows == 0 && IsWhole(*active[i], *merged_[i])) {
          active[i]->only = merged_[i];
          active[i]->at = active[i]->stop;
          scratch_.work += kWindow;
          continue;
        }
        Take(*merged_[i], active[i]);
        if (active[i]->at < active[i]->stop) active[kept++] = active[i];
      }
      num_active = kept;
    }
    Piece* last = nullptr;
    for (size_t i = 0; i < count_; ++i) {
      last = &pieces_[i];
      size_t from = 0;
      if (last->begin == last->chain) chain_in_path_ = scratch_.path.size();
      while (last->is_joined) last = Join(last, &pieces_[++i], &from);
      while (last->at < last->stop) Extend(last);
      if (last->only != nullptr) TakeTokens(*last->only, last->only->starts, &scratch_.path);
      Append(*last, from, last->tokens.size());
      if (last->has_failed) MatchChain(last);
      if (last->at == last->whole_size) scratch_.path_ends.push_back(scratch_.path.size());
    }
    count_ = 0;
    return *last;
  }

  // Whether a piece stands alone, and this, which is not the cache's, is all of it.
  bool IsWhole(const Piece& piece, const MergeJob& job) const {
    const bool is_alone = piece.begin == piece.chain && !piece.is_joined;
    return is_alone && job.word.data() == piece.word.data() + piece.begin &&
           piece.begin + job.word.size() == piece.word.size();
  }

  // The next window of each becomes merged_, by scratch_.windows from `first` on.
  void MergeWindows(std::span<Piece* const> pieces, size_t first) {
    for (size_t i = 0; i < num_to_keep_; ++i) {
      scratch_.window_cache.Add(to_keep_[i].hash, scratch_.windows[to_keep_[i].index]);
    }
    num_to_keep_ = 0;
    size_t count = first;
    for (size_t i = 0; i < pieces.size(); ++i) {
      const std::string_view window = pieces[i]->word.substr(pieces[i]->at, kWindow);
      if (window.size() >= WindowCache::kMinBytes && scratch_.window_cache.IsWorthLooking()) {
        const uint64_t hash = WindowCache::HashOf(window);
        merged_[i] = scratch_.window_cache.Find(hash, window);
        if (merged_[i] != nullptr) continue;
        if (scratch_.window_cache.IsWorthKeeping(hash)) to_keep_[num_to_keep_++] = {hash, count};
      }
      merged_[i] = &scratch_.windows[count];
      scratch_.windows[count++].word = window;
    }
    model_.short_merger_.Run(std::span(scratch_.windows).subspan(first, count - first));
  }

  void Append(const Piece& piece, size_t from, size_t to) {
    const auto at = [&](size_t i) { return piece.tokens.begin() + static_cast<std::ptrdiff_t>(i); };
    scratch_.path.insert(scratch_.path.end(), at(from), at(to));
  }

  // What has not been cut for good is matched as one, and found whatever it is.
  void MatchChain(Piece* last) {
    scratch_.path.resize(chain_in_path_);
    const std::string_view text = last->word.substr(last->chain);
    BERTRAND_CHECK(model_.Backtrack(text, &scratch_, &scratch_.piece), "every byte is a token");
    scratch_.path.insert(scratch_.path.end(), scratch_.piece.begin(), scratch_.piece.end());
  }

  void Extend(Piece* piece) {
    MergeWindows({&piece, 1}, kNumPieces);
    Take(*merged_[0], piece);
  }

  // Goes on with a window that begins where the piece has come to. Its tokens are right up to one
  // that it shows whole, as late as can be trusted, if the next window begins with that one.
  void Take(const MergeJob& job, Piece* piece) {
    scratch_.work += kWindow;
    const uint64_t starts = job.starts;
    const bool fits = piece->first == 0 || NextBit(starts, 0) == piece->first;
    if (fits && piece->at + job.word.size() == piece->word.size()) {
      TakeTokens(job, starts, &piece->tokens);
      piece->at = piece->word.size();
      piece->first = 0;
      return;
    }
    const uint64_t whole = starts & ~std::bit_floor(starts) & ~uint64_t{1};
    if (!fits && Retreat(piece)) return;
    if (!fits || whole == 0) return Match(piece);
    const uint64_t trusted = whole & ((uint64_t{1} << (kWindow - kDoubtful)) - 1);
    const uint64_t next = std::bit_floor(trusted != 0 ? trusted : whole);
    TakeTokens(job, starts & (next - 1), &piece->tokens);
    const auto length = static_cast<size_t>(std::countr_zero(next));
    piece->at += length;
    piece->first = NextBit(starts, length) - length;
  }

  // The token that was to follow was another one than the next window shows. Goes back by one
  // token, so that a window begins there that shows more of what is behind it; not more than
  // kMostRetreats times to about the same place.
  bool Retreat(Piece* piece) {
    if (piece->tokens.empty()) return false;
    const size_t length = LengthOf(piece->tokens.back());
    if (piece->at >= piece->retreated_at + kLeastProgress) {
      piece->retreated_at = piece->at;
      piece->num_retreats = 0;
    }
    if (piece->num_retreats == kMostRetreats) return false;
    ++piece->num_retreats;
    piece->tokens.pop_back();
    piece->at -= length;
    piece->first = length;
    return true;
  }

  void TakeTokens(const MergeJob& job, uint64_t starts, std::vector<int32_t>* tokens) {
    const size_t size = tokens->size();
    tokens->resize(size + static_cast<size_t>(std::popcount(starts)));
    int32_t* token = tokens->data() + size;
    for (; starts != 0; starts &= starts - 1) {
      const auto at = static_cast<size_t>(std::countr_zero(starts));
      *token++ = model_.short_merger_.TokenAt(job, at);
    }
  }

  // Some of the word from where the piece has come to is matched, and most of it taken.
  void Match(Piece* piece) {
    const std::string_view text = piece->word.substr(piece->at, kPiece);
    const std::vector<int32_t>& tokens = scratch_.piece;
    const bool is_last = piece->at + text.size() == piece->word.size();
    size_t count = 0, end = 0;
    bool fits = model_.Backtrack(text, &scratch_, &scratch_.piece) &&
                (piece->first == 0 || LengthOf(tokens[0]) == piece->first);
    while (fits && count < tokens.size() &&
           (is_last || end + LengthOf(tokens[count]) <= kTrusted)) {
      end += LengthOf(tokens[count++]);
    }
    // The token behind those must be whole.
    if (!is_last) fits = fits && count > 0 && count + 1 < tokens.size();
    if (!fits) {
      piece->has_failed = true;
      piece->at = piece->word.size();
      return;
    }
    piece->tokens.insert(piece->tokens.end(), tokens.begin(),
                         tokens.begin() + static_cast<std::ptrdiff_t>(count));
    piece->at += end;
    piece->first = is_last ? 0 : LengthOf(tokens[count]);
  }

  // Of a piece and the one behind it, which has a token in common with it at some place: what comes
  // before is appended, and the second one goes on from its token *from. Where they have none, the
  // first one goes on instead.
  Piece* Join(Piece* piece, Piece* behind, size_t* from) {
    size_t index = piece->tokens.size(), place = piece->at, other_index = 0;
    size_t other_place = behind->begin;
    while (index > *from && place > other_place) place -= LengthOf(piece->tokens[--index]);
    while (!piece->has_failed && !behind->has_failed) {
      if (place < other_place || (place == other_place && index == piece->tokens.size())) {
        if (index == piece->tokens.size()) {
          if (place == piece->word.size()) break;
          Extend(piece);
          if (index > piece->tokens.size()) {
            index = piece->tokens.size();
            place = piece->at;
          }
          continue;
        }
        place += LengthOf(piece->tokens[index++]);
      } else if (other_index == behind->tokens.size()) {
        break;
      } else if (place == other_place && piece->tokens[index] == behind->tokens[other_index]) {
        Append(*piece, *from, index);
        *from = other_index;
        return behind;
      } else {
        other_place += LengthOf(behind->tokens[other_index++]);
      }
    }
    piece->is_joined = behind->is_joined;
    piece->stop = behind->stop;
    piece->word = behind->word;
    if (behind->has_failed) piece->has_failed = true;
    if (piece->has_failed) piece->at = piece->word.size();
    // Beyond a sure cut.
    while (piece->at > piece->word.size()) {
      piece->at -= LengthOf(piece->tokens.back());
      piece->tokens.pop_back();
      piece->first = 0;
    }
    return piece;
  }

  const Bpe& model_;
  ModelScratch& scratch_;
  std::vector<Piece>& pieces_;
  size_t count_ = 0;
  std::array<const MergeJob*, kNumPieces> merged_;
  // Those of scratch_.windows that are to be kept when all have been read.
  struct ToKeep {
    uint64_t hash;
    size_t index;
  };
  std::array<ToKeep, kNumPieces> to_keep_;
  size_t num_to_keep_ = 0;
  size_t chain_in_path_ = 0;  // where the path was when the last chain of pieces began
};

void Bpe::MergeLong(std::span<const std::string_view> words, ModelScratch* scratch) const {
  scratch->path.clear();
  scratch->path_ends.clear();
  LongWords long_words(*this, scratch);
  for (const std::string_view word : words) long_words.Add(word);
  long_words.Finish();
}

}  // namespace bertrand

// Bpe's ways for long words: matching, and merging in windows.

#include <algorithm>
#include <bit>
#include <limits>
#include <span>

#include "models/tokenizer/bpe.h"

namespace bertrand {
namespace {

// A window is as long as a job may be. The next one begins before it ends, so that both show some
// tokens whole.
constexpr size_t kWindow = MergeJob::kMaxBytes, kStride = 48, kNumWindows = 8;
// Tokens that begin this close to a window's end may be others in the whole word.
constexpr size_t kDoubtful = 12;
// Where windows are too short for the tokens there, this much is matched, and less trusted.
constexpr size_t kPiece = 256, kTrusted = 192;

// The place of the first bit behind bit `at`, or 64.
size_t NextBit(uint64_t bits, size_t at) {
  return static_cast<size_t>(std::countr_zero(bits & ~uint64_t{1} << at));
}

// Where two windows, the second one `offset` bytes behind the first, have the same token, not
// before byte `from` of the first: its place in the second one; kWindow: nowhere.
size_t CommonToken(uint64_t first_starts, uint64_t second_starts, size_t offset, size_t from) {
  const uint64_t overlap = (uint64_t{1} << (kWindow - offset)) - 1;
  const uint64_t before = first_starts >> offset, behind = second_starts & overlap;
  const uint64_t common = before & behind, any = before | behind;
  const uint64_t wanted = from <= offset ? common : common >> (from - offset) << (from - offset);
  for (uint64_t rest = wanted; rest != 0; rest &= rest - 1) {
    const auto at = static_cast<size_t>(std::countr_zero(rest));
    const size_t end = NextBit(any, at);
    if (end < kWindow && (common >> end & 1) != 0) return at;
  }
  return kWindow;
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
      end = at + origins_[static_cast<size_t>(token)].length;
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
      at -= origins_[static_cast<size_t>(last)].length;
      token = last;
    }
  }
  return false;  // a symbol that is not in the vocabulary
}

// The word's tokens from *from on as far as `job` shows them up to byte `to` of it.
void Bpe::TakeTokens(const MergeJob& job, size_t from, size_t to, ModelScratch* scratch) const {
  const uint64_t wanted = ((uint64_t{1} << to) - 1) & ~((uint64_t{1} << from) - 1);
  for (uint64_t starts = job.starts & wanted; starts != 0; starts &= starts - 1) {
    const auto at = static_cast<size_t>(std::countr_zero(starts));
    scratch->path.push_back(short_merger_.TokenAt(job, at));
  }
}

// A piece of the word, from place->at on, is matched, and most of it taken.
bool Bpe::MatchPiece(std::string_view word, Place* place, ModelScratch* scratch) const {
  const std::string_view piece = word.substr(place->at, kPiece);
  std::vector<int32_t>& tokens = scratch->piece;
  if (!Backtrack(piece, scratch, &tokens)) return false;
  const auto length = [&](size_t i) -> size_t {
    return origins_[static_cast<size_t>(tokens[i])].length;
  };
  if (place->first != 0 && length(0) != place->first) return false;
  const bool is_last = place->at + piece.size() == word.size();
  size_t count = 0, end = 0;
  while (count < tokens.size() && (is_last || end + length(count) <= kTrusted)) {
    end += length(count++);
  }
  // The token behind those must be whole.
  if (!is_last && (count == 0 || count + 1 >= tokens.size())) return false;
  scratch->path.insert(scratch->path.end(), tokens.begin(),
                       tokens.begin() + static_cast<std::ptrdiff_t>(count));
  *place = {place->at + end, is_last ? 0 : length(count)};
  return true;
}

// Goes from window to window. What each shows is right from a token on that the window before
// shows, too.
class Bpe::WindowWalk {
 public:
  WindowWalk(const Bpe& model, std::string_view word, ModelScratch* scratch)
      : model_(model), word_(word), scratch_(*scratch) {
    scratch_.path.clear();
    if (scratch_.windows.size() <= kNumWindows) scratch_.windows.resize(kNumWindows + 1);
  }

  bool Run() {
    while (place_.at < word_.size()) {
      if (!Walk() && !model_.MatchPiece(word_, &place_, &scratch_)) return false;
    }
    return true;
  }

 private:
  // The windows from place_ on. False when matching must go on from there.
  bool Walk() {
    const std::span<MergeJob> windows = MakeWindows();
    const size_t begin = place_.at;
    size_t num_bridges = 0;
    if (!Enter(windows[0])) return false;
    for (size_t i = 1; !AtEnd();) {
      const size_t start = begin + i * kStride;
      if (i < windows.size() && start < at_ + kWindow) {
        Follow(windows[i++], start);
        continue;
      }
      if (!Leave()) return false;
      if (i >= windows.size()) break;
      // None of them has a token in common with this one: one more, which begins with one.
      ++num_bridges;
      MergeJob& bridge = scratch_.windows[kNumWindows];
      bridge.word = word_.substr(place_.at, kWindow);
      scratch_.work += kWindow;
      model_.short_merger_.Run({&bridge, 1});
      if (!Enter(bridge)) return false;
      i = (at_ - begin) / kStride + 1;
    }
    if (AtEnd()) {
      model_.TakeTokens(*job_, from_, job_->word.size(), &scratch_);
      place_ = {word_.size(), 0};
    }
    // Where windows stay out of step, those beforehand are in vain.
    num_windows_ = 2 * num_bridges > windows.size() ? std::max<size_t>(1, num_windows_ / 2)
                                                    : std::min(2 * num_windows_, kNumWindows);
    return true;
  }

  std::span<MergeJob> MakeWindows() {
    size_t count = 0;
    for (size_t at = place_.at; count < num_windows_; at += kStride) {
      scratch_.windows[count++].word = word_.substr(at, kWindow);
      if (at + kWindow >= word_.size()) break;
    }
    const std::span<MergeJob> windows = std::span(scratch_.windows).first(count);
    scratch_.work += count * kWindow;
    model_.short_merger_.Run(windows);
    return windows;
  }

  // Begins with a window that begins at place_.
  bool Enter(const MergeJob& job) {
    if (place_.first != 0 && NextBit(job.starts, 0) != place_.first) return false;
    job_ = &job;
    at_ = place_.at;
    from_ = 0;
    return true;
  }

  // Goes on with the next window, if it has a token in common with this one.
  void Follow(const MergeJob& next, size_t start) {
    const size_t offset = start - at_;
    const size_t common = CommonToken(job_->starts, next.starts, offset, from_);
    if (common == kWindow) return;
    model_.TakeTokens(*job_, from_, offset + common, &scratch_);
    job_ = &next;
    at_ = start;
    from_ = common;
  }

  bool AtEnd() const { return at_ + job_->word.size() == word_.size(); }

  // place_ becomes that of a token that this window shows whole, as late as it can be trusted.
  bool Leave() {
    const uint64_t starts = job_->starts;
    const uint64_t whole = starts & ~std::bit_floor(starts);
    const uint64_t behind = whole & ~uint64_t{1} << from_;
    const uint64_t trusted = behind & ((uint64_t{1} << (kWindow - kDoubtful)) - 1);
    const uint64_t choice = trusted != 0 ? trusted : behind;
    const size_t next = choice == 0 ? from_ : static_cast<size_t>(std::bit_width(choice)) - 1;
    model_.TakeTokens(*job_, from_, next, &scratch_);
    const size_t end = NextBit(starts, next);
    place_ = {at_ + next, end < kWindow ? end - next : 0};
    return choice != 0;
  }

  const Bpe& model_;
  const std::string_view word_;
  ModelScratch& scratch_;
  Place place_;
  size_t num_windows_ = 1;
  // The window: what it shows up to byte from_ of it has been taken.
  const MergeJob* job_ = nullptr;
  size_t at_ = 0, from_ = 0;
};

bool Bpe::MergeWindows(std::string_view word, ModelScratch* scratch) const {
  return short_merger_.is_built() && WindowWalk(*this, word, scratch).Run();
}

}  // namespace bertrand

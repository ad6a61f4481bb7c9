#pragma once

// What became of windows of long words, by their bytes: in text that repeats itself the same few
// come again and again, and are merged once. A window is kept when it comes for the second time, so
// that text without repetition pays for a hash alone.
//
// Bounded, and of one model until it is cleared. Not thread-safe.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "models/tokenizer/short_merger.h"

namespace bertrand {

class WindowCache {
 public:
  static constexpr size_t kMinBytes = 8;  // shorter ones are not kept

  void Clear() {
    jobs_.resize(kNumJobs);
    hashes_.fill(0);
    seen_.fill(0);
    num_in_vain_ = 0;
  }

  // Whether to look for the next window at all: of a text that has not repeated itself for a while
  // one in four.
  bool IsWorthLooking() { return num_in_vain_++ < kPatience || num_in_vain_ % 4 == 0; }
  // Requires window.size() >= kMinBytes, for all.
  static uint64_t HashOf(std::string_view window) {
    uint64_t low = window.size(), high = 0;
    const auto load = [&](size_t at) {
      uint64_t bytes;
      std::memcpy(&bytes, window.data() + at, sizeof(bytes));
      return bytes;
    };
    for (size_t at = 0; at + 16 <= window.size(); at += 16) {
      low = (low ^ load(at)) * kLowMultiplier;
      high = (high ^ load(at + 8)) * kHighMultiplier;
    }
    const size_t last = window.size() - 8;
    low = (low ^ load(last)) * kLowMultiplier;
    high = (high ^ load(last < 8 ? 0 : last - 8)) * kHighMultiplier;
    const uint64_t hash = low ^ (high >> 31 | high << 33);
    return (hash ^ hash >> 29) | 1;  // 0 stands for none
  }
  // Null: not kept. Otherwise it stays until the next Add.
  const MergeJob* Find(uint64_t hash, std::string_view window) {
    for (const size_t place : PlacesOf(hash)) {
      if (hashes_[place] != hash || jobs_[place].job.word != window) continue;
      num_in_vain_ = 0;
      return &jobs_[place].job;
    }
    return nullptr;
  }
  // Whether a window that has not been found comes for the second time.
  bool IsWorthKeeping(uint64_t hash) {
    const std::array<size_t, 2> places = PlacesOf(hash);
    if (seen_[places[0]] == hash || seen_[places[1]] == hash) return true;
    seen_[places[++turn_ % 2]] = hash;
    return false;
  }
  void Add(uint64_t hash, const MergeJob& job) {
    const std::array<size_t, 2> places = PlacesOf(hash);
    const bool is_first = hashes_[places[0]] == hash || hashes_[places[0]] == 0;
    const size_t place = places[is_first ? 0 : 1];
    hashes_[place] = hash;
    Job& kept = jobs_[place];
    kept.job = job;
    kept.job.word = {kept.bytes.data(), job.word.size()};
    std::memcpy(kept.bytes.data(), job.word.data(), job.word.size());
  }

 private:
  static constexpr size_t kNumJobs = 512;
  static constexpr uint64_t kPatience = 32;
  static constexpr uint64_t kLowMultiplier = 0x9E3779B97F4A7C15u,
                            kHighMultiplier = 0xD6E8FEB86659FD93u;
  // Two, or windows that take turns could keep each other out.
  static std::array<size_t, 2> PlacesOf(uint64_t hash) {
    return {(hash >> 1) % kNumJobs, (hash >> 32) % kNumJobs};
  }

  struct Job {
    std::array<char, MergeJob::kMaxBytes> bytes;
    MergeJob job;
  };

  std::vector<Job> jobs_;
  std::array<uint64_t, kNumJobs> hashes_{};  // of jobs_, apart: most windows are not found
  std::array<uint64_t, kNumJobs> seen_;
  uint64_t turn_ = 0;         // of two places
  uint64_t num_in_vain_ = 0;  // windows since one was found
};

}  // namespace bertrand

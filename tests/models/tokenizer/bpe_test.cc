// Bpe's three ways: matching and merging in registers give what merging by a heap gives, for
// vocabularies as training makes them.

#include "models/tokenizer/bpe.h"

#include <gtest/gtest.h>
#include <hwy/targets.h>

#include <map>
#include <random>

#include "kernels/status.h"
#include "models/tokenizer/byte_level.h"
#include "models/tokenizer/pair_table.h"
#include "models/tokenizer/short_merger.h"
#include "models/tokenizer/sure_cuts.h"
#include "models/tokenizer/unicode.h"

namespace bertrand {
namespace {

// Learns merges from random text over few letters, so that overlaps are many.
Bpe::MergeList Train(std::mt19937* random, size_t num_letters, size_t num_merges) {
  std::vector<std::vector<std::string>> words;
  for (int i = 0; i < 60; ++i) {
    words.emplace_back();
    for (size_t length = 2 + (*random)() % 20; length > 0; --length) {
      words.back().emplace_back(1, static_cast<char>('a' + (*random)() % num_letters));
    }
  }
  Bpe::MergeList merges;
  std::map<std::string, bool> made;
  while (merges.size() < num_merges) {
    std::map<std::pair<std::string, std::string>, int> counts;
    for (const auto& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    }
    std::pair<std::string, std::string> best;
    int most = 0;
    for (const auto& [pair, count] : counts) {
      if (count > most && !made[pair.first + pair.second]) best = pair, most = count;
    }
    if (most == 0) break;
    made[best.first + best.second] = true;
    merges.push_back(best);
    for (auto& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) {
        if (word[i] != best.first || word[i + 1] != best.second) continue;
        word[i] += word[i + 1];
        word.erase(word.begin() + static_cast<std::ptrdiff_t>(i) + 1);
      }
    }
  }
  return merges;
}

std::unique_ptr<Bpe> Make(const Bpe::MergeList& merges, bool byte_level = false) {
  Vocabulary vocabulary;
  int32_t id = 0;
  for (unsigned byte = byte_level ? 0 : 'a'; byte < (byte_level ? 256 : 'h'); ++byte) {
    std::string text;
    AppendUtf8(ByteLevelCharacter(static_cast<unsigned char>(byte)), &text);
    EXPECT_TRUE(vocabulary.Add(text, id++).ok());
  }
  for (const auto& [left, right] : merges) {
    if (vocabulary.Find(left + right).has_value()) continue;
    EXPECT_TRUE(vocabulary.Add(left + right, id++).ok());
  }
  BpeOptions options;
  options.byte_level = byte_level;
  auto model = Bpe::Create(std::move(vocabulary), merges, options);
  EXPECT_TRUE(model.ok()) << Message(model.status());
  return *std::move(model);
}

std::vector<int32_t> Tokens(const Bpe& model, const std::string& word, ModelScratch* scratch) {
  TokenRun run;
  run.Clear(false, false);
  EXPECT_TRUE(model.AddWord(word, nullptr, scratch, &run));
  return {run.ids(), run.ids() + run.size()};
}

TEST(BpeTest, BacktrackingEqualsMerging) {
  std::mt19937 random(11);
  ModelScratch scratch;
  for (int round = 0; round < 60; ++round) {
    const size_t num_letters = 1 + random() % 4;
    const Bpe::MergeList merges = Train(&random, num_letters, 1 + random() % 60);
    const auto backtracking = Make(merges), merging = Make(merges);
    ASSERT_TRUE(backtracking->backtracks());
    merging->DisableBacktracking();
    for (int i = 0; i < 400; ++i) {
      std::string word;
      for (size_t length = 1 + random() % 40; length > 0; --length) {
        word += static_cast<char>('a' + random() % num_letters);
      }
      ASSERT_EQ(Tokens(*backtracking, word, &scratch), Tokens(*merging, word, &scratch)) << word;
    }
  }
}

// What tokens come of, and where they are in the word.
struct Result {
  std::vector<int32_t> ids;
  std::vector<std::pair<uint32_t, uint32_t>> ranges;
  bool operator==(const Result&) const = default;
};
Result TokensWithSources(const Bpe& model, const std::string& word, ModelScratch* scratch) {
  std::vector<SourceRange> source;
  for (uint32_t i = 0; i < word.size(); ++i) source.push_back({i, i + 1});
  TokenRun run;
  run.Clear(true, false);
  EXPECT_TRUE(model.AddWord(word, source.data(), scratch, &run));
  Result result;
  for (size_t i = 0; i < run.size(); ++i) {
    result.ids.push_back(run.ids()[i]);
    result.ranges.emplace_back(run.sources()[i].start, run.sources()[i].end);
  }
  return result;
}

// On every instruction set that this machine has.
TEST(BpeTest, MergingInRegistersEqualsMerging) {
  ModelScratch scratch;
  int num_targets = 0;
  for (int64_t rest = hwy::SupportedTargets(); rest != 0; rest &= rest - 1) {
    hwy::SetSupportedTargetsForTest(rest & -rest);
    const std::string name = hwy::TargetName(rest & -rest);
    if (ChooseMergeKernel().target != name) continue;  // not compiled
    SCOPED_TRACE(name);
    ++num_targets;
    std::mt19937 random(12);
    for (int round = 0; round < 30; ++round) {
      const size_t num_letters = 1 + random() % 4;
      const Bpe::MergeList merges = Train(&random, num_letters, 1 + random() % 60);
      const auto fast = Make(merges, true), merging = Make(merges, true);
      ASSERT_TRUE(fast->merges_short_words());
      merging->DisableBacktracking();
      ASSERT_FALSE(merging->merges_short_words());
      for (int i = 0; i < 400; ++i) {
        std::string word;
        for (size_t length = 1 + random() % MergeJob::kMaxBytes; length > 0; --length) {
          word += static_cast<char>('a' + random() % num_letters);
        }
        if (random() % 8 == 0) word[random() % word.size()] = static_cast<char>(random());
        ASSERT_EQ(TokensWithSources(*fast, word, &scratch),
                  TokensWithSources(*merging, word, &scratch))
            << word;
      }
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  EXPECT_GT(num_targets, 0);
}

TEST(PairTableTest, FindsWhatIsThere) {
  std::mt19937 random(7);
  for (const size_t size : {0, 1, 2, 31, 1000, 30000, 65000}) {
    std::map<std::pair<uint16_t, uint16_t>, uint16_t> wanted;
    std::vector<PairTable::Entry> entries;
    while (entries.size() < size) {
      const auto left = static_cast<uint16_t>(random() % PairTable::kNone);
      const auto right = static_cast<uint16_t>(random() % 300);
      const auto value = static_cast<uint16_t>(random() % PairTable::kNone);
      if (wanted.emplace(std::pair(left, right), value).second) {
        entries.push_back({left, right, value});
      }
    }
    PairTable table;
    ASSERT_TRUE(table.Build(entries)) << size;
    for (const PairTable::Entry& entry : entries) {
      ASSERT_EQ(table.Find(entry.left, entry.right), entry.value);
    }
    for (int i = 0; i < 10000; ++i) {
      const auto left = static_cast<uint16_t>(random()), right = static_cast<uint16_t>(random());
      const auto found = wanted.find({left, right});
      ASSERT_EQ(table.Find(left, right), found == wanted.end() ? PairTable::kNone : found->second);
    }
  }
  PairTable table;
  EXPECT_FALSE(table.Build({{1, 2, 3}, {1, 2, 4}}));
  EXPECT_EQ(table.Find(1, 2), PairTable::kNone);
}

// What training does not make is merged.
TEST(BpeTest, OddMergesAreMerged) {
  EXPECT_TRUE(Make({{"a", "b"}, {"ab", "c"}})->backtracks());
  EXPECT_FALSE(Make({{"ab", "c"}, {"a", "b"}})->backtracks());  // too early
  EXPECT_FALSE(Make({{"a", "b"}, {"b", "c"}, {"ab", "c"}, {"a", "bc"}})->backtracks());  // twice
}

// The bytes of a long word's tokens are the word's; returns the work that they took.
uint64_t WorkOf(const Bpe& model, const std::string& word, ModelScratch* scratch) {
  scratch->work = 0;
  std::string text;
  for (const int32_t id : Tokens(model, word, scratch)) text += model.vocabulary().Text(id);
  EXPECT_TRUE(text == word) << word.size();
  return scratch->work;
}

// Long words are merged in windows, and matched where those are too short; the tokens are those of
// merging. Text that repeats itself keeps windows out of step.
TEST(BpeTest, WindowsEqualMerging) {
  std::mt19937 random(21);
  ModelScratch scratch;
  for (int round = 0; round < 40; ++round) {
    const size_t num_letters = 1 + random() % 4;
    Bpe::MergeList merges = Train(&random, num_letters, 1 + random() % 60);
    // Some vocabularies have tokens as long as a window, and longer.
    for (std::string a = "g"; round % 4 == 0 && a.size() < 200; a += a) merges.emplace_back(a, a);
    const auto fast = Make(merges, true), merging = Make(merges, true);
    ASSERT_TRUE(fast->merges_short_words());
    merging->DisableBacktracking();
    for (int i = 0; i < 60; ++i) {
      std::string unit;
      for (size_t length = 1 + random() % 30; length > 0; --length) {
        unit += static_cast<char>('a' + random() % num_letters);
      }
      if (random() % 4 == 0) unit += std::string(random() % 150, 'g');
      std::string word;
      const size_t size = MergeJob::kMaxBytes + random() % 2000;
      while (word.size() < size) {
        word += unit;
        if (i % 3 == 0) word += static_cast<char>('a' + random() % num_letters);
      }
      ASSERT_EQ(TokensWithSources(*fast, word, &scratch),
                TokensWithSources(*merging, word, &scratch))
          << word;
    }
  }
}

// Counted, so that nothing depends on the machine: four times the word, four times the work, and no
// more than a few times the bytes.
TEST(BpeTest, LongWordsTakeLinearWork) {
  std::mt19937 random(5);
  ModelScratch scratch;
  for (const bool byte_level : {false, true}) {
    for (int round = 0; round < 10; ++round) {
      Bpe::MergeList merges = Train(&random, 2, 60);
      for (std::string a = "g"; round % 2 == 0 && a.size() < 200; a += a) merges.emplace_back(a, a);
      const auto model = Make(merges, byte_level);
      ASSERT_EQ(model->merges_short_words(), byte_level);
      for (const auto& [left, right] : Bpe::MergeList{{"a", ""},
                                                      {"a", "b"},
                                                      {"aa", "b"},
                                                      {"g", "a"},
                                                      merges.back(),
                                                      merges[merges.size() / 2]}) {
        std::string word;
        while (word.size() < 50'000) word += left + right;
        const uint64_t once = WorkOf(*model, word, &scratch);
        const uint64_t four_times = WorkOf(*model, word + word + word + word, &scratch);
        EXPECT_LE(four_times, 4 * once + once / 4 + 4096) << left << " " << right;
        EXPECT_LE(once, 12 * word.size()) << left << " " << right;
      }
    }
  }
}

// What is merged apart on both sides of a sure cut is what is merged as one.
TEST(BpeTest, SureCutsLeaveTokensWhole) {
  std::mt19937 random(31);
  ModelScratch scratch;
  size_t num_places = 0, num_cuts = 0;
  for (int round = 0; round < 40; ++round) {
    const size_t num_letters = 2 + random() % 5;
    const Bpe::MergeList merges = Train(&random, num_letters, 1 + random() % 60);
    const auto model = Make(merges, true);
    std::vector<std::string> made;
    for (const auto& [left, right] : merges) made.push_back(left + right);
    SureCuts cuts;
    cuts.Build(made);
    for (int i = 0; i < 40; ++i) {
      std::string word;
      for (size_t length = 4 + random() % 40; length > 0; --length) {
        word += static_cast<char>('a' + random() % num_letters);
      }
      const std::vector<int32_t> whole = Tokens(*model, word, &scratch);
      for (size_t at = 2; at + 2 <= word.size(); ++at, ++num_places) {
        if (!cuts.IsCut(word, at)) continue;
        ++num_cuts;
        std::vector<int32_t> apart = Tokens(*model, word.substr(0, at), &scratch);
        const std::vector<int32_t> behind = Tokens(*model, word.substr(at), &scratch);
        apart.insert(apart.end(), behind.begin(), behind.end());
        ASSERT_EQ(apart, whole) << word << " " << at;
      }
    }
  }
  EXPECT_GT(num_cuts, num_places / 100);
  EXPECT_LT(num_cuts, num_places);
}

// A window is found by its bytes alone, when it has come for the second time.
TEST(WindowCacheTest, KeepsWhatComesAgain) {
  WindowCache cache;
  cache.Clear();
  std::mt19937 random(32);
  for (int i = 0; i < 2000; ++i) {
    std::string window;
    for (size_t size = WindowCache::kMinBytes + random() % 55; size > 0; --size) {
      window += static_cast<char>(random());
    }
    const uint64_t hash = WindowCache::HashOf(window);
    ASSERT_EQ(cache.Find(hash, window), nullptr);
    ASSERT_FALSE(cache.IsWorthKeeping(hash));
    ASSERT_TRUE(cache.IsWorthKeeping(hash));
    MergeJob job;
    job.word = window;
    job.starts = random();
    cache.Add(hash, job);
    const std::string copy = window, other = window.substr(1) + "x";
    const MergeJob* found = cache.Find(WindowCache::HashOf(copy), copy);
    ASSERT_NE(found, nullptr);
    ASSERT_EQ(found->starts, job.starts);
    ASSERT_EQ(cache.Find(hash, other), nullptr);
  }
  cache.Clear();
  const std::string window(MergeJob::kMaxBytes, 'a');
  EXPECT_EQ(cache.Find(WindowCache::HashOf(window), window), nullptr);
}

// Ten megabytes in one word.
TEST(BpeTest, LongWordsOfTenMegabytes) {
  std::mt19937 random(5);
  const auto model = Make(Train(&random, 2, 60), true);
  ModelScratch scratch;
  for (const char* unit : {"a", "ab", "aab", "b"}) {
    std::string word;
    while (word.size() < 10'000'000) word += unit;
    EXPECT_LE(WorkOf(*model, word, &scratch), 12 * word.size()) << unit;
  }
}

}  // namespace
}  // namespace bertrand

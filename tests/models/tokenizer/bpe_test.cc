// Bpe's two ways: backtracking gives what merging gives, for vocabularies as training makes them.

#include "models/tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "kernels/status.h"

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

std::unique_ptr<Bpe> Make(const Bpe::MergeList& merges) {
  Vocabulary vocabulary;
  int32_t id = 0;
  for (char c = 'a'; c < 'h'; ++c) EXPECT_TRUE(vocabulary.Add(std::string(1, c), id++).ok());
  for (const auto& [left, right] : merges) {
    if (vocabulary.Find(left + right).has_value()) continue;
    EXPECT_TRUE(vocabulary.Add(left + right, id++).ok());
  }
  auto model = Bpe::Create(std::move(vocabulary), merges, {});
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

// What training does not make is merged.
TEST(BpeTest, OddMergesAreMerged) {
  EXPECT_TRUE(Make({{"a", "b"}, {"ab", "c"}})->backtracks());
  EXPECT_FALSE(Make({{"ab", "c"}, {"a", "b"}})->backtracks());  // too early
  EXPECT_FALSE(Make({{"a", "b"}, {"b", "c"}, {"ab", "c"}, {"a", "bc"}})->backtracks());  // twice
}

// Ten megabytes in one word.
TEST(BpeTest, LongWordsTakeLinearTime) {
  std::mt19937 random(5);
  const auto model = Make(Train(&random, 2, 60));
  ModelScratch scratch;
  for (const char* unit : {"a", "ab", "aab", "b"}) {
    std::string word;
    while (word.size() < 10'000'000) word += unit;
    size_t bytes = 0;
    for (const int32_t id : Tokens(*model, word, &scratch)) {
      bytes += model->vocabulary().Text(id).size();
    }
    EXPECT_EQ(bytes, word.size());
  }
}

}  // namespace
}  // namespace bertrand

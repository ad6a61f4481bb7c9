#include "models/task/task_list.h"

#include <algorithm>

namespace bertrand {
namespace {

Task PrimaryTask(const ModelConfig& config, const SentenceModules& modules,
                 const TaskHeads& heads) {
  if (modules.has_list) return modules.is_sparse ? Task::kEmbedSparse : Task::kEmbed;
  if (heads.has(LogitsHead::kClassifier)) {
    return config.heads.num_labels == 1 ? Task::kRerank : Task::kClassify;
  }
  if (heads.has(LogitsHead::kTokenClassifier)) return Task::kClassifyTokens;
  if (heads.has(LogitsHead::kAnswerSpan) || heads.has_beam()) return Task::kAnswerQuestion;
  if (heads.has(LogitsHead::kReplacedToken)) return Task::kDetectReplacedTokens;
  const bool pair = heads.has(LogitsHead::kNextSentence) || heads.has(LogitsHead::kSentenceOrder);
  // Pre-training gives both heads, and masks are what such checkpoints are used for.
  if (heads.has_masked_lm() && !(pair && config.heads.is_next_sentence)) return Task::kFillMask;
  return pair ? Task::kPredictSentencePair : Task::kEmbed;
}

}  // namespace

std::vector<Task> ListTasks(const ModelConfig& config, const SentenceModules& modules,
                            const TaskHeads& heads) {
  const bool classifies = heads.has(LogitsHead::kClassifier);
  const bool orders = heads.has(LogitsHead::kNextSentence) || heads.has(LogitsHead::kSentenceOrder);
  const std::pair<Task, bool> known[] = {
      {Task::kEmbed, true},
      {Task::kEmbedTokens, true},
      {Task::kEmbedSparse, heads.has_masked_lm()},
      {Task::kClassify, classifies},
      {Task::kClassifyZeroShot, classifies},
      {Task::kRerank, classifies && config.heads.num_labels == 1},
      {Task::kClassifyTokens, heads.has(LogitsHead::kTokenClassifier)},
      {Task::kAnswerQuestion, heads.has(LogitsHead::kAnswerSpan) || heads.has_beam()},
      {Task::kFillMask, heads.has_masked_lm()},
      {Task::kDetectReplacedTokens, heads.has(LogitsHead::kReplacedToken)},
      {Task::kPredictSentencePair, orders},
  };
  std::vector<Task> tasks = {PrimaryTask(config, modules, heads)};
  for (const auto& [task, there] : known) {
    if (there && task != tasks.front()) tasks.push_back(task);
  }
  return tasks;
}

}  // namespace bertrand

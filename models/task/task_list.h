#pragma once

// What a checkpoint can do.

#include <vector>

#include "models/checkpoint/sentence_modules.h"
#include "models/config/families.h"
#include "models/task/heads.h"

namespace bertrand {

// The primary task first: what sentence-transformers' modules are made for; rerank for a
// CrossEncoder or a head with one label; else what the head is made for; else embed. The others
// follow in the order of the protocol.
std::vector<Task> ListTasks(const ModelConfig& config, const SentenceModules& modules,
                            const TaskHeads& heads);

}  // namespace bertrand

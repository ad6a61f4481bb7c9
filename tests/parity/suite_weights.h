#pragma once

// The weights of the parity suite's checkpoints, made again from what make_suite.py says of them:
// values() there is the same arithmetic. Files are written as model.safetensors, or as torch.save
// does, whole or in shards.

#include <string>
#include <vector>

#include "models/checkpoint/json.h"
#include "tests/models/test_folder.h"

namespace bertrand {

// `weights` is the member of that name of NAME.json. Tensors whose names begin with one of
// `without` are left out.
void WriteSuiteWeights(const Json& weights, const TestFolder& folder,
                       const std::vector<std::string>& without = {});

}  // namespace bertrand

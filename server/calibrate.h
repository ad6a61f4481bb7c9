#pragma once

// bertrand-server --calibrate: runs a file of texts through a model and keeps what its layers read
// at most, for --dtype float8 (docs/fp8.md). Nothing is served. Progress and result go to standard
// error, for people.

#include <absl/status/status.h>

#include "server/options.h"

namespace bertrand {

// Requires: options.calibrate is not empty, and there is one model. Blank lines are no texts; texts
// longer than the model takes are cut; of more than a hundred thousand the first ones are taken. A
// tab separates the two texts of a pair where the model takes pairs. Errors name the file and the
// line, or the folder and what to do.
absl::Status Calibrate(const Options& options, int threads);

}  // namespace bertrand

#pragma once

// `bertrand classify`, `zero-shot` and `pair`: scores of labels, as bars.

#include <CLI/CLI.hpp>

namespace bertrand::client {

// When a command is chosen it runs during parsing and sets exit_status, which must outlive `app`'s
// parsing.
void AddClassifyCommands(CLI::App& app, int& exit_status);

}  // namespace bertrand::client

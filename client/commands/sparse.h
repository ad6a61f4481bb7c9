#pragma once

// `bertrand sparse`: lexical vectors, as words with their weights.

#include <CLI/CLI.hpp>

namespace bertrand::client {

// When a command is chosen it runs during parsing and sets exit_status, which must outlive `app`'s
// parsing.
void AddSparseCommand(CLI::App& app, int& exit_status);

}  // namespace bertrand::client

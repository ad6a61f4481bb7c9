#pragma once

// `bertrand entities` and `replaced`: texts with parts of them marked.

#include <CLI/CLI.hpp>

namespace bertrand::client {

// When a command is chosen it runs during parsing and sets exit_status, which must outlive `app`'s
// parsing.
void AddSpanCommands(CLI::App& app, int& exit_status);

}  // namespace bertrand::client

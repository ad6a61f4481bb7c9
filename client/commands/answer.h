#pragma once

// `bertrand answer`: parts of contexts that answer a question.

#include <CLI/CLI.hpp>

namespace bertrand::client {

// When a command is chosen it runs during parsing and sets exit_status, which must outlive `app`'s
// parsing.
void AddAnswerCommand(CLI::App& app, int& exit_status);

}  // namespace bertrand::client

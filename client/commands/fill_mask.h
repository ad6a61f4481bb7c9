#pragma once

// `bertrand fill-mask`: what may stand in the place of a mask.

#include <CLI/CLI.hpp>

namespace bertrand::client {

// When a command is chosen it runs during parsing and sets exit_status, which must outlive `app`'s
// parsing.
void AddFillMaskCommand(CLI::App& app, int& exit_status);

}  // namespace bertrand::client

#pragma once

// embed: vectors of texts, for people (norms, first values, similarities) or as JSON.

#include <CLI/CLI.hpp>

namespace bertrand::client {

// Adds the command to `app`. When it is chosen it runs during parsing and sets exit_status, which
// must outlive `app`'s parsing.
void AddEmbedCommand(CLI::App& app, int& exit_status);

}  // namespace bertrand::client

#pragma once

// `bertrand rerank`: documents by their relevance to a query.

#include <CLI/CLI.hpp>

namespace bertrand::client {

// When a command is chosen it runs during parsing and sets exit_status, which must outlive `app`'s
// parsing.
void AddRerankCommand(CLI::App& app, int& exit_status);

}  // namespace bertrand::client

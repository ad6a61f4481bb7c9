#pragma once

// `bertrand calibrate`: scales for --dtype float8. The client knows no models, so this is the work
// of the bertrand-server beside it, which takes the process over.

#include <CLI/CLI.hpp>

namespace bertrand::client {

// `exit_status` gets the command's; must live as long as `app`.
void AddCalibrateCommand(CLI::App& app, int& exit_status);

}  // namespace bertrand::client

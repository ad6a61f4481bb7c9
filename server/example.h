#pragma once

// The calls that a server shows people on a terminal once it is ready. Pure.

#include <string>

#include "models/model.h"

namespace bertrand {

// Two commands to copy and paste, each on an indented line: the command-line client's, as
// `client_path`, and grpcurl's, for the primary task of `model`, at `address`.
std::string ExampleCalls(const Model& model, const std::string& client_path,
                         const std::string& address);

}  // namespace bertrand

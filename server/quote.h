#pragma once

// Client text in messages: escaped and cut, since messages end up in logs and HTTP/2 trailers.

#include <string>
#include <string_view>

namespace bertrand {

// `text` between double quotes, control characters and invalid bytes escaped, at most about 100
// characters of it ("..." after a cut).
std::string Quote(std::string_view text);

// `message` cut to at most `size_max` bytes, between two characters.
std::string CutMessage(std::string message, size_t size_max);

}  // namespace bertrand

#pragma once

// Extended grapheme clusters (Unicode's annex 29), as far as `tokenizers` shows them.
//
// A pure function, thread-safe.

#include <cstddef>
#include <string_view>

namespace bertrand {

// The end of the cluster that begins at text[at], at < text.size(). Pairs of regional indicators
// are left apart: whoever looks at clusters here looks at those below six bytes.
size_t GraphemeEnd(std::string_view text, size_t at);

}  // namespace bertrand

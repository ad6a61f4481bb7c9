#include "server/quote.h"

#include <cstdint>

namespace bertrand {
namespace {

constexpr size_t kQuotedBytesMax = 100;

bool IsContinuation(char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; }

}  // namespace

std::string Quote(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  const bool cut = text.size() > kQuotedBytesMax;
  std::string quoted = "\"";
  for (const char c : text.substr(0, kQuotedBytesMax)) {
    const auto byte = static_cast<uint8_t>(c);
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (byte >= 0x20 && byte < 0x7F) {
      quoted += c;
    } else {  // not ASCII: gRPC would percent-encode it anyway, and it may be cut in a character
      quoted += "\\x";
      quoted += kHex[byte >> 4];
      quoted += kHex[byte & 15];
    }
  }
  quoted += cut ? "\"..." : "\"";
  return quoted;
}

std::string CutMessage(std::string message, size_t size_max) {
  if (message.size() <= size_max) return message;
  size_t size = size_max - 3;
  while (size > 0 && IsContinuation(message[size])) --size;
  message.resize(size);
  return message + "...";
}

}  // namespace bertrand

#include "client/output.h"

#include <locale.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace bertrand::client {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD
// Nobody reads a narrower terminal; nor do our tables fit one.
constexpr std::size_t kColumnsMin = 20;
constexpr std::string_view kHexDigits = "0123456789abcdef";

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Bytes of the code point that `text` begins with, or 0 if it begins with none.
std::size_t CodePointLength(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return 1;
  const std::size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if (!IsContinuation(text[i])) return 0;
  }
  const auto second = static_cast<unsigned char>(text[1]);
  const bool overlong = (lead == 0xE0 && second < 0xA0) || (lead == 0xF0 && second < 0x90);
  const bool surrogate = lead == 0xED && second >= 0xA0;
  const bool too_large = lead == 0xF4 && second >= 0x90;
  return overlong || surrogate || too_large ? 0 : length;
}

// Calls visit(code point's bytes) for each; what is not UTF-8 is visited as U+FFFD, byte by byte.
template <typename Visit>
void ForEachCodePoint(std::string_view text, Visit visit) {
  while (!text.empty()) {
    const std::size_t length = CodePointLength(text);
    visit(length == 0 ? kReplacement : text.substr(0, length));
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
}

// C0, DEL, and C1, which some terminals obey as well.
bool IsControl(std::string_view code_point) {
  const auto first = static_cast<unsigned char>(code_point[0]);
  if (code_point.size() == 1) return first < 0x20 || first == 0x7F;
  return first == 0xC2 && static_cast<unsigned char>(code_point[1]) < 0xA0;
}

// Of a code point that is UTF-8.
wchar_t Decoded(std::string_view code_point) {
  const auto lead = static_cast<unsigned char>(code_point[0]);
  if (code_point.size() == 1) return static_cast<wchar_t>(lead);
  auto value = static_cast<wchar_t>(lead & (0x7F >> code_point.size()));
  for (const char c : code_point.substr(1)) value = value << 6 | (c & 0x3F);
  return value;
}

// libc has the table; only a UTF-8 locale opens it, whatever the user's is.
class Utf8Locale {
 public:
  Utf8Locale() : before_(Utf8() == locale_t{} ? locale_t{} : uselocale(Utf8())) {}
  ~Utf8Locale() {
    if (before_ != locale_t{}) uselocale(before_);
  }
  Utf8Locale(const Utf8Locale&) = delete;
  Utf8Locale& operator=(const Utf8Locale&) = delete;

  // Control characters become a space.
  static std::size_t Columns(std::string_view code_point) {
    const int columns = IsControl(code_point) ? 1 : wcwidth(Decoded(code_point));
    return columns < 0 ? 1 : static_cast<std::size_t>(columns);
  }

 private:
  static locale_t Utf8() {
    static const locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", locale_t{});
    return utf8;
  }
  const locale_t before_;
};

void AppendEscaped(char c, std::string& out) {
  switch (c) {
    case '"':
      out += "\\\"";
      return;
    case '\\':
      out += "\\\\";
      return;
    case '\n':
      out += "\\n";
      return;
    case '\t':
      out += "\\t";
      return;
    default:
      break;
  }
  if (static_cast<unsigned char>(c) >= 0x20) {
    out += c;
    return;
  }
  out += "\\u00";
  out += kHexDigits[static_cast<unsigned char>(c) >> 4];
  out += kHexDigits[static_cast<unsigned char>(c) & 0xF];
}

std::string Styled(std::string_view text, std::string_view code) {
  return "\x1b[" + std::string(code) + "m" + std::string(text) + "\x1b[0m";
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = CodePointLength(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  ForEachCodePoint(text, [&out](std::string_view code_point) {
    if (code_point.size() == 1) {
      AppendEscaped(code_point[0], out);
    } else {
      out += code_point;
    }
  });
  return out + "\"";
}

std::string JsonNumber(float value) {
  if (!std::isfinite(value)) return "null";
  char digits[32];
  const auto [end, error] = std::to_chars(digits, digits + sizeof(digits), value);
  return std::string(digits, end);
}

std::size_t CountColumns(std::string_view text) {
  const Utf8Locale utf8;
  std::size_t count = 0;
  ForEachCodePoint(text, [&count](std::string_view c) { count += Utf8Locale::Columns(c); });
  return count;
}

std::string Shorten(std::string_view text, std::size_t num_columns_max) {
  const Utf8Locale utf8;
  std::string out;
  std::size_t num_columns = 0;
  std::size_t cut_bytes = 0;  // Of what leaves room for the dots.
  ForEachCodePoint(text, [&](std::string_view code_point) {
    num_columns += Utf8Locale::Columns(code_point);
    if (num_columns > num_columns_max) return;
    out += IsControl(code_point) ? std::string_view(" ") : code_point;
    if (num_columns + 3 <= num_columns_max) cut_bytes = out.size();
  });
  if (num_columns <= num_columns_max) return out;
  return out.substr(0, cut_bytes) + "...";
}

std::string OneLine(std::string_view text) {
  std::string out;
  ForEachCodePoint(text, [&out](std::string_view code_point) {
    out += IsControl(code_point) ? std::string_view(" ") : code_point;
  });
  return out;
}

std::string Bar(double fraction, std::size_t num_columns) {
  // U+2588 is a full block, U+258F to U+2589 have one to seven eighths.
  const double columns = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(num_columns);
  const auto num_eighths = static_cast<std::size_t>(std::lround(columns * 8));
  std::string bar;
  for (std::size_t i = 0; i < num_eighths / 8; ++i) bar += "\u2588";
  if (const std::size_t rest = num_eighths % 8; rest > 0) {
    bar += "\xE2\x96";
    bar += static_cast<char>(0x90 - rest);
  }
  return bar;
}

std::string Fixed(double value, int num_decimals) {
  char digits[64];
  const int length = std::snprintf(digits, sizeof(digits), "%.*f", num_decimals, value);
  const int kept = std::clamp(length, 0, static_cast<int>(sizeof(digits)) - 1);
  return std::string(digits, static_cast<std::size_t>(kept));
}

Terminal Terminal::Detect() {
  Terminal terminal;
  terminal.interactive = isatty(STDOUT_FILENO) == 1;
  if (!terminal.interactive) return terminal;
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  terminal.styled = (no_color == nullptr || *no_color == '\0') && term != nullptr &&
                    std::string_view(term) != "dumb";
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
    terminal.num_columns = std::max<std::size_t>(size.ws_col, kColumnsMin);
  }
  return terminal;
}

std::string Terminal::Bold(std::string_view text) const {
  return styled ? Styled(text, "1") : std::string(text);
}

std::string Terminal::Dim(std::string_view text) const {
  return styled ? Styled(text, "2") : std::string(text);
}

std::string Terminal::Coloured(std::string_view text, std::string_view name) const {
  if (!styled) return std::string(text);
  unsigned sum = 0;
  for (const char c : name) sum = sum * 31 + static_cast<unsigned char>(c);
  return Styled(text, "1;" + std::to_string(31 + sum % 6));
}

std::string WithMarks(std::string_view text, const std::vector<Mark>& marks,
                      const Terminal& terminal) {
  std::string out;
  std::size_t position = 0;
  for (const Mark& mark : marks) {
    if (mark.begin < position || mark.end <= mark.begin || mark.end > text.size()) continue;
    out += OneLine(text.substr(position, mark.begin - position));
    const std::string part = OneLine(text.substr(mark.begin, mark.end - mark.begin));
    const std::string name = mark.name.empty() ? "" : " " + OneLine(mark.name);
    const bool in_brackets = name.empty() && part.starts_with('[') && part.ends_with(']');
    if (terminal.styled) {
      out += terminal.Coloured(part, mark.name) + terminal.Dim(name);
    } else {
      out += in_brackets ? part : "[" + part + name + "]";
    }
    position = mark.end;
  }
  return out + OneLine(text.substr(position));
}

std::string Around(std::string_view text, Mark* mark, std::size_t num_columns) {
  const Utf8Locale utf8;
  std::size_t begin = mark->begin, end = mark->end;
  for (std::size_t left = num_columns; begin > 0;) {
    std::size_t next = begin - 1;
    while (next > 0 && IsContinuation(text[next])) --next;
    const std::size_t columns = CountColumns(text.substr(next, begin - next));
    if (columns > left) break;
    left -= columns;
    begin = next;
  }
  for (std::size_t left = num_columns; end < text.size();) {
    std::size_t next = end + 1;
    while (next < text.size() && IsContinuation(text[next])) ++next;
    const std::size_t columns = CountColumns(text.substr(end, next - end));
    if (columns > left) break;
    left -= columns;
    end = next;
  }
  const std::string before = begin > 0 ? "..." : "";
  std::string out = before + std::string(text.substr(begin, end - begin));
  if (end < text.size()) out += "...";
  mark->end = mark->end - begin + before.size();
  mark->begin = mark->begin - begin + before.size();
  return out;
}

void Table::AddRow(std::vector<std::string> cells, bool dim) {
  rows_.push_back({std::move(cells), dim});
}

std::vector<std::size_t> Table::Widths() const {
  std::vector<std::size_t> widths;
  for (std::size_t column = 0; column < columns_.size(); ++column) {
    std::size_t width = CountColumns(columns_[column].title);
    for (const Row& row : rows_) width = std::max(width, CountColumns(row.cells[column]));
    widths.push_back(width);
  }
  return widths;
}

std::string Table::ToString(const Terminal& terminal) const {
  const std::vector<std::size_t> widths = Widths();
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string out;
    for (std::size_t column = 0; column < cells.size(); ++column) {
      const std::string padding(widths[column] - CountColumns(cells[column]), ' ');
      const bool right = columns_[column].align == Align::kRight;
      out += "  " + (right ? padding + cells[column] : cells[column] + padding);
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return out;
  };
  std::vector<std::string> titles;
  for (const Column& column : columns_) titles.push_back(column.title);
  std::string out = terminal.Bold(line(titles)) + "\n";
  for (const Row& row : rows_) {
    out += (row.dim ? terminal.Dim(line(row.cells)) : line(row.cells)) + "\n";
  }
  return out;
}

}  // namespace bertrand::client

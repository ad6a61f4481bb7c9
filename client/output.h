#pragma once

// What the commands print with: JSON values, tables of text, and the terminal's width and styles.
// Pure but for Terminal::Detect. Text from outside (UTF-8, checked by IsValidUtf8) is made harmless
// before it reaches a terminal. All functions are thread-safe.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace bertrand::client {

// Whether `text` is UTF-8 as protobuf wants it: no overlong forms, no surrogates, at most U+10FFFF.
bool IsValidUtf8(std::string_view text);

// `text` in quotes, escaped; invalid UTF-8 becomes U+FFFD, so that the JSON is always valid.
std::string JsonString(std::string_view text);

// The shortest decimal that reads back as `value`; null where JSON has no number for it.
std::string JsonNumber(float value);

// The columns that `text` takes on a terminal: two for what is wide there (CJK, emoji), none for
// what joins the character before it.
std::size_t CountColumns(std::string_view text);

// `text` on one line and without control characters, cut to `num_columns_max` with "..." at the end
// where it is longer. Requires num_columns_max >= 3.
std::string Shorten(std::string_view text, std::size_t num_columns_max);

// `text` on one line and without control characters, whatever its length.
std::string OneLine(std::string_view text);

// `value` with `num_decimals`, as printf's %.*f.
std::string Fixed(double value, int num_decimals);

// A bar of `fraction` (0 to 1, cut to it) of `num_columns`, to an eighth of a column.
std::string Bar(double fraction, std::size_t num_columns);

// Standard output as far as it matters: width in columns, and whether styles may be used (a
// terminal that is not dumb, NO_COLOR not set).
struct Terminal {
  bool interactive = false;
  bool styled = false;
  std::size_t num_columns = 80;

  static Terminal Detect();

  // `text` in bold or dim, or as it is where styles may not be used.
  std::string Bold(std::string_view text) const;
  std::string Dim(std::string_view text) const;
  // In bold and in one of a few colours, the same one for the same `name`.
  std::string Coloured(std::string_view text, std::string_view name) const;
};

// A part of a text, in bytes, and what it is called; the name may be empty.
struct Mark {
  std::size_t begin = 0, end = 0;
  std::string name;
};

// `text` on one line with its marks: coloured, with the names dim after them, where styles may be
// used, and otherwise "[part name]" (a "[MASK]" without a name has its brackets). Marks are in
// order; one that overlaps the one before it, or is not within the text, is left out.
std::string WithMarks(std::string_view text, const std::vector<Mark>& marks,
                      const Terminal& terminal);

// The text around a mark, at most `num_columns` on each side, "..." where something is left out.
// The mark's place in it changes with it. Requires a mark within the text, on whole characters.
std::string Around(std::string_view text, Mark* mark, std::size_t num_columns);

// Rows of cells, each column as wide as its widest cell.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // Requires one cell per column. A dim row is set apart where styles may be used.
  void AddRow(std::vector<std::string> cells, bool dim = false);

  // Lines that end in newlines, indented by two; no trailing spaces.
  std::string ToString(const Terminal& terminal) const;

 private:
  struct Row {
    std::vector<std::string> cells;
    bool dim;
  };
  std::vector<std::size_t> Widths() const;

  std::vector<Column> columns_;
  std::vector<Row> rows_;
};

}  // namespace bertrand::client

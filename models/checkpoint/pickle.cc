#include "models/checkpoint/pickle.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "kernels/status.h"

namespace bertrand {
namespace {

using Kind = PickleValue::Kind;

// Beside kExpansionMax times the bytes read, so that small files need not be counted.
constexpr size_t kChargeFree = 1 << 20;
constexpr uint64_t kReadAheadMin = 64 * 1024;
constexpr uint64_t kLineBytesMax = 512;

// Opcodes of Python's pickle.py that are refused, for messages; every other one is unknown.
struct RefusedOpcode {
  char code;
  const char* name;
};
constexpr std::array kRefused = {
    RefusedOpcode{'0', "POP"},
    RefusedOpcode{'1', "POP_MARK"},
    RefusedOpcode{'2', "DUP"},
    RefusedOpcode{'F', "FLOAT"},
    RefusedOpcode{'L', "LONG"},
    RefusedOpcode{'P', "PERSID"},
    RefusedOpcode{'S', "STRING"},
    RefusedOpcode{'V', "UNICODE"},
    RefusedOpcode{'B', "BINBYTES"},
    RefusedOpcode{'C', "SHORT_BINBYTES"},
    RefusedOpcode{'d', "DICT"},
    RefusedOpcode{'g', "GET"},
    RefusedOpcode{'i', "INST"},
    RefusedOpcode{'l', "LIST"},
    RefusedOpcode{'o', "OBJ"},
    RefusedOpcode{'p', "PUT"},
    RefusedOpcode{'\x81', "NEWOBJ"},
    RefusedOpcode{'\x82', "EXT1"},
    RefusedOpcode{'\x83', "EXT2"},
    RefusedOpcode{'\x84', "EXT4"},
    RefusedOpcode{'\x8b', "LONG4"},
    RefusedOpcode{'\x8e', "BINBYTES8"},
    RefusedOpcode{'\x8f', "EMPTY_SET"},
    RefusedOpcode{'\x90', "ADDITEMS"},
    RefusedOpcode{'\x91', "FROZENSET"},
    RefusedOpcode{'\x92', "NEWOBJ_EX"},
    RefusedOpcode{'\x96', "BYTEARRAY8"},
    RefusedOpcode{'\x97', "NEXT_BUFFER"},
    RefusedOpcode{'\x98', "READONLY_BUFFER"},
};

PickleValue Integer(Kind kind, int64_t value) {
  PickleValue result;
  result.kind = kind;
  result.integer = value;
  return result;
}

PickleValue RangeOf(Kind kind, uint64_t begin, uint64_t size) {
  PickleValue result;
  result.kind = kind;
  result.range = {static_cast<uint32_t>(begin), static_cast<uint32_t>(size)};
  return result;
}

}  // namespace

const char* Name(PickleValue::Kind kind) {
  constexpr std::array kNames = {"None",    "a bool",   "an integer", "an integer",
                                 "a float", "a string", "a tuple",    "a list",
                                 "a dict",  "a global", "a storage",  "a tensor"};
  return kNames[static_cast<size_t>(kind)];
}

PickleValue PickleIndex(PickleValue::Kind kind, size_t index) {
  PickleValue result;
  result.kind = kind;
  result.integer = 0;
  result.index = static_cast<uint32_t>(index);
  return result;
}

std::string Printable(std::string_view text) {
  constexpr size_t kShownMax = 80;
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string shown;
  for (const char c : text.substr(0, kShownMax)) {
    if (c >= 0x20 && c < 0x7f) {
      shown += c;
    } else {
      const auto byte = static_cast<uint8_t>(c);
      shown += "\\x";
      shown += kHex[byte >> 4];
      shown += kHex[byte & 15];
    }
  }
  return text.size() > kShownMax ? shown + "..." : shown;
}

absl::Status PickleReader::Error(std::string_view message) const {
  return InvalidArgument("pickle, before byte " + std::to_string(position()) +
                         " of the file: " + std::string(message));
}

absl::Status PickleReader::Charge(size_t bytes) {
  charged_bytes_ += bytes;
  if (charged_bytes_ <= kChargeFree + kExpansionMax * position_) return absl::OkStatus();
  return Error("its values take more than " + std::to_string(kExpansionMax) +
               " times its size: no state dict does");
}

// ---- The text

absl::Status PickleReader::Need(uint64_t size) {
  if (size <= text_.size() - position_) return absl::OkStatus();
  const uint64_t limit = std::min(end_ - begin_, kPickleBytesMax);
  if (size > limit - position_) {
    return Error(limit == kPickleBytesMax
                     ? "it has more than 100000000 bytes, which no state dict has"
                     : "it ends before its STOP: the file is truncated or damaged");
  }
  // Twice as much each time: small for the small, and never twice what there is.
  const uint64_t wanted = std::max({position_ + size, 2 * text_.size(), kReadAheadMin});
  const size_t old_size = text_.size();
  text_.resize(std::min(limit, wanted));
  return file_.ReadAt(begin_ + old_size, text_.data() + old_size, text_.size() - old_size);
}

absl::StatusOr<std::string_view> PickleReader::Take(uint64_t size) {
  BERTRAND_RETURN_IF_ERROR(Need(size));
  const auto taken = std::string_view(text_).substr(position_, size);
  position_ += size;
  return taken;
}

absl::StatusOr<uint64_t> PickleReader::TakeInteger(size_t size) {
  BERTRAND_ASSIGN_OR_RETURN(const std::string_view bytes, Take(size));
  uint64_t value = 0;
  std::memcpy(&value, bytes.data(), size);
  return value;
}

absl::StatusOr<PickleValue::Range> PickleReader::TakeLine() {
  const uint64_t begin = position_;
  for (uint64_t size = 0; size <= kLineBytesMax; ++size) {
    BERTRAND_ASSIGN_OR_RETURN(const std::string_view byte, Take(1));
    if (byte[0] == '\n') {
      return PickleValue::Range{static_cast<uint32_t>(begin), static_cast<uint32_t>(size)};
    }
  }
  return Error("a line has more than " + std::to_string(kLineBytesMax) + " bytes");
}

std::string_view PickleReader::Text(const PickleValue& value) const {
  BERTRAND_CHECK(value.kind == Kind::kString || value.kind == Kind::kLong, Name(value.kind));
  return std::string_view(text_).substr(value.range.begin, value.range.size);
}

std::span<const PickleValue> PickleReader::Tuple(const PickleValue& value) const {
  BERTRAND_CHECK(value.kind == Kind::kTuple, Name(value.kind));
  return std::span(items_).subspan(value.range.begin, value.range.size);
}

std::span<const PickleValue> PickleReader::List(const PickleValue& value) const {
  BERTRAND_CHECK(value.kind == Kind::kList, Name(value.kind));
  return lists_[value.index];
}

std::span<const PickleReader::Member> PickleReader::Dict(const PickleValue& value) const {
  BERTRAND_CHECK(value.kind == Kind::kDict, Name(value.kind));
  return dicts_[value.index];
}

const PickledTensor& PickleReader::Tensor(const PickleValue& value) const {
  BERTRAND_CHECK(value.kind == Kind::kTensor, Name(value.kind));
  return tensors_[value.index];
}

// ---- The machine

absl::StatusOr<PickleValue> PickleReader::Next() {
  stack_.clear();
  marks_.clear();
  memo_.clear();
  BERTRAND_RETURN_IF_ERROR(Run());
  if (stack_.size() != 1 || !marks_.empty()) {
    return Error("STOP with " + std::to_string(stack_.size()) + " values on the stack, expected 1");
  }
  return stack_.back();
}

absl::Status PickleReader::Run() {
  constexpr uint64_t kStop = '.';
  while (true) {
    BERTRAND_ASSIGN_OR_RETURN(const uint64_t opcode, TakeInteger(1));
    if (opcode == kStop) return absl::OkStatus();
    BERTRAND_RETURN_IF_ERROR(Step(static_cast<uint8_t>(opcode)));
  }
}

// Opcodes as in Python's Lib/pickle.py.
absl::Status PickleReader::Step(uint8_t opcode) {
  switch (opcode) {
    // clang-format off
    case 0x80: return TakeInteger(1).status();                           // PROTO
    case 0x95: return TakeInteger(8).status();                           // FRAME
    case 'N': return Push(PickleValue());                                // NONE
    case 0x88: return Push(Integer(Kind::kBool, 1));                     // NEWTRUE
    case 0x89: return Push(Integer(Kind::kBool, 0));                     // NEWFALSE
    case 'I': return PushLine();                                         // INT
    case 'J': return PushInteger(4, /*is_signed=*/true);                 // BININT
    case 'K': return PushInteger(1, /*is_signed=*/false);                // BININT1
    case 'M': return PushInteger(2, /*is_signed=*/false);                // BININT2
    case 0x8a: return PushLong(1);                                       // LONG1
    case 'G': {                                                          // BINFLOAT
      BERTRAND_RETURN_IF_ERROR(TakeInteger(8).status());
      return Push(Integer(Kind::kFloat, 0));
    }
    case 'X': return PushString(4, Kind::kString);                       // BINUNICODE
    case 0x8c: return PushString(1, Kind::kString);                      // SHORT_BINUNICODE
    case 0x8d: return PushString(8, Kind::kString);                      // BINUNICODE8
    case 'T': return PushString(4, Kind::kString);                       // BINSTRING, Python 2
    case 'U': return PushString(1, Kind::kString);                       // SHORT_BINSTRING
    case '(': {                                                          // MARK
      if (marks_.size() >= kStackMax) return Error("its marks are too deep");
      marks_.push_back(stack_.size());
      return absl::OkStatus();
    }
    case ')': return MakeTuple({});                                      // EMPTY_TUPLE
    case 0x85: return MakeTupleOf(1);                                    // TUPLE1
    case 0x86: return MakeTupleOf(2);                                    // TUPLE2
    case 0x87: return MakeTupleOf(3);                                    // TUPLE3
    case 't': return MakeTupleFromMark();                                // TUPLE
    case ']': {                                                          // EMPTY_LIST
      BERTRAND_ASSIGN_OR_RETURN(const PickleValue list, NewList());
      return Push(list);
    }
    case 'a': return AddItems(/*from_mark=*/false);                      // APPEND
    case 'e': return AddItems(/*from_mark=*/true);                       // APPENDS
    case '}': {                                                          // EMPTY_DICT
      BERTRAND_ASSIGN_OR_RETURN(const PickleValue dict, NewDict());
      return Push(dict);
    }
    case 's': return AddMembers(/*from_mark=*/false);                    // SETITEM
    case 'u': return AddMembers(/*from_mark=*/true);                     // SETITEMS
    case 'q': case 'r': {                                                // BINPUT, LONG_BINPUT
      BERTRAND_ASSIGN_OR_RETURN(const uint64_t index, TakeInteger(opcode == 'q' ? 1 : 4));
      return PutMemo(index);
    }
    case 0x94: return PutMemo(std::nullopt);                             // MEMOIZE
    case 'h': case 'j': {                                                // BINGET, LONG_BINGET
      BERTRAND_ASSIGN_OR_RETURN(const uint64_t index, TakeInteger(opcode == 'h' ? 1 : 4));
      return GetMemo(index);
    }
    case 'c': return PushGlobalFromLines();                              // GLOBAL
    case 0x93: return PushGlobalFromStack();                             // STACK_GLOBAL
    case 'R': return Reduce();                                           // REDUCE
    case 'b': return Build();                                            // BUILD
    case 'Q': return LoadPersistent();                                   // BINPERSID
    default: break;
      // clang-format on
  }
  for (const RefusedOpcode& refused : kRefused) {
    if (static_cast<uint8_t>(refused.code) == opcode) {
      return Error(std::string("opcode ") + refused.name +
                   " is refused: a state dict of tensors has none");
    }
  }
  return Error("opcode " + std::to_string(opcode) + " is unknown: it is no pickle, or damaged");
}

absl::Status PickleReader::Push(PickleValue value) {
  if (stack_.size() >= kStackMax) return Error("its stack is too deep");
  stack_.push_back(value);
  return absl::OkStatus();
}

absl::StatusOr<PickleValue> PickleReader::Pop() {
  if (stack_.size() <= (marks_.empty() ? 0 : marks_.back())) {
    return Error("an opcode finds too few values on the stack: it is damaged");
  }
  const PickleValue value = stack_.back();
  stack_.pop_back();
  return value;
}

absl::StatusOr<std::span<const PickleValue>> PickleReader::FromMark() const {
  if (marks_.empty()) return Error("an opcode finds no mark: it is damaged");
  return std::span(stack_).subspan(marks_.back());
}

void PickleReader::DropToMark() {
  stack_.resize(marks_.back());
  marks_.pop_back();
}

absl::Status PickleReader::PushString(size_t length_bytes, PickleValue::Kind kind) {
  BERTRAND_ASSIGN_OR_RETURN(const uint64_t size, TakeInteger(length_bytes));
  const uint64_t begin = position_;
  BERTRAND_RETURN_IF_ERROR(Take(size).status());
  return Push(RangeOf(kind, begin, size));
}

absl::Status PickleReader::PushInteger(size_t size, bool is_signed) {
  BERTRAND_ASSIGN_OR_RETURN(const uint64_t value, TakeInteger(size));
  const auto unused_bits = static_cast<int>(64 - 8 * size);
  return Push(Integer(Kind::kInt, is_signed
                                      ? static_cast<int64_t>(value << unused_bits) >> unused_bits
                                      : static_cast<int64_t>(value)));
}

absl::Status PickleReader::PushLong(size_t length_bytes) {
  BERTRAND_ASSIGN_OR_RETURN(const uint64_t size, TakeInteger(length_bytes));
  if (size == 0) return Push(Integer(Kind::kInt, 0));
  if (size <= 8) return PushInteger(size, /*is_signed=*/true);
  position_ -= length_bytes;
  return PushString(length_bytes, Kind::kLong);
}

// "01" and "00" are Python 2's bools.
absl::Status PickleReader::PushLine() {
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue::Range line, TakeLine());
  const std::string_view text = std::string_view(text_).substr(line.begin, line.size);
  if (text == "00" || text == "01") return Push(Integer(Kind::kBool, text == "01" ? 1 : 0));
  int64_t value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) {
    return Error("INT \"" + Printable(text) + "\" is no integer of 64 bits");
  }
  return Push(Integer(Kind::kInt, value));
}

// ---- Containers

absl::Status PickleReader::MakeTuple(std::span<const PickleValue> items) {
  BERTRAND_RETURN_IF_ERROR(Charge(items.size_bytes()));
  const size_t begin = items_.size();
  items_.insert(items_.end(), items.begin(), items.end());
  return Push(RangeOf(Kind::kTuple, begin, items.size()));
}

absl::Status PickleReader::MakeTupleOf(size_t size) {
  std::array<PickleValue, 3> items;
  for (size_t i = size; i-- > 0;) {
    BERTRAND_ASSIGN_OR_RETURN(items[i], Pop());
  }
  return MakeTuple(std::span(items).first(size));
}

absl::Status PickleReader::MakeTupleFromMark() {
  BERTRAND_ASSIGN_OR_RETURN(const auto items, FromMark());
  BERTRAND_RETURN_IF_ERROR(Charge(items.size_bytes()));
  const PickleValue tuple = RangeOf(Kind::kTuple, items_.size(), items.size());
  items_.insert(items_.end(), items.begin(), items.end());
  DropToMark();
  return Push(tuple);
}

absl::StatusOr<PickleValue> PickleReader::NewDict() {
  BERTRAND_RETURN_IF_ERROR(Charge(sizeof dicts_[0]));
  dicts_.emplace_back();
  return PickleIndex(Kind::kDict, dicts_.size() - 1);
}

absl::StatusOr<PickleValue> PickleReader::NewList() {
  BERTRAND_RETURN_IF_ERROR(Charge(sizeof lists_[0]));
  lists_.emplace_back();
  return PickleIndex(Kind::kList, lists_.size() - 1);
}

absl::Status PickleReader::AddItems(bool from_mark) {
  PickleValue one;
  std::span<const PickleValue> items(&one, 1);
  if (from_mark) {
    BERTRAND_ASSIGN_OR_RETURN(items, FromMark());
  } else {
    BERTRAND_ASSIGN_OR_RETURN(one, Pop());
  }
  const size_t below = from_mark ? marks_.back() : stack_.size();
  if (below == 0 || stack_[below - 1].kind != Kind::kList) {
    return Error("APPEND to what is no list");
  }
  BERTRAND_RETURN_IF_ERROR(Charge(items.size_bytes()));
  std::vector<PickleValue>& list = lists_[stack_[below - 1].index];
  list.insert(list.end(), items.begin(), items.end());
  if (from_mark) DropToMark();
  return absl::OkStatus();
}

absl::Status PickleReader::AddMembers(bool from_mark) {
  std::array<PickleValue, 2> one;
  std::span<const PickleValue> items(one);
  if (from_mark) {
    BERTRAND_ASSIGN_OR_RETURN(items, FromMark());
  } else {
    BERTRAND_ASSIGN_OR_RETURN(one[1], Pop());
    BERTRAND_ASSIGN_OR_RETURN(one[0], Pop());
  }
  const size_t below = from_mark ? marks_.back() : stack_.size();
  if (below == 0 || stack_[below - 1].kind != Kind::kDict) {
    return Error("SETITEM of what is no dict");
  }
  if (items.size() % 2 != 0) return Error("SETITEMS with a key that has no value");
  for (size_t i = 0; i < items.size(); i += 2) {
    BERTRAND_RETURN_IF_ERROR(AddMember(stack_[below - 1].index, items[i], items[i + 1]));
  }
  if (from_mark) DropToMark();
  return absl::OkStatus();
}

absl::Status PickleReader::AddMember(uint32_t dict, const PickleValue& key,
                                     const PickleValue& value) {
  BERTRAND_RETURN_IF_ERROR(Charge(sizeof(Member)));
  dicts_[dict].emplace_back(key, value);
  return absl::OkStatus();
}

// Python's picklers count up, from 0 or 1.
absl::Status PickleReader::PutMemo(std::optional<uint64_t> index) {
  if (stack_.empty()) return Error("a value is memoised that is not there: it is damaged");
  const uint64_t at = index.value_or(memo_.size());
  if (at > position_) {
    return Error("memo index " + std::to_string(at) + " is beyond the number of values");
  }
  if (at >= memo_.size()) {
    BERTRAND_RETURN_IF_ERROR(Charge((at + 1 - memo_.size()) * sizeof(PickleValue)));
    memo_.resize(at + 1);
  }
  memo_[at] = stack_.back();
  return absl::OkStatus();
}

absl::Status PickleReader::GetMemo(uint64_t index) {
  if (index >= memo_.size()) {
    return Error("memo index " + std::to_string(index) + " was never put: it is damaged");
  }
  return Push(memo_[index]);
}

}  // namespace bertrand

#pragma once

// Reads the pickles of torch.save, as far as a state dict needs them, and executes nothing.
//
// A pickle is a program for a stack machine that may call anything importable. Here it may make
// plain values (numbers, strings, tuples, lists, dicts), an OrderedDict, and what
// torch._utils._rebuild_tensor_v2 and its elders make of a storage: a description of a tensor. Any
// other opcode or global is refused by its name, at the place where it occurs.
//
//   PickleReader reader(file, begin, end);
//   PickleValue top = reader.Next();    one pickle, up to its STOP; again for the one behind it
//
// Memory is bounded by the bytes that were read: values may take kExpansionMax times as much,
// and kPickleBytesMax are read at most. Values are indices into the reader, which owns all of them;
// nothing is recursive, so that nesting costs no stack. Used by one thread.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/checkpoint/file.h"

namespace bertrand {

struct PickleValue {
  enum class Kind : uint8_t {
    kNone,
    kBool,     // integer: 0 or 1
    kInt,      // integer
    kLong,     // beyond 64 bits: text has its bytes, little-endian
    kFloat,    // whose value nobody needs
    kString,   // text
    kTuple,    // range of items
    kList,     // index
    kDict,     // index; OrderedDict too
    kGlobal,   // index
    kStorage,  // index
    kTensor,   // index
  };
  struct Range {
    uint32_t begin, size;
  };
  Kind kind = Kind::kNone;
  union {
    int64_t integer = 0;
    Range range;
    uint32_t index;
  };
};

const char* Name(PickleValue::Kind kind);  // "a string", for messages
PickleValue PickleIndex(PickleValue::Kind kind, size_t index);

// torch's storage classes, by name: the type of their elements as safetensors names it.
struct PickledStorage {
  std::string_view dtype;
  PickleValue key;  // kString
  int64_t num_elements = 0;
};

struct PickledTensor {
  uint32_t storage_index = 0;
  int64_t offset = 0;          // in elements
  PickleValue shape, strides;  // kTuple of kInt, equally long, none negative
};

class PickleReader {
 public:
  using Member = std::pair<PickleValue, PickleValue>;
  static constexpr uint64_t kPickleBytesMax = 100'000'000;
  static constexpr size_t kExpansionMax = 8;
  static constexpr size_t kStackMax = 1 << 16;

  // Reads within [begin, end) of `file`, which must outlive the reader.
  PickleReader(const File& file, uint64_t begin, uint64_t end)
      : file_(file), begin_(begin), end_(end) {}

  absl::StatusOr<PickleValue> Next();
  // The byte of the file after the last pickle.
  uint64_t position() const { return begin_ + position_; }
  // The rest need not be read through this reader: what was read ahead, is.
  std::string_view Text(const PickleValue& value) const;  // kString, kLong
  std::span<const PickleValue> Tuple(const PickleValue& value) const;
  std::span<const PickleValue> List(const PickleValue& value) const;
  std::span<const Member> Dict(const PickleValue& value) const;
  const PickledStorage& Storage(uint32_t index) const { return storages_[index]; }
  const PickledTensor& Tensor(const PickleValue& value) const;
  const std::vector<PickledStorage>& storages() const { return storages_; }

  // Counts bytes of the caller's own, made from what was read, against the same bound.
  absl::Status Charge(size_t bytes);

 private:
  absl::Status Run();
  absl::Status Step(uint8_t opcode);
  absl::Status Error(std::string_view message) const;

  // The text.
  absl::Status Need(uint64_t size);
  absl::StatusOr<std::string_view> Take(uint64_t size);
  absl::StatusOr<uint64_t> TakeInteger(size_t size);
  absl::StatusOr<PickleValue::Range> TakeLine();

  // The stack, no deeper than the last mark.
  absl::Status Push(PickleValue value);
  absl::Status PushString(size_t length_bytes, PickleValue::Kind kind);
  absl::Status PushInteger(size_t size, bool is_signed);
  absl::Status PushLong(size_t length_bytes);
  absl::Status PushLine();
  absl::StatusOr<PickleValue> Pop();
  absl::StatusOr<std::span<const PickleValue>> FromMark() const;
  void DropToMark();

  absl::Status MakeTuple(std::span<const PickleValue> items);
  absl::Status MakeTupleOf(size_t size);
  absl::Status MakeTupleFromMark();
  absl::StatusOr<PickleValue> NewDict();
  absl::StatusOr<PickleValue> NewList();
  absl::Status AddItems(bool from_mark);
  absl::Status AddMembers(bool from_mark);
  absl::Status AddMember(uint32_t dict, const PickleValue& key, const PickleValue& value);

  absl::Status PutMemo(std::optional<uint64_t> index);
  absl::Status GetMemo(uint64_t index);

  absl::Status PushGlobal(std::string_view module, std::string_view name);
  absl::Status PushGlobalFromLines();
  absl::Status PushGlobalFromStack();
  absl::Status Reduce();
  absl::Status Build();
  absl::Status LoadPersistent();
  absl::StatusOr<PickleValue> MakeOrderedDict(std::span<const PickleValue> arguments);
  absl::StatusOr<PickleValue> MakeTensor(std::span<const PickleValue> arguments);
  absl::StatusOr<PickleValue> MakeParameter(std::span<const PickleValue> arguments);

  const File& file_;
  const uint64_t begin_, end_;
  std::string text_;       // read so far
  uint64_t position_ = 0;  // of the next byte, in text_
  size_t charged_bytes_ = 0;

  std::vector<PickleValue> stack_;
  std::vector<size_t> marks_;
  std::vector<PickleValue> memo_;
  std::vector<PickleValue> items_;  // of all tuples
  std::vector<std::vector<PickleValue>> lists_;
  std::vector<std::vector<Member>> dicts_;
  std::vector<PickledStorage> storages_;
  std::vector<PickledTensor> tensors_;
};

// Text of a file as a message may show it: at most 80 bytes, what is not printable ASCII escaped.
std::string Printable(std::string_view text);

}  // namespace bertrand

// What the pickles of torch.save may call, and what it makes: storages, tensors, dicts.

#include <algorithm>
#include <array>

#include "kernels/status.h"
#include "models/checkpoint/pickle.h"

namespace bertrand {
namespace {

using Kind = PickleValue::Kind;

// What a global may be.
enum class Global : uint8_t { kOrderedDict, kTensor, kParameter, kStorage };
struct KnownGlobal {
  std::string_view module, name;
  Global what;
  std::string_view dtype;  // of a storage
};
constexpr std::array kGlobals = {
    KnownGlobal{"collections", "OrderedDict", Global::kOrderedDict, ""},
    KnownGlobal{"torch._utils", "_rebuild_tensor_v2", Global::kTensor, ""},
    KnownGlobal{"torch._utils", "_rebuild_tensor", Global::kTensor, ""},
    KnownGlobal{"torch._utils", "_rebuild_parameter", Global::kParameter, ""},
    KnownGlobal{"torch", "FloatStorage", Global::kStorage, "F32"},
    KnownGlobal{"torch", "HalfStorage", Global::kStorage, "F16"},
    KnownGlobal{"torch", "BFloat16Storage", Global::kStorage, "BF16"},
    KnownGlobal{"torch", "DoubleStorage", Global::kStorage, "F64"},
    KnownGlobal{"torch", "LongStorage", Global::kStorage, "I64"},
    KnownGlobal{"torch", "IntStorage", Global::kStorage, "I32"},
    KnownGlobal{"torch", "ShortStorage", Global::kStorage, "I16"},
    KnownGlobal{"torch", "CharStorage", Global::kStorage, "I8"},
    KnownGlobal{"torch", "ByteStorage", Global::kStorage, "U8"},
    KnownGlobal{"torch", "BoolStorage", Global::kStorage, "BOOL"},
};

}  // namespace

absl::Status PickleReader::PushGlobalFromLines() {
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue::Range module, TakeLine());
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue::Range name, TakeLine());
  return PushGlobal(std::string_view(text_).substr(module.begin, module.size),
                    std::string_view(text_).substr(name.begin, name.size));
}

absl::Status PickleReader::PushGlobalFromStack() {
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue name, Pop());
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue module, Pop());
  if (name.kind != Kind::kString || module.kind != Kind::kString) {
    return Error("STACK_GLOBAL of what are no strings");
  }
  return PushGlobal(Text(module), Text(name));
}

absl::Status PickleReader::PushGlobal(std::string_view module, std::string_view name) {
  for (size_t i = 0; i < kGlobals.size(); ++i) {
    if (kGlobals[i].module == module && kGlobals[i].name == name) {
      return Push(PickleIndex(Kind::kGlobal, i));
    }
  }
  return Error("global " + Printable(module) + "." + Printable(name) +
               " is refused: tensors, OrderedDict and dict are read, and no code is run. If you "
               "trust the file, convert it with transformers' save_pretrained(..., "
               "safe_serialization=True)");
}

absl::Status PickleReader::Reduce() {
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue arguments, Pop());
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue function, Pop());
  if (function.kind != Kind::kGlobal || arguments.kind != Kind::kTuple) {
    return Error(std::string("REDUCE of ") + Name(function.kind) + " and " + Name(arguments.kind) +
                 ", expected a global and a tuple");
  }
  absl::StatusOr<PickleValue> made = PickleValue();
  switch (kGlobals[function.index].what) {
    case Global::kOrderedDict:
      made = MakeOrderedDict(Tuple(arguments));
      break;
    case Global::kTensor:
      made = MakeTensor(Tuple(arguments));
      break;
    case Global::kParameter:
      made = MakeParameter(Tuple(arguments));
      break;
    case Global::kStorage:
      return Error("a storage is called: refused");
  }
  if (!made.ok()) return made.status();
  return Push(*made);
}

// The state of a state dict is its `_metadata`, versions of modules: of no use here.
absl::Status PickleReader::Build() {
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue state, Pop());
  if (stack_.empty() || stack_.back().kind != Kind::kDict || state.kind != Kind::kDict) {
    return Error(std::string("BUILD with ") + Name(state.kind) +
                 " is refused: an OrderedDict alone may have a state, which is a dict");
  }
  return absl::OkStatus();
}

// No arguments, or Python 2's list of [key, value].
absl::StatusOr<PickleValue> PickleReader::MakeOrderedDict(std::span<const PickleValue> arguments) {
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue dict, NewDict());
  if (arguments.empty()) return dict;
  if (arguments.size() != 1 || arguments[0].kind != Kind::kList) {
    return Error("OrderedDict of something else than a list of pairs");
  }
  for (const PickleValue& item : List(arguments[0])) {
    std::span<const PickleValue> pair;
    if (item.kind == Kind::kList) pair = List(item);
    if (item.kind == Kind::kTuple) pair = Tuple(item);
    if (pair.size() != 2) return Error("OrderedDict of something else than a list of pairs");
    BERTRAND_RETURN_IF_ERROR(AddMember(dict.index, pair[0], pair[1]));
  }
  return dict;
}

// (storage, storage_offset, size, stride), then of _v2 requires_grad, backward_hooks and, where it
// is not empty, metadata: whether the tensor is negated or conjugated.
absl::StatusOr<PickleValue> PickleReader::MakeTensor(std::span<const PickleValue> arguments) {
  if (arguments.size() < 4 || arguments.size() > 7 || arguments[0].kind != Kind::kStorage ||
      arguments[1].kind != Kind::kInt || arguments[2].kind != Kind::kTuple ||
      arguments[3].kind != Kind::kTuple) {
    return Error(
        "_rebuild_tensor of other arguments than a storage, an offset, a size and strides");
  }
  if (arguments.size() == 7 && arguments[6].kind != Kind::kNone &&
      (arguments[6].kind != Kind::kDict || !Dict(arguments[6]).empty())) {
    return Error("a tensor has metadata (negated or conjugated), which is not read");
  }
  PickledTensor tensor{arguments[0].index, arguments[1].integer, arguments[2], arguments[3]};
  const auto shape = Tuple(tensor.shape), strides = Tuple(tensor.strides);
  const auto is_size = [](const PickleValue& value) {
    return value.kind == Kind::kInt && value.integer >= 0;
  };
  if (tensor.offset < 0 || shape.size() != strides.size() ||
      !std::all_of(shape.begin(), shape.end(), is_size) ||
      !std::all_of(strides.begin(), strides.end(), is_size)) {
    return Error("a tensor's offset, size and strides are not numbers of 0 and more, equally many");
  }
  BERTRAND_RETURN_IF_ERROR(Charge(sizeof tensor));
  tensors_.push_back(tensor);
  return PickleIndex(Kind::kTensor, tensors_.size() - 1);
}

// (data, requires_grad, backward_hooks)
absl::StatusOr<PickleValue> PickleReader::MakeParameter(std::span<const PickleValue> arguments) {
  if (arguments.size() != 3 || arguments[0].kind != Kind::kTensor) {
    return Error("_rebuild_parameter of other arguments than a tensor and two more");
  }
  return arguments[0];
}

// ('storage', class, key, location, numel), and in the legacy format view_metadata.
absl::Status PickleReader::LoadPersistent() {
  BERTRAND_ASSIGN_OR_RETURN(const PickleValue id, Pop());
  if (id.kind != Kind::kTuple) return Error("BINPERSID of something else than a tuple");
  const auto parts = Tuple(id);
  if (parts.empty() || parts[0].kind != Kind::kString || Text(parts[0]) != "storage") {
    return Error("BINPERSID of " +
                 (parts.empty() || parts[0].kind != Kind::kString
                      ? std::string("something")
                      : "\"" + Printable(Text(parts[0])) + "\"") +
                 " is refused, expected a storage");
  }
  if (parts.size() < 5 || parts.size() > 6 || parts[1].kind != Kind::kGlobal ||
      kGlobals[parts[1].index].what != Global::kStorage || parts[2].kind != Kind::kString ||
      parts[4].kind != Kind::kInt || parts[4].integer < 0) {
    return Error("a storage is not given by its class, key, location and size");
  }
  if (parts.size() == 6 && parts[5].kind != Kind::kNone) {
    return Error("storage \"" + Printable(Text(parts[2])) +
                 "\" is a view of another (view_metadata), which is not read");
  }
  BERTRAND_RETURN_IF_ERROR(Charge(sizeof(PickledStorage)));
  storages_.push_back({kGlobals[parts[1].index].dtype, parts[2], parts[4].integer});
  return Push(PickleIndex(Kind::kStorage, storages_.size() - 1));
}

}  // namespace bertrand

// SPDX-License-Identifier: Apache-2.0
#include "formats/pickle.h"

#include <array>
#include <cstring>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

namespace trireme {
namespace {

using Kind = PickleValue::Kind;

// A pickle of a hundred thousand tensors stays below both. Together they bound memory: no opcode
// makes more than one value, and `kMaxArguments` keeps calls from copying long tuples again and
// again.
constexpr size_t kMaxPickleBytes = 32 << 20;
constexpr size_t kMaxValues = 2 << 20;
constexpr size_t kMaxArguments = 16;

enum class GlobalKind {
  kOrderedDict,
  kRebuildTensor,
  kRebuildTensorTyped,
  kRebuildParameter,
  kStorageType,
  kUntypedStorage,
  kDType
};

struct Global {
  std::string_view module;
  std::string_view name;
  GlobalKind kind;
  DType dtype = DType::kUInt8;
};

// Everything a weights file may refer to.
constexpr std::array kGlobals = {
    Global{"collections", "OrderedDict", GlobalKind::kOrderedDict},
    Global{"torch._utils", "_rebuild_tensor", GlobalKind::kRebuildTensor},
    Global{"torch._utils", "_rebuild_tensor_v2", GlobalKind::kRebuildTensor},
    Global{"torch._utils", "_rebuild_tensor_v3", GlobalKind::kRebuildTensorTyped},
    Global{"torch._utils", "_rebuild_parameter", GlobalKind::kRebuildParameter},
    Global{"torch", "FloatStorage", GlobalKind::kStorageType, DType::kFloat32},
    Global{"torch", "HalfStorage", GlobalKind::kStorageType, DType::kFloat16},
    Global{"torch", "BFloat16Storage", GlobalKind::kStorageType, DType::kBFloat16},
    Global{"torch", "DoubleStorage", GlobalKind::kStorageType, DType::kFloat64},
    Global{"torch", "CharStorage", GlobalKind::kStorageType, DType::kInt8},
    Global{"torch", "ByteStorage", GlobalKind::kStorageType, DType::kUInt8},
    Global{"torch", "ShortStorage", GlobalKind::kStorageType, DType::kInt16},
    Global{"torch", "IntStorage", GlobalKind::kStorageType, DType::kInt32},
    Global{"torch", "LongStorage", GlobalKind::kStorageType, DType::kInt64},
    Global{"torch", "BoolStorage", GlobalKind::kStorageType, DType::kBool},
    Global{"torch", "UntypedStorage", GlobalKind::kUntypedStorage},
    Global{"torch.storage", "UntypedStorage", GlobalKind::kUntypedStorage},
    Global{"torch", "float32", GlobalKind::kDType, DType::kFloat32},
    Global{"torch", "float16", GlobalKind::kDType, DType::kFloat16},
    Global{"torch", "bfloat16", GlobalKind::kDType, DType::kBFloat16},
    Global{"torch", "float64", GlobalKind::kDType, DType::kFloat64},
    Global{"torch", "float8_e4m3fn", GlobalKind::kDType, DType::kFloat8E4M3},
    Global{"torch", "int8", GlobalKind::kDType, DType::kInt8},
    Global{"torch", "uint8", GlobalKind::kDType, DType::kUInt8},
    Global{"torch", "int16", GlobalKind::kDType, DType::kInt16},
    Global{"torch", "int32", GlobalKind::kDType, DType::kInt32},
    Global{"torch", "int64", GlobalKind::kDType, DType::kInt64},
    Global{"torch", "bool", GlobalKind::kDType, DType::kBool},
};

// A name from a hostile file, cut and made printable for a message.
std::string Printable(std::string_view text) {
  std::string clean(text.substr(0, 80));
  for (char& c : clean) {
    if (c < 0x20 || c > 0x7e) c = '?';
  }
  return clean;
}

class Machine {
 public:
  explicit Machine(std::string_view bytes) : bytes_(bytes.substr(0, kMaxPickleBytes)) {}

  StatusOr<Pickle> Run() {
    while (true) {
      if (position_ >= bytes_.size()) {
        return InvalidArgument("pickle is truncated or longer than {} bytes", kMaxPickleBytes);
      }
      const uint8_t opcode = static_cast<uint8_t>(bytes_[position_++]);
      if (opcode == '.') break;
      if (Status status = Step(opcode); !status.ok()) {
        return status.WithContext(fmt::format("pickle byte {}", position_));
      }
      if (pickle_.values.size() > kMaxValues) {
        return InvalidArgument("pickle holds more than {} values", kMaxValues);
      }
    }
    TRIREME_ASSIGN_OR_RETURN(pickle_.root, Pop());
    pickle_.num_bytes = position_;
    return std::move(pickle_);
  }

 private:
  Status Step(uint8_t opcode) {
    switch (opcode) {
      case 0x80: return Proto();
      case 0x95: return Take(8).status();  // FRAME: a length nobody needs
      case '(': marks_.push_back(stack_.size()); return OkStatus();
      case ')': return Push({.kind = Kind::kTuple});
      case ']': return Push({.kind = Kind::kList});
      case '}': return Push({.kind = Kind::kDict});
      case 't': return PushTupleToMark();
      case 0x85: return PushTuple(1);
      case 0x86: return PushTuple(2);
      case 0x87: return PushTuple(3);
      case 'a': return Extend(Kind::kList, 1);
      case 's': return Extend(Kind::kDict, 2);
      case 'e': return ExtendToMark(Kind::kList);
      case 'u': return ExtendToMark(Kind::kDict);
      case 'N': return Push({.kind = Kind::kNone});
      case 0x88: return Push({.kind = Kind::kBool, .number = 1});
      case 0x89: return Push({.kind = Kind::kBool, .number = 0});
      case 'K': return PushInt(1, false);
      case 'M': return PushInt(2, false);
      case 'J': return PushInt(4, true);
      case 0x8a: return PushLong();
      case 'G': return PushFloat();
      case 'X':
      case 'T': return PushString(4);
      case 0x8c:
      case 'U': return PushString(1);
      case 0x8d: return PushString(8);
      case 'c': return PushGlobal();
      case 0x93: return PushStackGlobal();
      case 'R': return Reduce();
      case 'b': return Build();
      case 'Q': return PersistentId();
      case 'q': return Put(1);
      case 'r': return Put(4);
      case 0x94: return Memoize(memo_.size());
      case 'h': return Get(1);
      case 'j': return Get(4);
      default:
        return InvalidArgument(
            "opcode 0x{:02x} is not allowed: a weights file may only rebuild "
            "tensors; store the model as safetensors",
            opcode);
    }
  }

  // ---- bytes ----

  StatusOr<std::string_view> Take(uint64_t count) {
    if (count > bytes_.size() - position_) return InvalidArgument("pickle is truncated");
    const std::string_view taken = bytes_.substr(position_, count);
    position_ += count;
    return taken;
  }

  // A little-endian number of 1 to 8 bytes.
  StatusOr<uint64_t> TakeNumber(int width) {
    TRIREME_ASSIGN_OR_RETURN(const std::string_view raw, Take(static_cast<uint64_t>(width)));
    uint64_t number = 0;
    std::memcpy(&number, raw.data(), raw.size());
    return number;
  }

  StatusOr<std::string_view> TakeLine() {
    const size_t end = bytes_.find('\n', position_);
    if (end == std::string_view::npos) return InvalidArgument("pickle is truncated");
    const std::string_view line = bytes_.substr(position_, end - position_);
    position_ = end + 1;
    return line;
  }

  // ---- stack ----

  Status Push(PickleValue value) {
    pickle_.values.push_back(std::move(value));
    stack_.push_back(static_cast<PickleId>(pickle_.values.size() - 1));
    return OkStatus();
  }

  // What stands above the last mark, or the whole stack.
  size_t NumAboveMark() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }

  StatusOr<PickleId> Pop() {
    if (NumAboveMark() == 0) return InvalidArgument("pickle stack underflow");
    const PickleId id = stack_.back();
    stack_.pop_back();
    return id;
  }

  StatusOr<std::vector<PickleId>> PopMany(size_t count) {
    if (NumAboveMark() < count) return InvalidArgument("pickle stack underflow");
    std::vector<PickleId> items(stack_.end() - static_cast<long>(count), stack_.end());
    stack_.resize(stack_.size() - count);
    return items;
  }

  StatusOr<std::vector<PickleId>> PopToMark() {
    if (marks_.empty()) return InvalidArgument("pickle has no mark");
    TRIREME_ASSIGN_OR_RETURN(std::vector<PickleId> items, PopMany(NumAboveMark()));
    marks_.pop_back();
    return items;
  }

  PickleValue& At(PickleId id) { return pickle_.values[id]; }

  // ---- opcodes ----

  Status Proto() {
    TRIREME_ASSIGN_OR_RETURN(const uint64_t protocol, TakeNumber(1));
    if (protocol > 5) return InvalidArgument("pickle protocol {} is unknown", protocol);
    return OkStatus();
  }

  Status PushTupleToMark() {
    TRIREME_ASSIGN_OR_RETURN(std::vector<PickleId> items, PopToMark());
    return Push({.kind = Kind::kTuple, .items = std::move(items)});
  }

  Status PushTuple(size_t count) {
    TRIREME_ASSIGN_OR_RETURN(std::vector<PickleId> items, PopMany(count));
    return Push({.kind = Kind::kTuple, .items = std::move(items)});
  }

  Status AddTo(Kind kind, const std::vector<PickleId>& items) {
    if (NumAboveMark() == 0) return InvalidArgument("pickle stack underflow");
    PickleValue& target = At(stack_.back());
    if (target.kind != kind || (kind == Kind::kDict && items.size() % 2 != 0)) {
      return InvalidArgument("items are added to something that does not take them");
    }
    target.items.insert(target.items.end(), items.begin(), items.end());
    return OkStatus();
  }

  Status Extend(Kind kind, size_t count) {
    TRIREME_ASSIGN_OR_RETURN(const std::vector<PickleId> items, PopMany(count));
    return AddTo(kind, items);
  }

  Status ExtendToMark(Kind kind) {
    TRIREME_ASSIGN_OR_RETURN(const std::vector<PickleId> items, PopToMark());
    return AddTo(kind, items);
  }

  Status PushInt(int width, bool is_signed) {
    TRIREME_ASSIGN_OR_RETURN(const uint64_t number, TakeNumber(width));
    const int64_t value = is_signed ? static_cast<int32_t>(static_cast<uint32_t>(number))
                                    : static_cast<int64_t>(number);
    return Push({.kind = Kind::kInt, .number = value});
  }

  Status PushLong() {
    TRIREME_ASSIGN_OR_RETURN(const uint64_t width, TakeNumber(1));
    if (width > 8) return InvalidArgument("an integer of {} bytes is too large", width);
    if (width == 0) return Push({.kind = Kind::kInt});
    TRIREME_ASSIGN_OR_RETURN(uint64_t number, TakeNumber(static_cast<int>(width)));
    const int unused = static_cast<int>(64 - 8 * width);
    // Sign extension of a two's complement number narrower than 64 bits.
    const int64_t value = static_cast<int64_t>(number << unused) >> unused;
    return Push({.kind = Kind::kInt, .number = value});
  }

  Status PushFloat() {
    TRIREME_RETURN_IF_ERROR(Take(8).status());
    return Push({.kind = Kind::kFloat});
  }

  Status PushString(int width) {
    TRIREME_ASSIGN_OR_RETURN(const uint64_t length, TakeNumber(width));
    TRIREME_ASSIGN_OR_RETURN(const std::string_view text, Take(length));
    return Push({.kind = Kind::kString, .text = text});
  }

  Status PushGlobalNamed(std::string_view module, std::string_view name) {
    for (size_t i = 0; i < kGlobals.size(); ++i) {
      if (kGlobals[i].module == module && kGlobals[i].name == name) {
        return Push({.kind = Kind::kGlobal, .number = static_cast<int64_t>(i)});
      }
    }
    return InvalidArgument(
        "global '{}.{}' is not allowed: a weights file may only rebuild "
        "tensors; store the model as safetensors",
        Printable(module), Printable(name));
  }

  Status PushGlobal() {
    TRIREME_ASSIGN_OR_RETURN(const std::string_view module, TakeLine());
    TRIREME_ASSIGN_OR_RETURN(const std::string_view name, TakeLine());
    return PushGlobalNamed(module, name);
  }

  Status PushStackGlobal() {
    TRIREME_ASSIGN_OR_RETURN(const PickleId name, Pop());
    TRIREME_ASSIGN_OR_RETURN(const PickleId module, Pop());
    if (At(name).kind != Kind::kString || At(module).kind != Kind::kString) {
      return InvalidArgument("a global is not named by strings");
    }
    return PushGlobalNamed(At(module).text, At(name).text);
  }

  Status Memoize(uint64_t slot) {
    if (NumAboveMark() == 0) return InvalidArgument("pickle stack underflow");
    memo_[slot] = stack_.back();
    return OkStatus();
  }

  Status Put(int width) {
    TRIREME_ASSIGN_OR_RETURN(const uint64_t slot, TakeNumber(width));
    return Memoize(slot);
  }

  Status Get(int width) {
    TRIREME_ASSIGN_OR_RETURN(const uint64_t slot, TakeNumber(width));
    const auto it = memo_.find(slot);
    if (it == memo_.end()) return InvalidArgument("memo {} was never stored", slot);
    stack_.push_back(it->second);
    if (stack_.size() > kMaxValues) return InvalidArgument("pickle stack is too deep");
    return OkStatus();
  }

  // OrderedDict carries its `_metadata` as state; nothing in it is needed.
  Status Build() {
    TRIREME_RETURN_IF_ERROR(Pop().status());
    if (NumAboveMark() == 0 || At(stack_.back()).kind != Kind::kDict) {
      return InvalidArgument("state is set on something else than an OrderedDict");
    }
    return OkStatus();
  }

  const Global* AsGlobal(PickleId id) {
    return At(id).kind == Kind::kGlobal ? &kGlobals[static_cast<size_t>(At(id).number)] : nullptr;
  }

  // ('storage', storage type, key, location, number of elements[, view])
  Status PersistentId() {
    TRIREME_ASSIGN_OR_RETURN(const PickleId id, Pop());
    if (At(id).kind != Kind::kTuple || At(id).items.size() < 5 || At(id).items.size() > 6) {
      return InvalidArgument("a persistent id does not name a storage");
    }
    const std::vector<PickleId> items = At(id).items;
    if (At(items[0]).text != "storage" || At(items[2]).kind != Kind::kString ||
        At(items[4]).kind != Kind::kInt || At(items[4]).number < 0) {
      return InvalidArgument("a persistent id does not name a storage");
    }
    if (items.size() == 6 && At(items[5]).kind != Kind::kNone) {
      return Unimplemented(
          "storage views of torch before 0.4 are not supported; save the model "
          "again with a newer torch");
    }
    const Global* type = AsGlobal(items[1]);
    if (type == nullptr ||
        (type->kind != GlobalKind::kStorageType && type->kind != GlobalKind::kUntypedStorage)) {
      return InvalidArgument("a persistent id has no storage type");
    }
    const std::pair key(At(items[2]).text, type->dtype);
    const uint64_t count = static_cast<uint64_t>(At(items[4]).number);
    const auto [it, is_new] =
        storage_of_.emplace(key, static_cast<uint32_t>(pickle_.storages.size()));
    if (is_new) {
      pickle_.storages.push_back(
          {type->dtype, type->kind == GlobalKind::kUntypedStorage, key.first, count});
    } else if (pickle_.storages[it->second].num_elements != count) {
      return InvalidArgument("storage '{}' has two sizes", Printable(key.first));
    }
    return Push({.kind = Kind::kStorage, .number = it->second});
  }

  Status Reduce() {
    TRIREME_ASSIGN_OR_RETURN(const PickleId args_id, Pop());
    TRIREME_ASSIGN_OR_RETURN(const PickleId function_id, Pop());
    const Global* function = AsGlobal(function_id);
    if (function == nullptr || At(args_id).kind != Kind::kTuple ||
        At(args_id).items.size() > kMaxArguments) {
      return InvalidArgument("something else than a known function is called");
    }
    const std::vector<PickleId> args = At(args_id).items;
    switch (function->kind) {
      case GlobalKind::kOrderedDict: return NewOrderedDict(args);
      case GlobalKind::kRebuildTensor: return RebuildTensor(args, std::nullopt);
      case GlobalKind::kRebuildTensorTyped: return RebuildTyped(args);
      case GlobalKind::kRebuildParameter:
        if (args.size() != 3 || At(args[0]).kind != Kind::kTensor) {
          return InvalidArgument("a parameter is not made of a tensor");
        }
        stack_.push_back(args[0]);
        return OkStatus();
      default: return InvalidArgument("'{}' cannot be called", function->name);
    }
  }

  // Python 2 passes a list of pairs; Python 3 nothing.
  Status NewOrderedDict(const std::vector<PickleId>& args) {
    PickleValue dict{.kind = Kind::kDict};
    if (args.size() > 1 || (args.size() == 1 && At(args[0]).kind != Kind::kList)) {
      return InvalidArgument("OrderedDict is called with something else than pairs");
    }
    if (args.size() == 1) {
      num_pairs_ += At(args[0]).items.size();
      if (num_pairs_ > kMaxValues) return InvalidArgument("pickle holds too many pairs");
      for (const PickleId pair : At(args[0]).items) {
        const PickleValue& value = At(pair);
        if ((value.kind != Kind::kList && value.kind != Kind::kTuple) || value.items.size() != 2) {
          return InvalidArgument("OrderedDict is called with something else than pairs");
        }
        dict.items.insert(dict.items.end(), value.items.begin(), value.items.end());
      }
    }
    return Push(std::move(dict));
  }

  // (storage, offset, size, stride, requires_grad, hooks, dtype[, metadata])
  Status RebuildTyped(const std::vector<PickleId>& args) {
    const Global* type = args.size() >= 7 ? AsGlobal(args[6]) : nullptr;
    if (type == nullptr || type->kind != GlobalKind::kDType) {
      return InvalidArgument("a tensor has no supported dtype");
    }
    return RebuildTensor(args, type->dtype);
  }

  // (storage, offset, size, stride, ...); the rest concerns gradients.
  Status RebuildTensor(const std::vector<PickleId>& args, std::optional<DType> dtype) {
    if (args.size() < 4 || At(args[0]).kind != Kind::kStorage || At(args[1]).kind != Kind::kInt ||
        At(args[1]).number < 0) {
      return InvalidArgument("a tensor is not rebuilt from a storage and an offset");
    }
    PickledTensor tensor;
    tensor.storage = static_cast<uint32_t>(At(args[0]).number);
    tensor.dtype = dtype.value_or(pickle_.storages[tensor.storage].dtype);
    tensor.offset = At(args[1]).number;
    TRIREME_ASSIGN_OR_RETURN(const std::vector<int64_t> dims, Sizes(args[2]));
    TRIREME_ASSIGN_OR_RETURN(tensor.strides, Sizes(args[3]));
    if (dims.size() != tensor.strides.size()) {
      return InvalidArgument("a tensor has {} sizes but {} strides", dims.size(),
                             tensor.strides.size());
    }
    tensor.shape = Shape(dims);
    pickle_.tensors.push_back(std::move(tensor));
    return Push(
        {.kind = Kind::kTensor, .number = static_cast<int64_t>(pickle_.tensors.size() - 1)});
  }

  StatusOr<std::vector<int64_t>> Sizes(PickleId id) {
    const PickleValue& value = At(id);
    if (value.kind != Kind::kTuple || value.items.size() > size_t{Shape::kMaxRank}) {
      return InvalidArgument("a tensor's sizes or strides are not a tuple of at most {}",
                             Shape::kMaxRank);
    }
    std::vector<int64_t> sizes;
    for (const PickleId item : value.items) {
      if (At(item).kind != Kind::kInt || At(item).number < 0) {
        return InvalidArgument("a tensor's sizes or strides are not counts");
      }
      sizes.push_back(At(item).number);
    }
    return sizes;
  }

  const std::string_view bytes_;
  size_t position_ = 0;
  Pickle pickle_;
  std::vector<PickleId> stack_;
  std::vector<size_t> marks_;  // heights of the stack
  size_t num_pairs_ = 0;       // copied by OrderedDict calls
  std::unordered_map<uint64_t, PickleId> memo_;
  std::map<std::pair<std::string_view, DType>, uint32_t> storage_of_;
};

}  // namespace

StatusOr<Pickle> ReadPickle(std::string_view bytes) { return Machine(bytes).Run(); }

}  // namespace trireme

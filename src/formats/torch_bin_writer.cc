// SPDX-License-Identifier: Apache-2.0
#include "formats/torch_bin_writer.h"

#include <array>
#include <limits>

#include "formats/output_file.h"

namespace trireme {
namespace {

// Without zip64 every size and offset has 32 bits.
constexpr uint64_t kMaxArchiveBytes = std::numeric_limits<uint32_t>::max();
// Where torch puts the data of a storage, so that it can be mapped.
constexpr uint64_t kAlignment = 64;

constexpr std::array<uint32_t, 256> MakeCrcTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ (value & 1 ? 0xedb88320u : 0u);
    table[i] = value;
  }
  return table;
}

// The CRC-32 of the zip format.
uint32_t Crc32(std::span<const std::byte> bytes) {
  static constexpr std::array<uint32_t, 256> kTable = MakeCrcTable();
  uint32_t crc = 0xffffffffu;
  for (const std::byte byte : bytes) {
    crc = kTable[(crc ^ static_cast<uint32_t>(byte)) & 0xff] ^ (crc >> 8);
  }
  return ~crc;
}

// Little-endian bytes.
template <typename T>
void Put(std::string& to, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    to.push_back(static_cast<char>(static_cast<uint64_t>(value) >> (8 * i)));
  }
}

StatusOr<std::string_view> StorageType(DType dtype) {
  switch (dtype) {
    case DType::kFloat64: return "DoubleStorage";
    case DType::kFloat32: return "FloatStorage";
    case DType::kFloat16: return "HalfStorage";
    case DType::kBFloat16: return "BFloat16Storage";
    case DType::kInt64: return "LongStorage";
    case DType::kInt32: return "IntStorage";
    case DType::kInt16: return "ShortStorage";
    case DType::kInt8: return "CharStorage";
    case DType::kUInt8: return "ByteStorage";
    case DType::kBool: return "BoolStorage";
    default: return InvalidArgument("torch has no storage of {}", DTypeName(dtype));
  }
}

// A pickle of protocol 2, opcode by opcode.
class Pickle {
 public:
  Pickle() { text_ = "\x80\x02"; }

  void Op(char op) { text_.push_back(op); }
  void Global(std::string_view module, std::string_view name) {
    Op('c');
    text_.append(module).append("\n").append(name).append("\n");
  }
  void String(std::string_view value) {
    Op('X');  // BINUNICODE
    Put(text_, static_cast<uint32_t>(value.size()));
    text_.append(value);
  }
  void Int(int64_t value) {
    if (value >= 0 && value <= std::numeric_limits<int32_t>::max()) {
      Op('J');  // BININT
      Put(text_, static_cast<int32_t>(value));
    } else {
      Op('\x8a');  // LONG1
      Op(8);
      Put(text_, value);
    }
  }
  void Ints(std::span<const int64_t> values) {
    Op('(');
    for (const int64_t value : values) Int(value);
    Op('t');
  }
  std::string Finish() {
    Op('.');
    return std::move(text_);
  }

 private:
  std::string text_;
};

// torch._utils._rebuild_tensor_v2(storage, 0, shape, strides, False, OrderedDict())
Status PickleTensor(Pickle& pickle, const TensorView& tensor, size_t key) {
  TRIREME_ASSIGN_OR_RETURN(const std::string_view storage, StorageType(tensor.dtype));
  pickle.Global("torch._utils", "_rebuild_tensor_v2");
  pickle.Op('(');
  pickle.Op('(');
  pickle.String("storage");
  pickle.Global("torch", storage);
  pickle.String(fmt::format("{}", key));
  pickle.String("cpu");
  pickle.Int(tensor.shape.num_elements());
  pickle.Op('t');
  pickle.Op('Q');  // BINPERSID
  pickle.Int(0);
  std::vector<int64_t> shape;
  for (int i = 0; i < tensor.shape.rank(); ++i) shape.push_back(tensor.shape[i]);
  std::vector<int64_t> strides(shape.size(), 1);
  for (size_t i = shape.size(); i > 1; --i) strides[i - 2] = strides[i - 1] * shape[i - 1];
  pickle.Ints(shape);
  pickle.Ints(strides);
  pickle.Op('\x89');  // NEWFALSE
  pickle.Global("collections", "OrderedDict");
  pickle.Op(')');
  pickle.Op('R');
  pickle.Op('t');
  pickle.Op('R');
  return OkStatus();
}

struct Member {
  std::string name;
  std::string text;                  // of members that are not tensors
  std::span<const std::byte> bytes;  // of tensors
  uint64_t header_offset = 0;
  uint64_t data_offset = 0;
  uint32_t crc = 0;

  std::span<const std::byte> data() const {
    return text.empty() ? bytes : std::as_bytes(std::span(text.data(), text.size()));
  }
};

// What local header and directory entry have in common: from the version needed to the sizes.
void PutCommon(std::string& to, const Member& member) {
  Put<uint16_t>(to, 20);  // version needed
  Put<uint16_t>(to, 0);   // flags
  Put<uint16_t>(to, 0);   // stored
  Put<uint16_t>(to, 0);   // time
  Put<uint16_t>(to, 33);  // date: 1980-01-01
  Put<uint32_t>(to, member.crc);
  const auto size = static_cast<uint32_t>(member.data().size());
  Put<uint32_t>(to, size);
  Put<uint32_t>(to, size);
  Put<uint16_t>(to, static_cast<uint16_t>(member.name.size()));
}

// Padded by an extra field, as torch does, so that data is aligned.
std::string LocalHeader(const Member& member) {
  std::string header = "PK\x03\x04";
  PutCommon(header, member);
  const auto extra =
      static_cast<uint16_t>(member.data_offset - member.header_offset - 30 - member.name.size());
  Put<uint16_t>(header, extra);
  header += member.name;
  Put<uint16_t>(header, 0x4246);  // "FB"
  Put<uint16_t>(header, static_cast<uint16_t>(extra - 4));
  header.append(extra - 4u, 'Z');
  return header;
}

void PutDirectoryEntry(std::string& to, const Member& member) {
  to += "PK\x01\x02";
  Put<uint16_t>(to, 20);  // version made by
  PutCommon(to, member);
  Put<uint16_t>(to, 0);  // extra
  Put<uint16_t>(to, 0);  // comment
  Put<uint16_t>(to, 0);  // disk
  Put<uint16_t>(to, 0);  // internal attributes
  Put<uint32_t>(to, 0);  // external attributes
  Put<uint32_t>(to, static_cast<uint32_t>(member.header_offset));
  to += member.name;
}

// Gives members their places; the end of the last one's data.
uint64_t PlaceMembers(std::vector<Member>& members) {
  uint64_t end = 0;
  for (Member& member : members) {
    member.header_offset = end;
    const uint64_t earliest = end + 30 + member.name.size() + 4;
    member.data_offset = (earliest + kAlignment - 1) / kAlignment * kAlignment;
    end = member.data_offset + member.data().size();
    member.crc = Crc32(member.data());
  }
  return end;
}

StatusOr<std::vector<Member>> MakeMembers(const TensorSource& source) {
  const std::vector<std::string> names = source.Names();
  std::vector<Member> members(2);
  Pickle pickle;
  pickle.Op('}');
  pickle.Op('(');
  for (size_t i = 0; i < names.size(); ++i) {
    TRIREME_ASSIGN_OR_RETURN(const TensorView tensor, source.Get(names[i]));
    pickle.String(names[i]);
    TRIREME_RETURN_IF_ERROR(PickleTensor(pickle, tensor, i).WithContext(names[i]));
    members.push_back({.name = fmt::format("archive/data/{}", i),
                       .bytes = std::span(tensor.data, static_cast<size_t>(tensor.num_bytes()))});
  }
  pickle.Op('u');
  members[0] = {.name = "archive/data.pkl", .text = pickle.Finish()};
  members[1] = {.name = "archive/byteorder", .text = "little"};
  members.push_back({.name = "archive/version", .text = "3\n"});
  return members;
}

}  // namespace

Status WriteTorchBin(const TensorSource& source, const std::string& path) {
  TRIREME_ASSIGN_OR_RETURN(std::vector<Member> members, MakeMembers(source));
  const uint64_t end = PlaceMembers(members);
  std::string directory;
  for (const Member& member : members) PutDirectoryEntry(directory, member);
  const uint64_t size = end + directory.size() + 22;
  if (size > kMaxArchiveBytes || members.size() > std::numeric_limits<uint16_t>::max()) {
    return InvalidArgument(
        "'{}' would take {} bytes and {} members; a .bin file holds 4 GiB and "
        "65535",
        path, size, members.size());
  }
  std::string tail = "PK\x05\x06";
  Put<uint16_t>(tail, 0);
  Put<uint16_t>(tail, 0);
  Put<uint16_t>(tail, static_cast<uint16_t>(members.size()));
  Put<uint16_t>(tail, static_cast<uint16_t>(members.size()));
  Put<uint32_t>(tail, static_cast<uint32_t>(directory.size()));
  Put<uint32_t>(tail, static_cast<uint32_t>(end));
  Put<uint16_t>(tail, 0);
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<OutputFile> file, OutputFile::Create(path, size));
  for (const Member& member : members) {
    TRIREME_RETURN_IF_ERROR(file->WriteAt(member.header_offset, LocalHeader(member)));
    TRIREME_RETURN_IF_ERROR(file->WriteAt(member.data_offset, member.data()));
  }
  TRIREME_RETURN_IF_ERROR(file->WriteAt(end, directory + tail));
  return file->Commit();
}

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
#include "formats/zip_directory.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace trireme {
namespace {

constexpr uint32_t kEndSignature = 0x06054b50;
constexpr uint32_t kEnd64Signature = 0x06064b50;
constexpr uint32_t kLocator64Signature = 0x07064b50;
constexpr uint32_t kCentralSignature = 0x02014b50;
constexpr uint32_t kLocalSignature = 0x04034b50;
constexpr size_t kEndBytes = 22;
constexpr size_t kLocatorBytes = 20;
constexpr size_t kEnd64Bytes = 56;
constexpr size_t kCentralBytes = 46;
constexpr size_t kLocalBytes = 30;
constexpr size_t kMaxCommentBytes = 0xffff;

// Little-endian fields at positions that the caller has checked.
class Fields {
 public:
  explicit Fields(std::string_view bytes) : bytes_(bytes) {}
  uint64_t Number(size_t position, size_t width) const {
    uint64_t number = 0;
    std::memcpy(&number, bytes_.data() + position, width);
    return number;
  }

 private:
  std::string_view bytes_;
};

struct Directory {
  uint64_t offset = 0;
  uint64_t num_bytes = 0;
  uint64_t num_members = 0;
};

Status Damaged(std::string_view what) {
  return InvalidArgument("zip archive is damaged or truncated: {}", what);
}

StatusOr<Directory> FindDirectory64(std::string_view archive, size_t end) {
  const Fields fields(archive);
  if (end < kLocatorBytes || fields.Number(end - kLocatorBytes, 4) != kLocator64Signature) {
    return Damaged("no zip64 locator");
  }
  const uint64_t record = fields.Number(end - kLocatorBytes + 8, 8);
  if (archive.size() < kEnd64Bytes || record > archive.size() - kEnd64Bytes ||
      fields.Number(record, 4) != kEnd64Signature) {
    return Damaged("no zip64 end record");
  }
  return Directory{.offset = fields.Number(record + 48, 8),
                   .num_bytes = fields.Number(record + 40, 8),
                   .num_members = fields.Number(record + 32, 8)};
}

StatusOr<Directory> FindDirectory(std::string_view archive) {
  if (archive.size() < kEndBytes) return Damaged("no end record");
  const Fields fields(archive);
  const size_t last = archive.size() - kEndBytes;
  const size_t first = last > kMaxCommentBytes ? last - kMaxCommentBytes : 0;
  size_t end = last + 1;
  do {
    --end;
    if (fields.Number(end, 4) == kEndSignature &&
        end + kEndBytes + fields.Number(end + 20, 2) == archive.size()) {
      Directory directory{.offset = fields.Number(end + 16, 4),
                          .num_bytes = fields.Number(end + 12, 4),
                          .num_members = fields.Number(end + 10, 2)};
      const bool is_zip64 = directory.offset == 0xffffffff || directory.num_bytes == 0xffffffff ||
                            directory.num_members == 0xffff;
      if (is_zip64) return FindDirectory64(archive, end);
      return directory;
    }
  } while (end > first);
  return Damaged("no end record");
}

// Replaces the 32-bit fields that say "see the zip64 extra field".
Status ReadExtra64(std::string_view extra, uint64_t* size, uint64_t* packed_size,
                   uint64_t* offset) {
  const Fields fields(extra);
  for (size_t position = 0; position + 4 <= extra.size();) {
    const uint64_t id = fields.Number(position, 2);
    const uint64_t length = fields.Number(position + 2, 2);
    position += 4;
    if (length > extra.size() - position) return Damaged("extra field");
    if (id == 1) {
      size_t at = position;
      for (uint64_t* field : {size, packed_size, offset}) {
        if (*field != 0xffffffff) continue;
        if (at + 8 > position + length) return Damaged("zip64 extra field");
        *field = fields.Number(at, 8);
        at += 8;
      }
    }
    position += length;
  }
  return OkStatus();
}

// Where the data of a member begins: its local header may be longer than the central one.
StatusOr<uint64_t> DataOffset(std::string_view archive, uint64_t local, std::string_view name) {
  if (archive.size() < kLocalBytes || local > archive.size() - kLocalBytes) {
    return Damaged("a member lies outside the archive");
  }
  const Fields fields(archive.substr(local));
  if (fields.Number(0, 4) != kLocalSignature) return Damaged("a member has no local header");
  const uint64_t name_bytes = fields.Number(26, 2);
  const uint64_t extra_bytes = fields.Number(28, 2);
  const uint64_t begin = local + kLocalBytes;
  if (name_bytes + extra_bytes > archive.size() - begin ||
      archive.substr(begin, name_bytes) != name) {
    return Damaged("local and central headers disagree");
  }
  return begin + name_bytes + extra_bytes;
}

// Reads the central header at `position` and moves past it.
StatusOr<ZipMember> ReadMember(std::string_view archive, std::string_view directory,
                               size_t* position) {
  if (directory.size() - *position < kCentralBytes) return Damaged("short directory");
  const Fields fields(directory.substr(*position));
  if (fields.Number(0, 4) != kCentralSignature) return Damaged("no central header");
  const uint64_t flags = fields.Number(8, 2);
  const uint64_t method = fields.Number(10, 2);
  uint64_t packed_bytes = fields.Number(20, 4);
  uint64_t num_bytes = fields.Number(24, 4);
  const uint64_t name_bytes = fields.Number(28, 2);
  const uint64_t extra_bytes = fields.Number(30, 2);
  const uint64_t comment_bytes = fields.Number(32, 2);
  uint64_t local = fields.Number(42, 4);
  const size_t begin = *position + kCentralBytes;
  if (name_bytes + extra_bytes + comment_bytes > directory.size() - begin) {
    return Damaged("short directory");
  }
  ZipMember member;
  member.name = directory.substr(begin, name_bytes);
  TRIREME_RETURN_IF_ERROR(ReadExtra64(directory.substr(begin + name_bytes, extra_bytes), &num_bytes,
                                      &packed_bytes, &local));
  if (method != 0 || (flags & 1) != 0 || packed_bytes != num_bytes) {
    return InvalidArgument(
        "a member of the zip archive is compressed or encrypted; torch.save "
        "stores members as they are");
  }
  TRIREME_ASSIGN_OR_RETURN(member.offset, DataOffset(archive, local, member.name));
  member.num_bytes = num_bytes;
  if (num_bytes > archive.size() - member.offset) {
    return Damaged("a member ends beyond the archive");
  }
  *position = begin + name_bytes + extra_bytes + comment_bytes;
  return member;
}

Status CheckOverlap(std::vector<ZipMember>& members) {
  std::sort(members.begin(), members.end(), [](const ZipMember& a, const ZipMember& b) {
    return std::pair(a.offset, a.num_bytes) < std::pair(b.offset, b.num_bytes);
  });
  uint64_t end = 0;
  for (const ZipMember& member : members) {
    if (member.offset < end) return Damaged("two members share bytes");
    end = member.offset + member.num_bytes;
  }
  return OkStatus();
}

}  // namespace

StatusOr<std::vector<ZipMember>> ReadZipDirectory(std::span<const std::byte> bytes) {
  const std::string_view archive(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  TRIREME_ASSIGN_OR_RETURN(const Directory place, FindDirectory(archive));
  if (place.offset > archive.size() || place.num_bytes > archive.size() - place.offset ||
      place.num_members > place.num_bytes / kCentralBytes) {
    return Damaged("the directory lies outside the archive");
  }
  const std::string_view directory = archive.substr(place.offset, place.num_bytes);
  std::vector<ZipMember> members;
  members.reserve(place.num_members);
  size_t position = 0;
  for (uint64_t i = 0; i < place.num_members; ++i) {
    TRIREME_ASSIGN_OR_RETURN(const ZipMember member, ReadMember(archive, directory, &position));
    members.push_back(member);
  }
  TRIREME_RETURN_IF_ERROR(CheckOverlap(members));
  std::sort(members.begin(), members.end(),
            [](const ZipMember& a, const ZipMember& b) { return a.name < b.name; });
  const auto twice =
      std::adjacent_find(members.begin(), members.end(),
                         [](const ZipMember& a, const ZipMember& b) { return a.name == b.name; });
  if (twice != members.end()) return Damaged("a member is listed twice");
  return members;
}

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
#include "formats/engine_file.h"

#include <gmock/gmock.h>

#include <cstring>

#include "base/crc32c.h"
#include "formats/test_files.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;

std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Long enough that all tensor offsets have four digits, which lets tests exchange them in place.
const std::string kConfig = R"({"hidden_size":4})" + std::string(1000, ' ');

std::string WriteEngine(const TestFolder& folder) {
  const std::string path = folder.File("rank0.engine");
  auto writer = EngineFileWriter::Create(path, kConfig, R"({"launches":[]})",
                                         {{"w", "row_major", DType::kBFloat16, {2, 3}, 12},
                                          {"none", "row_major", DType::kFloat32, {0}, 0},
                                          {"q", "w4_k64n16", DType::kInt4, {3, 5}, 16}});
  EXPECT_TRUE(writer.ok()) << writer.status().ToString();
  EXPECT_TRUE((*writer)->Write("q", AsBytes("0123456789abcdef")).ok());
  EXPECT_TRUE((*writer)->Write("w", AsBytes("wwwwwwWWWWWW")).ok());
  EXPECT_TRUE((*writer)->Finish().ok());
  return path;
}

// Makes the header's checksum right again after a change of the header.
std::string Resealed(std::string file) {
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data() + 16, sizeof(header_bytes));
  const uint32_t crc = Crc32c(std::string_view(file).substr(16, 8 + header_bytes));
  std::memcpy(file.data() + 12, &crc, sizeof(crc));
  return file;
}

TEST(EngineFileTest, RoundTrip) {
  TestFolder folder;
  auto engine = EngineFile::Open(WriteEngine(folder));
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  EXPECT_EQ((*engine)->config_json(), kConfig);
  EXPECT_EQ((*engine)->plan_json(), R"({"launches":[]})");
  ASSERT_EQ((*engine)->tensors().size(), 3u);
  for (const EngineTensorEntry& entry : (*engine)->tensors()) EXPECT_EQ(entry.offset % 256, 0u);
  const EngineTensorEntry* entry = (*engine)->Find("q");
  ASSERT_NE(entry, nullptr);
  EXPECT_EQ(entry->layout, "w4_k64n16");
  EXPECT_EQ(entry->dtype, DType::kInt4);
  EXPECT_EQ(entry->shape, Shape({3, 5}));
  const auto bytes = (*engine)->Bytes("q").value();
  EXPECT_EQ(std::memcmp(bytes.data(), "0123456789abcdef", 16), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(bytes.data()) % 256, 0u);
  EXPECT_EQ((*engine)->Bytes("none")->size(), 0u);
  EXPECT_EQ((*engine)->Bytes("x").status().code(), StatusCode::kNotFound);
  for (const char* name : {"w", "q", "none"}) EXPECT_TRUE((*engine)->Verify(name).ok()) << name;
  EXPECT_EQ((*engine)->Verify("x").code(), StatusCode::kNotFound);
}

TEST(EngineFileTest, OneFlippedBitIsFoundWhereverItMatters) {
  TestFolder folder;
  const std::string whole = ReadAll(WriteEngine(folder));
  const size_t texts_end = whole.find(R"({"launches":[]})") + 15;
  for (size_t at = 8; at < whole.size(); at += at < texts_end ? 7 : 1) {
    std::string damaged = whole;
    damaged[at] ^= 4;
    auto engine = EngineFile::Open(folder.Put("e", damaged));
    if (at < texts_end) {
      EXPECT_FALSE(engine.ok()) << at;
      continue;
    }
    ASSERT_TRUE(engine.ok()) << at;
    for (const EngineTensorEntry& entry : (*engine)->tensors()) {
      const bool inside = at >= entry.offset && at < entry.offset + entry.num_bytes;
      const Status status = (*engine)->Verify(entry.name);
      EXPECT_EQ(status.code(), inside ? StatusCode::kInvalidArgument : StatusCode::kOk) << at;
      if (inside) {
        EXPECT_THAT(std::string(status.message()), HasSubstr("'" + entry.name + "'"));
        EXPECT_THAT(std::string(status.message()), HasSubstr("trireme build"));
      }
    }
  }
}

TEST(EngineFileTest, HeaderIsReadableText) {
  TestFolder folder;
  const std::string contents = ReadAll(WriteEngine(folder));
  EXPECT_TRUE(contents.starts_with("TRIREME\n"));
  EXPECT_THAT(contents, HasSubstr(R"("layout":"w4_k64n16")"));
  EXPECT_THAT(contents, HasSubstr(R"({"launches":[]})"));
}

TEST(EngineFileTest, AnotherVersionNamesBothAndTheRemedy) {
  TestFolder folder;
  std::string contents = ReadAll(WriteEngine(folder));
  contents[8] = 7;
  const Status status = EngineFile::Open(folder.Put("e", contents)).status();
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  const std::string message(status.message());
  EXPECT_THAT(message, HasSubstr("version 7"));
  EXPECT_THAT(message, HasSubstr("version 2"));
  EXPECT_THAT(message, HasSubstr("trireme build"));
}

TEST(EngineFileTest, EveryTruncationIsRefused) {
  TestFolder folder;
  const std::string whole = ReadAll(WriteEngine(folder));
  for (size_t size = 0; size < whole.size(); size += size < 64 ? 1 : 61) {
    EXPECT_FALSE(EngineFile::Open(folder.Put("e", whole.substr(0, size))).ok()) << size;
  }
}

TEST(EngineFileTest, DamagedTablesAreRefused) {
  TestFolder folder;
  const std::string whole = ReadAll(WriteEngine(folder));
  const std::pair<std::string, std::string> damages[] = {
      {R"("name":"w")", R"("name":"q")"},  // listed twice
      {R"("name":"w")", R"("name":007)"},  // not JSON
      {R"("dtype":"bfloat16")", R"("dtype":"bfloat17")"},
      {R"("dtype":"bfloat16")", R"("dtypo":"bfloat16")"},
      {R"("bytes":12)", R"("bytes":-1)"},
      {R"("crc32c":)", R"("crc33c":)"},
      {R"("shape":[2,3])", R"("shape":["" ])"},
      {R"("tensors":[)", R"("tensorz":[)"},
      {R"("config":{)", R"("confik":{)"},
  };
  for (const auto& [from, to] : damages) {
    std::string damaged = whole;
    const size_t at = damaged.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    ASSERT_EQ(from.size(), to.size());
    damaged.replace(at, from.size(), to);
    const Status status = EngineFile::Open(folder.Put("e", Resealed(damaged))).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << from << " -> " << to;
  }
}

TEST(EngineFileTest, OverlapAndMisalignmentAreRefused) {
  TestFolder folder;
  auto engine = EngineFile::Open(WriteEngine(folder));
  ASSERT_TRUE(engine.ok());
  const std::string whole = ReadAll(folder.File("rank0.engine"));
  const std::string offset = std::to_string((*engine)->Find("q")->offset);
  const std::string other = std::to_string((*engine)->Find("w")->offset);
  ASSERT_EQ(offset.size(), other.size());
  auto with_offset = [&](std::string text) {
    std::string damaged = whole;
    const size_t at = damaged.rfind("\"offset\":" + offset);
    EXPECT_NE(at, std::string::npos);
    damaged.replace(at + 9, offset.size(), text);
    return EngineFile::Open(folder.Put("e", Resealed(damaged))).status();
  };
  EXPECT_TRUE(with_offset(offset).ok());
  EXPECT_THAT(std::string(with_offset(other).message()), HasSubstr("overlaps"));
  std::string odd = offset;
  odd.back() ^= 1;
  EXPECT_THAT(std::string(with_offset(odd).message()), HasSubstr("aligned"));
}

TEST(EngineFileTest, WriterRefusesTwoTensorsOfOneName) {
  TestFolder folder;
  EXPECT_FALSE(EngineFileWriter::Create(folder.File("e"), "{}", "{}",
                                        {{"a", "row_major", DType::kInt8, {1}, 1},
                                         {"a", "row_major", DType::kInt8, {1}, 1}})
                   .ok());
  EXPECT_EQ(folder.NumFiles(), 0u);
}

TEST(EngineFileTest, ManyTensorsFitTheReservedHeader) {
  TestFolder folder;
  std::vector<EngineTensor> table;
  for (int i = 0; i < 3000; ++i) {
    table.push_back({"layers." + std::to_string(i), "row_major", DType::kInt8, {i}, uint64_t(i)});
  }
  auto writer = EngineFileWriter::Create(folder.File("e"), "{}", std::string(100'000, 'p'), table);
  ASSERT_TRUE(writer.ok()) << writer.status().ToString();
  for (const EngineTensor& tensor : table) {
    const std::string bytes(tensor.num_bytes, static_cast<char>('a' + tensor.num_bytes % 26));
    ASSERT_TRUE((*writer)->Write(tensor.name, AsBytes(bytes)).ok());
  }
  ASSERT_TRUE((*writer)->Finish().ok());
  auto engine = EngineFile::Open(folder.File("e"));
  ASSERT_TRUE(engine.ok()) << engine.status().ToString();
  EXPECT_EQ((*engine)->plan_json(), std::string(100'000, 'p'));
  EXPECT_EQ(static_cast<char>((*engine)->Bytes("layers.2999")->back()), 'a' + 2999 % 26);
}

}  // namespace
}  // namespace trireme

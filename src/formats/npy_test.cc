// SPDX-License-Identifier: Apache-2.0
#include "formats/npy.h"

#include <gmock/gmock.h>

#include <cstring>

#include "formats/test_files.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string NpyFile(int version, std::string_view header, std::string_view data) {
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  const uint32_t length = static_cast<uint32_t>(header.size());
  file.append(reinterpret_cast<const char*>(&length), version == 1 ? 2 : 4);
  return file + std::string(header) + std::string(data);
}

StatusOr<HostTensor> Parse(std::string_view file) {
  return ParseNpy(std::as_bytes(std::span(file.data(), file.size())), "x.npy");
}

template <typename T>
std::string Raw(std::initializer_list<T> values) {
  return std::string(reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T));
}

TEST(NpyTest, RoundTripsEveryDtypeAndRank) {
  TestFolder folder;
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kInt32, DType::kInt64,
                            DType::kInt8, DType::kUInt8, DType::kBool, DType::kFloat64}) {
    for (const Shape& shape : {Shape{}, Shape{5}, Shape{2, 3}, Shape{0, 3}, Shape{2, 1, 3, 2}}) {
      HostTensor tensor(dtype, shape);
      for (size_t i = 0; i < tensor.bytes().size(); ++i) tensor.bytes()[i] = std::byte(i * 7);
      ASSERT_TRUE(WriteNpy(folder.File("t.npy"), tensor.view()).ok());
      StatusOr<HostTensor> again = ReadNpy(folder.File("t.npy"));
      ASSERT_TRUE(again.ok()) << again.status().ToString();
      EXPECT_EQ(again->dtype(), dtype);
      EXPECT_EQ(again->shape(), shape);
      EXPECT_TRUE(std::ranges::equal(again->bytes(), tensor.bytes()));
    }
  }
  EXPECT_FALSE(WriteNpy(folder.File("t.npy"), HostTensor(DType::kBFloat16, {1}).view()).ok());
}

// The bytes NumPy itself writes for np.arange(3, dtype=np.int64), by its format description.
TEST(NpyTest, WritesNumPysHeader) {
  TestFolder folder;
  HostTensor tensor(DType::kInt64, {3});
  ASSERT_TRUE(WriteNpy(folder.File("t.npy"), tensor.view()).ok());
  const std::string file = ReadAll(folder.File("t.npy"));
  EXPECT_EQ(file.substr(0, 10), std::string("\x93NUMPY\x01\x00\x76\x00", 10));
  EXPECT_THAT(file, HasSubstr("{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }"));
  EXPECT_EQ(file[127], '\n');
  EXPECT_EQ(file.size(), 128u + 24);
}

TEST(NpyTest, ReadsEveryVersionAndFortranOrder) {
  for (const int version : {1, 2, 3}) {
    StatusOr<HostTensor> tensor =
        Parse(NpyFile(version, "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 3), }\n",
                      Raw<int32_t>({0, 10, 1, 11, 2, 12})));
    ASSERT_TRUE(tensor.ok()) << tensor.status().ToString();
    EXPECT_THAT(std::vector<int32_t>(tensor->as<int32_t>(), tensor->as<int32_t>() + 6),
                ElementsAre(0, 1, 2, 10, 11, 12));
  }
  EXPECT_TRUE(
      Parse(NpyFile(1, R"({"shape":(2L,),"fortran_order":False,"descr":"|i1"})", "ab")).ok());
}

TEST(NpyTest, HostileFilesAreRefused) {
  const std::string good = "{'descr': '<i4', 'fortran_order': False, 'shape': (1,), }";
  ASSERT_TRUE(Parse(NpyFile(1, good, "abcd")).ok());
  const std::string whole = NpyFile(1, good, "abcd");
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(Parse(whole.substr(0, size)).ok());
  EXPECT_FALSE(Parse(NpyFile(1, good, "abcde")).ok());
  EXPECT_FALSE(Parse(NpyFile(9, good, "abcd")).ok());
  for (const char* header :
       {"", "{", "{}", "{'descr': '>i4', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<i4', 'fortran_order': Maybe, 'shape': (1,)}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (-1,)}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4294967296)}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1)}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': 1}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (1", "{'descr': '<i4",
        "{'descr': '<i4', 'shape': (1,)}", "{'other': 1}",
        "{'descr': '<i4' 'fortran_order': False, 'shape': (1,)}"}) {
    const Status status = Parse(NpyFile(1, header, "abcd")).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << header;
    EXPECT_THAT(std::string(status.message()), HasSubstr("x.npy"));
  }
}

TEST(IdRowsTest, CsvRoundTrip) {
  const StatusOr<IdRows> rows = ParseIdCsv("1, 2,3\r\n\n-4,\n 5 ", "ids.csv");
  ASSERT_TRUE(rows.ok()) << rows.status().ToString();
  EXPECT_THAT(*rows, ElementsAre(ElementsAre(1, 2, 3), ElementsAre(-4), ElementsAre(5)));
  EXPECT_EQ(IdCsv(*rows), "1,2,3\n-4\n5\n");
  EXPECT_EQ(ParseIdCsv(IdCsv(*rows), "ids.csv").value(), *rows);
}

TEST(IdRowsTest, BadCsvNamesTheLine) {
  for (const char* text : {"1\n2,x\n", "1\n2 3\n", "1\n99999999999\n", "1\n,,\n", "1\n1.5\n"}) {
    const Status status = ParseIdCsv(text, "ids.csv").status();
    ASSERT_FALSE(status.ok()) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("ids.csv line 2"));
  }
}

TEST(IdRowsTest, NpyRows) {
  TestFolder folder;
  HostTensor ids(DType::kInt64, {2, 2});
  for (int i = 0; i < 4; ++i) ids.as<int64_t>()[i] = i;
  ASSERT_TRUE(WriteNpy(folder.File("i.npy"), ids.view()).ok());
  EXPECT_THAT(*ReadIdRows(folder.File("i.npy")), ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
  ids.as<int64_t>()[3] = int64_t{1} << 40;
  ASSERT_TRUE(WriteNpy(folder.File("i.npy"), ids.view()).ok());
  EXPECT_FALSE(ReadIdRows(folder.File("i.npy")).ok());
  ASSERT_TRUE(WriteNpy(folder.File("f.npy"), HostTensor(DType::kFloat32, {2, 2}).view()).ok());
  EXPECT_FALSE(ReadIdRows(folder.File("f.npy")).ok());
  ASSERT_TRUE(WriteNpy(folder.File("e.npy"), HostTensor(DType::kInt32, {1 << 20, 0}).view()).ok());
  EXPECT_FALSE(ReadIdRows(folder.File("e.npy")).ok());
  EXPECT_FALSE(ReadIdRows(folder.File("i.txt")).ok());
  EXPECT_THAT(*ReadIdRows(folder.Put("i.csv", "7\n")), ElementsAre(ElementsAre(7)));
}

}  // namespace
}  // namespace trireme

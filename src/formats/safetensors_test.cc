// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors.h"

#include <gmock/gmock.h>

#include <cstring>
#include <thread>

#include "formats/hf_folder.h"
#include "formats/safetensors_header.h"
#include "formats/test_files.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string WithLength(std::string_view header, std::string_view data) {
  const uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + std::string(header) +
         std::string(data);
}

template <typename T>
std::span<const std::byte> Bytes(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

TEST(SafetensorsTest, WritesAndReadsBack) {
  TestFolder folder;
  const std::string path = folder.File("model.safetensors");
  auto writer = SafetensorsWriter::Create(path,
                                          {{"b", DType::kInt8, {3}},
                                           {"a", DType::kFloat32, {2, 2}},
                                           {"scalar", DType::kInt64, {}},
                                           {"empty", DType::kFloat16, {0, 7}}},
                                          {{"format", "pt"}});
  ASSERT_TRUE(writer.ok()) << writer.status().ToString();
  const std::vector<float> a = {1, 2, 3, 4};
  const std::vector<int8_t> b = {-1, 0, 1};
  const std::vector<int64_t> scalar = {42};
  ASSERT_TRUE((*writer)->Write("b", Bytes(b)).ok());
  ASSERT_TRUE((*writer)->Write("scalar", Bytes(scalar)).ok());
  EXPECT_FALSE(std::filesystem::exists(path)) << "visible before it is complete";
  ASSERT_TRUE((*writer)->Write("a", Bytes(a)).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
  EXPECT_EQ(folder.NumFiles(), 1u);

  auto source = OpenSafetensors(path);
  ASSERT_TRUE(source.ok()) << source.status().ToString();
  EXPECT_THAT((*source)->Names(), ElementsAre("a", "b", "empty", "scalar"));
  const TensorView view = (*source)->Get("a").value();
  EXPECT_EQ(view.dtype, DType::kFloat32);
  EXPECT_EQ(view.shape, Shape({2, 2}));
  EXPECT_EQ(std::memcmp(view.data, a.data(), 16), 0);
  EXPECT_EQ((*source)->Get("b")->as<int8_t>()[0], -1);
  EXPECT_EQ((*source)->Get("scalar")->as<int64_t>()[0], 42);
  EXPECT_EQ((*source)->Get("scalar")->shape.rank(), 0);
  EXPECT_EQ((*source)->Get("empty")->num_bytes(), 0);
  (*source)->Release("a");
  EXPECT_EQ(view.as<float>()[3], 4) << "views survive Release";
}

TEST(SafetensorsTest, AbsentTensorNamesItselfAndTheFile) {
  TestFolder folder;
  const std::string path = folder.Put("m.safetensors", WithLength("{}", ""));
  auto source = OpenSafetensors(path);
  ASSERT_TRUE(source.ok()) << source.status().ToString();
  const Status status = (*source)->Get("lm_head.weight").status();
  EXPECT_EQ(status.code(), StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("lm_head.weight"));
  EXPECT_THAT(std::string(status.message()), HasSubstr(path));
}

TEST(SafetensorsTest, MisalignedTensorsAreCopied) {
  TestFolder folder;
  // A header of odd length puts the floats at an odd address.
  std::string header = R"({"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  if (header.size() % 2 == 0) header += ' ';
  const float values[2] = {1.5f, -2.5f};
  const std::string path = folder.Put(
      "m", WithLength(header, std::string_view(reinterpret_cast<const char*>(values), 8)));
  auto source = OpenSafetensors(path);
  ASSERT_TRUE(source.ok()) << source.status().ToString();
  const TensorView view = (*source)->Get("x").value();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % 4, 0u);
  EXPECT_EQ(view.as<float>()[1], -2.5f);
  EXPECT_EQ((*source)->Get("x")->data, view.data) << "copied once";
}

TEST(SafetensorsTest, WriterRefusesMisuse) {
  TestFolder folder;
  const std::string path = folder.File("m");
  auto make = [&](std::vector<SafetensorsWriter::Entry> entries) {
    return SafetensorsWriter::Create(path, std::move(entries), {});
  };
  EXPECT_FALSE(make({{"a", DType::kInt4, {2}}}).ok());
  EXPECT_FALSE(make({{"a", DType::kInt8, {2}}, {"a", DType::kInt8, {2}}}).ok());
  EXPECT_FALSE(make({{"__metadata__", DType::kInt8, {2}}}).ok());
  {
    auto writer = make({{"a", DType::kInt8, {2}}, {"b", DType::kInt8, {1}}});
    ASSERT_TRUE(writer.ok());
    const std::vector<int8_t> two = {1, 2};
    EXPECT_EQ((*writer)->Write("c", Bytes(two)).code(), StatusCode::kNotFound);
    EXPECT_EQ((*writer)->Write("b", Bytes(two)).code(), StatusCode::kInvalidArgument);
    EXPECT_TRUE((*writer)->Write("a", Bytes(two)).ok());
    EXPECT_EQ((*writer)->Write("a", Bytes(two)).code(), StatusCode::kFailedPrecondition);
    const Status finish = (*writer)->Finish();
    EXPECT_EQ(finish.code(), StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(finish.message()), HasSubstr("'b'"));
  }
  EXPECT_EQ(folder.NumFiles(), 0u) << "an unfinished file is deleted";
}

TEST(SafetensorsTest, WriterTakesTensorsFromSeveralThreads) {
  TestFolder folder;
  constexpr int kTensors = 64;
  std::vector<SafetensorsWriter::Entry> entries;
  for (int i = 0; i < kTensors; ++i) {
    entries.push_back({"t" + std::to_string(i), DType::kInt32, {i + 1}});
  }
  auto writer = SafetensorsWriter::Create(folder.File("m"), entries, {});
  ASSERT_TRUE(writer.ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = t; i < kTensors; i += 4) {
        const std::vector<int32_t> values(static_cast<size_t>(i + 1), i);
        EXPECT_TRUE((*writer)->Write("t" + std::to_string(i), Bytes(values)).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ASSERT_TRUE((*writer)->Finish().ok());
  auto source = OpenSafetensors(folder.File("m"));
  ASSERT_TRUE(source.ok()) << source.status().ToString();
  for (int i = 0; i < kTensors; ++i) {
    const TensorView view = (*source)->Get("t" + std::to_string(i)).value();
    EXPECT_EQ(view.as<int32_t>()[0], i);
    EXPECT_EQ(view.as<int32_t>()[i], i);
  }
}

struct HostileHeader {
  const char* name;
  const char* json;
  const char* message;  // part of the error
};

class HostileHeaderTest : public ::testing::TestWithParam<HostileHeader> {};

TEST_P(HostileHeaderTest, IsRefused) {
  const StatusOr<SafetensorsHeader> header = ParseSafetensorsHeader(GetParam().json, 8);
  ASSERT_FALSE(header.ok());
  EXPECT_EQ(header.status().code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(header.status().message()), HasSubstr(GetParam().message));
}

INSTANTIATE_TEST_SUITE_P(
    All, HostileHeaderTest,
    ::testing::Values(
        HostileHeader{"NotJson", "{\"x\":", "not valid JSON"},
        HostileHeader{"NotAnObject", "[1]", "does not start with"},
        HostileHeader{"Trailing", "{} {}", "not valid JSON"},
        HostileHeader{"Beyond", R"({"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})",
                      "truncated"},
        HostileHeader{
            "FarBeyond",
            R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[18446744073709551613,18446744073709551615]}})",
            "truncated"},
        HostileHeader{"Reversed", R"({"x":{"dtype":"U8","shape":[8],"data_offsets":[8,0]}})",
                      "data_offsets"},
        HostileHeader{"WrongSize", R"({"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})",
                      "do not hold"},
        HostileHeader{
            "Overlap",
            R"({"x":{"dtype":"U8","shape":[6],"data_offsets":[0,6]},"y":{"dtype":"U8","shape":[6],"data_offsets":[2,8]}})",
            "overlap"},
        HostileHeader{
            "Hole",
            R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"y":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
            "belong to no tensor"},
        HostileHeader{"Tail", R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                      "belong to no tensor"},
        HostileHeader{
            "HugeShape",
            R"({"x":{"dtype":"U8","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,8]}})",
            "too many elements"},
        HostileHeader{
            "HugeEmpty",
            R"({"x":{"dtype":"U8","shape":[0,9223372036854775807,9223372036854775807],"data_offsets":[0,0]}})",
            "too many elements"},
        HostileHeader{"NegativeDim", R"({"x":{"dtype":"U8","shape":[-8],"data_offsets":[0,8]}})",
                      "negative"},
        HostileHeader{"FractionDim", R"({"x":{"dtype":"U8","shape":[8.0],"data_offsets":[0,8]}})",
                      "fraction"},
        HostileHeader{"SevenDims",
                      R"({"x":{"dtype":"U8","shape":[1,1,1,1,1,1,8],"data_offsets":[0,8]}})",
                      "more than 6 dimensions"},
        HostileHeader{"Dtype", R"({"x":{"dtype":"F12","shape":[8],"data_offsets":[0,8]}})", "F12"},
        HostileHeader{"DtypeNumber", R"({"x":{"dtype":8,"shape":[8],"data_offsets":[0,8]}})",
                      "not expected"},
        HostileHeader{"NoShape", R"({"x":{"dtype":"U8","data_offsets":[0,8]}})", "lacks"},
        HostileHeader{"OneOffset", R"({"x":{"dtype":"U8","shape":[8],"data_offsets":[8]}})",
                      "lacks"},
        HostileHeader{"ThreeOffsets", R"({"x":{"dtype":"U8","shape":[8],"data_offsets":[0,8,9]}})",
                      "more than 2"},
        HostileHeader{"Nested", R"({"x":{"dtype":"U8","shape":[[8]],"data_offsets":[0,8]}})",
                      "an array"},
        HostileHeader{"MetadataNumber", R"({"__metadata__":{"a":1}})", "not expected"},
        HostileHeader{"EntryString", R"({"x":"y"})", "not expected"},
        HostileHeader{
            "Twice",
            R"({"x":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"x":{"dtype":"U8","shape":[0],"data_offsets":[8,8]}})",
            "listed twice"}),
    [](const auto& info) { return info.param.name; });

TEST(SafetensorsTest, EveryTruncationIsRefused) {
  TestFolder folder;
  const std::string whole =
      WithLength(R"({"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "abcd");
  ASSERT_TRUE(OpenSafetensors(folder.Put("whole", whole)).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(OpenSafetensors(folder.Put("part", whole.substr(0, size))).ok()) << size;
  }
}

TEST(SafetensorsTest, HugeHeaderLengthIsRefused) {
  TestFolder folder;
  std::string file = WithLength("{}", "");
  std::memset(file.data(), 0xff, 8);
  EXPECT_THAT(std::string(OpenSafetensors(folder.Put("m", file)).status().message()),
              HasSubstr("claims a header"));
}

TEST(SafetensorsTest, ShardsAreFoundThroughTheIndex) {
  TestFolder folder;
  folder.Put("m-1.safetensors",
             WithLength(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "X"));
  folder.Put("m-2.safetensors",
             WithLength(R"({"y":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "Y"));
  folder.Put("model.safetensors.index.json",
             R"({"weight_map":{"x":"m-1.safetensors","y":"m-2.safetensors"}})");
  auto source = OpenHfWeights(folder.path());
  ASSERT_TRUE(source.ok()) << source.status().ToString();
  EXPECT_THAT((*source)->Names(), ElementsAre("x", "y"));
  EXPECT_EQ((*source)->Get("y")->as<char>()[0], 'Y');
  EXPECT_EQ((*source)->Get("z").status().code(), StatusCode::kNotFound);
}

TEST(SafetensorsTest, HostileIndexesAreRefused) {
  TestFolder folder;
  folder.Put("m.safetensors",
             WithLength(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "X"));
  for (const char* text :
       {"", "[]", "{}", R"({"weight_map":{}})", R"({"weight_map":[]})", R"({"weight_map":{"x":1}})",
        R"({"weight_map":{"x":"../m.safetensors"}})", R"({"weight_map":{"x":"/etc/passwd"}})",
        R"({"weight_map":{"x":".."}})", R"({"weight_map":{"x":""}})",
        R"({"weight_map":{"x":"a\\b"}})", R"({"weight_map":{"x":"m.safetensors\u0000"}})",
        R"({"weight_map":{"x":"absent.safetensors"}})",
        R"({"weight_map":{"y":"m.safetensors"}})"}) {
    const std::string path = folder.Put("i.json", text);
    EXPECT_FALSE(OpenSafetensorsIndex(path).ok()) << text;
  }
  const std::string deep = std::string(100'000, '[');
  EXPECT_THAT(std::string(OpenSafetensorsIndex(folder.Put("i.json", deep)).status().message()),
              HasSubstr("deeper"));
}

}  // namespace
}  // namespace trireme

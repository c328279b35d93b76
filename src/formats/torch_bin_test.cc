// SPDX-License-Identifier: Apache-2.0
#include "formats/torch_bin.h"

#include <gmock/gmock.h>

#include "formats/hf_folder.h"
#include "formats/pickle.h"
#include "formats/test_files.h"
#include "formats/zip_directory.h"
#include "tests/source_path.h"

namespace trireme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string DataFile(std::string_view name) {
  return SourcePath("tests/data/formats/").append(name);
}

std::span<const std::byte> AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// Elements of any dtype as doubles.
std::vector<double> Values(const TensorView& view) {
  std::vector<double> values;
  for (int64_t i = 0; i < view.shape.num_elements(); ++i) {
    switch (view.dtype) {
      case DType::kInt8: values.push_back(view.as<int8_t>()[i]); break;
      case DType::kBool:
      case DType::kUInt8: values.push_back(view.as<uint8_t>()[i]); break;
      case DType::kInt16: values.push_back(view.as<int16_t>()[i]); break;
      case DType::kInt32: values.push_back(view.as<int32_t>()[i]); break;
      case DType::kInt64: values.push_back(static_cast<double>(view.as<int64_t>()[i])); break;
      default: values.push_back(LoadAsFloat(view, i));
    }
  }
  return values;
}

class TorchBinFormsTest : public ::testing::TestWithParam<const char*> {};

TEST_P(TorchBinFormsTest, EveryStorageTypeAndView) {
  auto opened = OpenTorchBin(DataFile(GetParam()));
  ASSERT_TRUE(opened.ok()) << opened.status().ToString();
  const TensorSource& source = **opened;
  EXPECT_EQ(source.Names().size(), 18u) << "values that are no tensors are skipped";
  const std::pair<const char*, DType> types[] = {
      {"FloatStorage", DType::kFloat32},     {"HalfStorage", DType::kFloat16},
      {"BFloat16Storage", DType::kBFloat16}, {"DoubleStorage", DType::kFloat64},
      {"CharStorage", DType::kInt8},         {"ByteStorage", DType::kUInt8},
      {"ShortStorage", DType::kInt16},       {"IntStorage", DType::kInt32},
      {"LongStorage", DType::kInt64}};
  for (const auto& [name, dtype] : types) {
    const TensorView view = source.Get(name).value();
    EXPECT_EQ(view.dtype, dtype) << name;
    EXPECT_EQ(view.shape, Shape({2, 3})) << name;
    EXPECT_THAT(Values(view), ElementsAre(0, 1, 2, 3, 4, 5)) << name;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view.data) % (DTypeBits(dtype) / 8), 0u) << name;
  }
  EXPECT_EQ(source.Get("BoolStorage")->dtype, DType::kBool);
  EXPECT_THAT(Values(*source.Get("BoolStorage")), ElementsAre(0, 1, 0, 1, 0, 1));

  EXPECT_EQ(source.Get("transposed")->shape, Shape({3, 2}));
  EXPECT_THAT(Values(*source.Get("transposed")), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_THAT(Values(*source.Get("offset")), ElementsAre(2, 3, 4, 5));
  EXPECT_THAT(Values(*source.Get("column")), ElementsAre(1, 4));
  EXPECT_THAT(Values(*source.Get("scalar")), ElementsAre(5));
  EXPECT_EQ(source.Get("empty")->shape, Shape({0, 4}));
  EXPECT_THAT(Values(*source.Get("unit")), ElementsAre(0, 1, 2));
  EXPECT_THAT(Values(*source.Get("parameter")), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_THAT(Values(*source.Get("old")), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(source.Get("text").status().code(), StatusCode::kNotFound);
}

TEST_P(TorchBinFormsTest, EveryTruncationIsRefused) {
  const std::string whole = ReadAll(DataFile(GetParam()));
  ASSERT_TRUE(ReadTorchBinTable(AsBytes(whole)).ok());
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(ReadTorchBinTable(AsBytes(whole).first(size)).ok()) << size;
  }
}

// Whatever one damaged byte does, a table that is accepted stays inside the file.
TEST_P(TorchBinFormsTest, DamagedBytesNeverLeaveTheFile) {
  const std::string whole = ReadAll(DataFile(GetParam()));
  size_t refused = 0;
  for (size_t at = 0; at < whole.size(); ++at) {
    for (const int flip : {0x01, 0x80, 0xff}) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ flip);
      const auto table = ReadTorchBinTable(AsBytes(damaged));
      if (!table.ok()) {
        ++refused;
        continue;
      }
      for (const TensorRecord& record : *table) {
        uint64_t last = 0;  // element
        for (int axis = 0; axis < record.shape.rank(); ++axis) {
          if (!record.strides.empty()) {
            last += static_cast<uint64_t>((record.shape[axis] - 1) * record.strides[axis]);
          }
        }
        if (record.strides.empty()) {
          last = static_cast<uint64_t>(std::max<int64_t>(1, record.shape.num_elements())) - 1;
        }
        const uint64_t bytes =
            record.shape.num_elements() == 0
                ? 0
                : (last + 1) * static_cast<uint64_t>(DTypeBits(record.dtype) / 8);
        ASSERT_LE(record.begin + bytes, whole.size()) << "byte " << at;
      }
    }
  }
  EXPECT_GT(refused, whole.size() / 2);
}

INSTANTIATE_TEST_SUITE_P(All, TorchBinFormsTest,
                         ::testing::Values("all_types_zip.bin", "all_types_zip_protocol4.bin",
                                           "all_types_zip64.bin", "all_types_legacy.bin"));

TEST(TorchBinTest, HostileFilesAreRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {"calls_a_function.bin", "os.evil_function"},
      {"repeats.bin", "repeats elements"},
      {"beyond.bin", "beyond its storage"},
      {"far_beyond.bin", "beyond any storage"},
      {"no_tensors.bin", "state_dict"},
      {"compressed.bin", "compressed"},
  };
  for (const auto& [file, message] : cases) {
    const Status status = OpenTorchBin(DataFile(file)).status();
    EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << file;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message)) << file;
    EXPECT_THAT(std::string(status.message()), HasSubstr(file));
  }
}

TEST(TorchBinTest, OtherFilesAreNotMistaken) {
  for (const char* contents : {"", "PK", "PK\x05\x06", "\x80\x02}.", "hello", "\x80\x02\x8a"}) {
    EXPECT_FALSE(ReadTorchBinTable(AsBytes(contents)).ok());
  }
}

TEST(TorchBinTest, ModelFolderAndIndex) {
  TestFolder folder;
  folder.Put("pytorch_model.bin", ReadAll(DataFile("all_types_zip.bin")));
  EXPECT_TRUE((*OpenHfWeights(folder.path()))->Has("FloatStorage"));
  TestFolder sharded;
  sharded.Put("a.bin", ReadAll(DataFile("all_types_zip.bin")));
  sharded.Put("pytorch_model.bin.index.json", R"({"weight_map":{"offset":"a.bin"}})");
  auto source = OpenHfWeights(sharded.path());
  ASSERT_TRUE(source.ok()) << source.status().ToString();
  EXPECT_THAT((*source)->Names(), ElementsAre("offset"));
  TestFolder empty;
  EXPECT_EQ(OpenHfWeights(empty.path()).status().code(), StatusCode::kNotFound);
}

struct HostilePickle {
  std::string bytes;
  const char* message;
};

TEST(PickleTest, EverythingElseIsRefused) {
  const HostilePickle cases[] = {
      {std::string("\x80\x02"), "truncated"},
      {std::string("\x80\x09."), "protocol"},
      {".", "underflow"},
      {"(.", "underflow"},
      {"t.", "no mark"},
      {"u.", "no mark"},
      {"a.", "underflow"},
      {"NNa.", "does not take"},
      {"}(Nu.", "does not take"},
      {"h\x05.", "never stored"},
      {"q\x05.", "underflow"},
      {"R.", "underflow"},
      {"NNR.", "known function"},
      {"NQ.", "persistent id"},
      {"N)b.", "OrderedDict"},
      {"cos\nsystem\n.", "os.system"},
      {"cbuiltins\neval\n.", "builtins.eval"},
      {"ctorch\nFloatStorage\n)R.", "cannot be called"},
      {"ctorch._utils\n_rebuild_tensor_v2\n)R.", "not rebuilt"},
      {"ccollections\nOrderedDict\nK\x01\x85R.", "pairs"},
      {std::string("X\xff\xff\xff\xff") + "x.", "truncated"},
      {"I1\n.", "opcode 0x49"},
      {"i__main__\nX\n.", "opcode 0x69"},
      {"\x81.", "opcode 0x81"},
      {"\x8a\x09xxxxxxxxx.", "too large"},
      {"cno newline", "truncated"},
  };
  for (const HostilePickle& hostile : cases) {
    const Status status = ReadPickle(hostile.bytes).status();
    ASSERT_FALSE(status.ok()) << hostile.message;
    EXPECT_THAT(std::string(status.message()), HasSubstr(hostile.message));
  }
}

TEST(PickleTest, DeepNestingCostsNoStack) {
  std::string deep = "N" + std::string(1'000'000, '\x85') + ".";
  const StatusOr<Pickle> pickle = ReadPickle(deep);
  ASSERT_TRUE(pickle.ok()) << pickle.status().ToString();
  EXPECT_EQ(pickle->values.size(), 1'000'001u);
}

TEST(PickleTest, ManyValuesAreRefused) {
  const std::string text = std::string(3'000'000, 'N') + ".";
  EXPECT_THAT(std::string(ReadPickle(text).status().message()), HasSubstr("more than"));
  const std::string memo = std::string("Nq\x01") + [] {
    std::string gets;
    for (int i = 0; i < 3'000'000; ++i) gets += "h\x01";
    return gets;
  }() + ".";
  EXPECT_THAT(std::string(ReadPickle(memo).status().message()), HasSubstr("too deep"));
}

// A list of pairs stored once and passed to OrderedDict again and again must not multiply.
TEST(PickleTest, RepeatedPairsAreBounded) {
  std::string text = "](";
  for (int i = 0; i < 100'000; ++i) text += "NN\x86";
  text += "e\x85q\x01";
  for (int i = 0; i < 1000; ++i) text += "ccollections\nOrderedDict\nh\x01R";
  EXPECT_THAT(std::string(ReadPickle(text + ".").status().message()), HasSubstr("too many pairs"));
}

TEST(PickleTest, IntegersOfEveryWidth) {
  const StatusOr<Pickle> pickle =
      ReadPickle(std::string("(K\xffM\xff\xffJ\xff\xff\xff\xff\x8a\x00\x8a\x02\x00\x80"
                             "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7ft.",
                             29));
  ASSERT_TRUE(pickle.ok()) << pickle.status().ToString();
  std::vector<int64_t> numbers;
  for (const PickleId id : (*pickle)[pickle->root].items) numbers.push_back((*pickle)[id].number);
  EXPECT_THAT(numbers, ElementsAre(255, 65535, -1, 0, -32768, INT64_MAX));
}

TEST(ZipDirectoryTest, ListsMembersInPlace) {
  const std::string archive = ReadAll(DataFile("all_types_zip.bin"));
  const auto members = ReadZipDirectory(AsBytes(archive));
  ASSERT_TRUE(members.ok()) << members.status().ToString();
  ASSERT_EQ(members->size(), 13u);
  const ZipMember& order = members->front();
  EXPECT_EQ(order.name, "archive/byteorder");
  EXPECT_EQ(archive.substr(order.offset, order.num_bytes), "little");
}

}  // namespace
}  // namespace trireme

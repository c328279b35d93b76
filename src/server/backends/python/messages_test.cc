// SPDX-License-Identifier: Apache-2.0
// What a model process may send, right and wrong.
#include "server/backends/python/messages.h"

#include <gtest/gtest.h>

#include "server/backends/python/frame.h"
#include "server/backends/python/shared_buffers.h"

#include <sys/mman.h>
#include <unistd.h>

namespace trireme::server {
namespace {

std::string FrameOf(std::string_view json, std::string_view tail = "") {
  return FrameHeader(json.size(), tail.size(), false) + std::string(json) + std::string(tail);
}

TEST(FrameTest, FramesComeOutOfAnyPieces) {
  const std::string bytes = FrameOf("{}", "tail") + FrameOf("[1]") + FrameHeader(1, 0, true) + "x";
  for (size_t piece = 1; piece <= bytes.size(); ++piece) {
    FrameReader reader;
    std::vector<Frame> frames;
    for (size_t at = 0; at < bytes.size(); at += piece) {
      ASSERT_TRUE(reader.Feed(std::string_view(bytes).substr(at, piece), frames).ok());
    }
    ASSERT_EQ(frames.size(), 3u) << piece;
    EXPECT_EQ(frames[0].json, "{}");
    EXPECT_EQ(*frames[0].tail, "tail");
    EXPECT_EQ(frames[1].json, "[1]");
    EXPECT_FALSE(frames[1].has_descriptor);
    EXPECT_TRUE(frames[2].has_descriptor);
  }
}

TEST(FrameTest, BytesThatAreNoFrameAreRefusedBeforeTheyAreStored) {
  std::vector<Frame> frames;
  EXPECT_EQ(FrameReader().Feed(std::string(16, 'x'), frames).code(), StatusCode::kInvalidArgument);
  EXPECT_FALSE(FrameReader().Feed(FrameHeader(kMaxJsonBytes + 1, 0, false), frames).ok());
  EXPECT_FALSE(FrameReader().Feed(FrameHeader(2, kInlineBytes + 1, false), frames).ok());
  std::string many_descriptors = FrameHeader(0, 0, false);
  many_descriptors[12] = 2;
  EXPECT_FALSE(FrameReader().Feed(many_descriptors, frames).ok());
  EXPECT_TRUE(frames.empty());
}

TEST(MessagesTest, AResponse) {
  const auto message = ReadProcessMessage(
      R"({"type":"response","request":7,"final":true,"empty":false,"error":"no","code":2,
          "parameters":{"a":1,"b":"x","c":true,"d":0.5},"outputs":[["OUT","FP32",[2],64,8]],
          "buffer":3})");
  ASSERT_TRUE(message.ok()) << message.status().ToString();
  EXPECT_EQ(message->kind, ProcessMessage::Kind::kResponse);
  EXPECT_EQ(message->number, 7u);
  EXPECT_TRUE(message->response.is_final);
  EXPECT_EQ(message->response.error.code(), StatusCode::kNotFound);
  EXPECT_EQ(message->response.parameters.size(), 4u);
  EXPECT_EQ(std::get<int64_t>(message->response.parameters.at("a")), 1);
  ASSERT_EQ(message->rows.size(), 1u);
  EXPECT_EQ(message->rows[0].type, DataType::kFp32);
  EXPECT_EQ(message->rows[0].at, 64u);
  EXPECT_EQ(message->buffer, 3u);
}

TEST(MessagesTest, WhatIsNoMessageIsNamed) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "what is no message"},
      {"[]", "what is no message"},
      {"{}", "unknown type ''"},
      {R"({"type":7})", "unknown type ''"},
      {R"({"type":"dance"})", "unknown type 'dance'"},
      {R"({"type":"executed"})", "a bad 'batch'"},
      {R"({"type":"executed","batch":-1})", "a bad 'batch'"},
      {R"({"type":"executed","batch":1.5})", "a bad 'batch'"},
      {R"({"type":"release","buffers":[1,"2"]})", "a bad 'buffers'"},
      {R"({"type":"failed","text":[]})", "a bad 'text'"},
      {R"({"type":"response","request":1,"final":1,"empty":false,"outputs":[]})", "a bad 'final'"},
      {R"({"type":"response","request":1,"final":true,"empty":false,"outputs":[[]]})",
       "a bad 'outputs'"},
      {R"({"type":"response","request":1,"final":true,"empty":false,
           "outputs":[["OUT","FP31",[2],0,8]]})",
       "a bad 'outputs'"},
      {R"({"type":"response","request":1,"final":true,"empty":false,
           "outputs":[["OUT","FP32",[2.5],0,8]]})",
       "a bad 'outputs'"},
      {R"({"type":"response","request":1,"final":true,"empty":false,"outputs":[],
           "parameters":{"a":[]}})",
       "a bad 'parameters'"},
      {R"({"type":"infer","call":1,"decoupled":false,"model_name":"m","model_version":-1,"id":"",
           "correlation_id":-3,"flags":0,"timeout":0,"parameters":{},"inputs":[],"outputs":[]})",
       "a bad 'correlation_id'"},
  };
  for (const auto& [json, expected] : cases) {
    const auto message = ReadProcessMessage(json);
    ASSERT_FALSE(message.ok()) << json;
    EXPECT_NE(message.status().message().find(expected), std::string::npos)
        << json << " gave " << message.status().message();
  }
}

TEST(MessagesTest, TensorsMustLieInTheirBlob) {
  const std::string blob(64, '\0');
  const auto take = [&](TensorRow row) { return TensorsIn({std::move(row)}, blob, nullptr); };
  EXPECT_TRUE(take({"a", DataType::kInt32, {2, 2}, 48, 16}).ok());
  EXPECT_FALSE(take({"a", DataType::kInt32, {2, 2}, 49, 16}).ok());
  EXPECT_FALSE(take({"a", DataType::kInt32, {2, 2}, UINT64_MAX, 16}).ok());
  EXPECT_FALSE(take({"a", DataType::kInt32, {2, 2}, 0, UINT64_MAX}).ok());
  EXPECT_FALSE(take({"a", DataType::kInt32, {2, 3}, 0, 16}).ok());
  EXPECT_FALSE(take({"a", DataType::kInt32, {-1}, 0, 16}).ok());
  EXPECT_FALSE(take({"a", DataType::kInt32, {INT64_MAX, INT64_MAX}, 0, 16}).ok());
  EXPECT_TRUE(take({"a", DataType::kBytes, {4}, 0, 16}).ok());  // four empty strings
  EXPECT_FALSE(take({"a", DataType::kBytes, {1}, 0, 16}).ok());
}

TEST(MessagesTest, WhatIsSentLiesAligned) {
  OutgoingMessage message("execute");
  const Tensor first = MakeTensor("a", DataType::kUint8, {3}, "abc");
  const Tensor second = MakeTensor("b", DataType::kUint8, {0}, "");
  const Tensor third = MakeTensor("c", DataType::kUint8, {1}, "z");
  const std::vector<Tensor> tensors = {first, second, third};
  const Json rows = message.AddTensors(tensors);
  EXPECT_EQ(rows.dump(),
            R"([["a","UINT8",[3],0,3],["b","UINT8",[0],64,0],["c","UINT8",[1],64,1]])");
  ASSERT_EQ(message.blob_bytes(), 128u);
  std::string blob(128, '.');
  message.CopyBlob(blob.data());
  EXPECT_EQ(blob.substr(0, 3), "abc");
  EXPECT_EQ(blob[64], 'z');
}

TEST(SharedBuffersTest, BuffersAreUsedAgainAndGivenBack) {
  OwnBuffers buffers;
  auto first = buffers.Acquire(100);
  ASSERT_TRUE(first.ok()) << first.status().ToString();
  EXPECT_TRUE(first->announce.valid());
  auto second = buffers.Acquire(100);
  ASSERT_TRUE(second.ok());
  EXPECT_NE(first->number, second->number);
  buffers.Release(first->number);
  auto again = buffers.Acquire(200);
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->number, first->number);
  EXPECT_FALSE(again->announce.valid());
  EXPECT_TRUE(buffers.Trim().empty());
  auto large = buffers.Acquire(300 << 20);
  ASSERT_TRUE(large.ok()) << large.status().ToString();
  buffers.Release(large->number);
  buffers.Release(999);  // never made: nothing
  EXPECT_EQ(buffers.Trim(), std::vector<uint64_t>{large->number});
}

TEST(SharedBuffersTest, OnlyMemoryThatCannotShrinkIsTaken) {
  TheirBuffers theirs;
  Descriptor loose(::memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(loose.get(), 4096), 0);
  EXPECT_FALSE(theirs.Add(1, 4096, loose).ok());
  EXPECT_FALSE(theirs.Add(1, 4096, Descriptor(::dup(0))).ok());
  EXPECT_FALSE(theirs.Add(1, 4096, Descriptor()).ok());
  OwnBuffers own;
  auto lease = own.Acquire(4096);
  ASSERT_TRUE(lease.ok());
  EXPECT_FALSE(theirs.Add(1, 1ull << 40, lease->announce).ok());
  EXPECT_FALSE(theirs.Add(1, 0, lease->announce).ok());
  ASSERT_TRUE(theirs.Add(1, 4096, lease->announce).ok());
  EXPECT_FALSE(theirs.Add(1, 4096, lease->announce).ok());  // twice
  lease->data[5] = 'x';
  ASSERT_NE(theirs.Find(1), nullptr);
  EXPECT_EQ(theirs.Find(1)->data()[5], 'x');
  theirs.Forget(1);
  EXPECT_EQ(theirs.Find(1), nullptr);
}

}  // namespace
}  // namespace trireme::server

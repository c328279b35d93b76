// SPDX-License-Identifier: Apache-2.0
#include "server/batching/sequence_slots.h"

#include <gtest/gtest.h>

#include <random>

#include "base/log.h"
#include "server/batching/sequence_scheduler.h"

namespace trireme::server {
namespace {

constexpr int64_t kUs = 1000;
using Call = SequenceSlots::Call;

ModelConfig Config(SequenceBatching batching, int max_batch_size) {
  ModelConfig config;
  config.name = "m";
  config.max_batch_size = max_batch_size;
  config.inputs.push_back({.name = "x", .type = DataType::kInt32, .dims = {1}});
  config.outputs.push_back({.name = "y", .type = DataType::kInt32, .dims = {1}});
  config.sequence_batching = std::move(batching);
  return config;
}

Call MakeCall(uint64_t id, bool start, bool end, uint64_t timeout_us = 0) {
  InferRequest request;
  request.sequence_id = id;
  request.sequence_start = start;
  request.sequence_end = end;
  request.timeout_us = timeout_us;
  return std::make_shared<InferCall>(std::move(request), [](InferCall&, InferResponse&&) {});
}

class SequenceSlotsTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(SetLogLevel("error").ok()); }
  void Make(SequenceBatching batching, int max_batch_size, int num_instances = 1) {
    config_ = Config(std::move(batching), max_batch_size);
    slots_ = std::make_unique<SequenceSlots>(config_, num_instances);
  }
  Call Push(uint64_t id, bool start, bool end, int64_t now_us = 0, uint64_t timeout_us = 0) {
    const Call call = MakeCall(id, start, end, timeout_us);
    const Status status = slots_->Push(call, now_us * kUs);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return call;
  }
  // Ids by slot, 0 where there is none.
  std::vector<uint64_t> Take(int instance = 0, int64_t now_us = 0) {
    last_ = slots_->Take(instance, now_us * kUs);
    std::vector<uint64_t> ids;
    for (const Call& call : last_.batch) {
      ids.push_back(call == nullptr ? 0 : std::get<uint64_t>(call->request().sequence_id));
    }
    return ids;
  }
  void Finish(int64_t now_us = 0) {
    for (const Call& call : last_.batch) {
      if (call != nullptr) slots_->Done(*call, now_us * kUs);
    }
  }
  using Ids = std::vector<uint64_t>;

  ModelConfig config_;
  std::unique_ptr<SequenceSlots> slots_;
  SequenceSlots::Next last_;
};

TEST_F(SequenceSlotsTest, DirectKeepsASequenceInItsPlace) {
  Make({}, 3);
  Push(1, true, false);
  Push(2, true, false);
  Push(3, true, false);
  EXPECT_EQ(Take(), (Ids{1, 2, 3}));
  Push(2, false, false);
  EXPECT_EQ(Take(), Ids{}) << "one request of a sequence runs at a time";
  Finish();
  Finish();
  last_ = {};
  slots_->Done(*MakeCall(9, true, true), 0);  // never known: nothing
}

TEST_F(SequenceSlotsTest, DirectFillsThePlacesBelow) {
  Make({}, 3);
  for (const uint64_t id : {1, 2, 3}) Push(id, true, false);
  EXPECT_EQ(Take(), (Ids{1, 2, 3}));
  Finish();
  Push(3, false, false);
  EXPECT_EQ(Take(), (Ids{0, 0, 3}));
  Finish();
  Push(1, false, true);
  EXPECT_EQ(Take(), (Ids{1}));
  Finish();
  EXPECT_EQ(slots_->num_active(), 2);
  Push(4, true, false);
  EXPECT_EQ(Take(), (Ids{4})) << "the place is free for another";
}

TEST_F(SequenceSlotsTest, TheFirstRequestSaysStart) {
  Make({}, 1);
  const Status status = slots_->Push(MakeCall(5, false, false), 0);
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("must specify the START flag"), std::string_view::npos);
  Push(5, true, true);
  EXPECT_FALSE(slots_->Push(MakeCall(5, false, false), 0).ok()) << "END has come";
}

TEST_F(SequenceSlotsTest, TheBacklogMovesUpInOrder) {
  Make({}, 0);  // one slot
  Push(1, true, true);
  Push(2, true, false);
  Push(2, false, true);
  Push(3, true, true);
  EXPECT_EQ(Take(), Ids{1});
  Finish();
  EXPECT_EQ(Take(), Ids{2});
  Finish();
  EXPECT_EQ(Take(), Ids{2});
  Finish();
  EXPECT_EQ(Take(), Ids{3});
  Finish();
  EXPECT_EQ(slots_->num_active(), 0);
}

TEST_F(SequenceSlotsTest, SequencesSpreadOverInstances) {
  Make({}, 2, 2);
  for (const uint64_t id : {1, 2, 3, 4}) Push(id, true, false);
  EXPECT_EQ(Take(0), (Ids{1, 3}));
  EXPECT_EQ(Take(1), (Ids{2, 4}));
}

TEST_F(SequenceSlotsTest, IdleSequencesEndAndTheirPlacesAreGivenOn) {
  Make({.max_idle_us = 100}, 1);
  Push(1, true, false);
  EXPECT_EQ(Take(), Ids{1});
  Finish(10);
  Push(2, true, true, 20);
  EXPECT_EQ(slots_->next_expiry_ns(), 110 * kUs);
  EXPECT_FALSE(slots_->Expire(109 * kUs).freed);
  EXPECT_TRUE(slots_->Expire(110 * kUs).freed);
  EXPECT_EQ(Take(), Ids{2});
  EXPECT_FALSE(slots_->Push(MakeCall(1, false, false), 0).ok()) << "it is forgotten";
}

TEST_F(SequenceSlotsTest, TimeoutsCountInTheBacklogOnly) {
  Make({}, 1);
  Push(1, true, false, 0, 50);
  const Call late = Push(2, true, false, 0, 50);
  const SequenceSlots::Expired expired = slots_->Expire(60 * kUs);
  ASSERT_EQ(expired.calls.size(), 1u);
  EXPECT_EQ(expired.calls[0], late);
  EXPECT_EQ(Take(), Ids{1});
}

TEST_F(SequenceSlotsTest, DirectWaitsForUtilization) {
  Make({.max_queue_delay_us = 100, .minimum_slot_utilization = 0.75}, 4);
  Push(1, true, false);
  Push(2, true, false, 10);
  EXPECT_EQ(Take(0, 20), Ids{});
  EXPECT_EQ(last_.wait_until_ns, 100 * kUs);
  Push(3, true, false, 30);
  EXPECT_EQ(Take(0, 30), (Ids{1, 2, 3}));
}

TEST_F(SequenceSlotsTest, OldestBatchesWhatHasWaitedLongest) {
  Make({.oldest = true, .max_candidate_sequences = 8}, 2);
  for (const uint64_t id : {5, 6, 7}) Push(id, true, false, static_cast<int64_t>(id));
  Push(5, false, true, 9);
  EXPECT_EQ(Take(0, 10), (Ids{5, 6}));
  Finish();
  EXPECT_EQ(Take(0, 10), (Ids{7, 5}));
}

TEST_F(SequenceSlotsTest, OldestPrefersSizesUntilTheDelayIsOver) {
  Make({.oldest = true,
        .max_queue_delay_us = 100,
        .max_candidate_sequences = 8,
        .preferred_batch_sizes = {2}},
       4);
  Push(1, true, false);
  EXPECT_EQ(Take(0, 50), Ids{});
  Push(2, true, false, 50);
  Push(3, true, false, 50);
  EXPECT_EQ(Take(0, 50), (Ids{1, 2}));
  EXPECT_EQ(Take(0, 60), Ids{});
  EXPECT_EQ(Take(0, 150), Ids{3});
}

TEST_F(SequenceSlotsTest, StatesGoFromResponseToNextRequest) {
  SequenceBatching batching;
  batching.states.push_back({.input = "in_state",
                             .output = "out_state",
                             .type = DataType::kInt32,
                             .dims = {1},
                             .initial_bytes = std::string("\7\0\0\0", 4),
                             .initial_dims = {1}});
  Make(batching, 0);
  Push(1, true, false);
  EXPECT_EQ(Take(), Ids{1});
  EXPECT_EQ(last_.batch[0]->request().FindInput("in_state")->data[0], 7);
  InferResponse response;
  response.outputs.push_back(MakeTensor("out_state", DataType::kInt32, {1}, {9, 0, 0, 0}));
  response.outputs.push_back(MakeTensor("y", DataType::kInt32, {1}, {1, 0, 0, 0}));
  slots_->TakeStates(*last_.batch[0], response);
  ASSERT_EQ(response.outputs.size(), 1u) << "a state is no output";
  Finish();
  Push(1, false, false);
  Push(1, true, true);  // begins again
  Take();
  EXPECT_EQ(last_.batch[0]->request().FindInput("in_state")->data[0], 9);
  Finish();
  Take();
  EXPECT_EQ(last_.batch[0]->request().FindInput("in_state")->data[0], 7);
}

TEST_F(SequenceSlotsTest, ControlsSayWhatARequestIs) {
  using Kind = SequenceBatching::ControlKind;
  SequenceBatching batching;
  const auto flag = [](Kind kind, const char* name) {
    return SequenceBatching::Control{kind, name, DataType::kBool, {0}, {1}};
  };
  batching.controls = {flag(Kind::kStart, "START"),
                       flag(Kind::kEnd, "END"),
                       flag(Kind::kReady, "READY"),
                       {Kind::kCorrelationId, "CORRID", DataType::kUint32, "", ""}};
  const ModelConfig config = Config(batching, 4);
  InferRequest request = MakeCall(258, true, false)->request();
  ASSERT_TRUE(AddSequenceControls(config, request).ok());
  EXPECT_EQ(request.FindInput("START")->data, std::string_view("\1", 1));
  EXPECT_EQ(request.FindInput("END")->data, std::string_view("\0", 1));
  EXPECT_EQ(request.FindInput("READY")->data, std::string_view("\1", 1));
  EXPECT_EQ(request.FindInput("CORRID")->data, std::string_view("\2\1\0\0", 4));
  EXPECT_EQ(request.FindInput("CORRID")->shape, (Dims{1, 1}));
  const InferRequest null = NullRequest(config, request);
  EXPECT_EQ(null.FindInput("READY")->data, std::string_view("\0", 1));
  EXPECT_EQ(null.FindInput("CORRID")->data, std::string_view("\0\0\0\0", 4));
  InferRequest none;
  EXPECT_EQ(AddSequenceControls(config, none).code(), StatusCode::kInvalidArgument);
  InferRequest batch = MakeCall(1, true, false)->request();
  batch.batch_size = 2;
  EXPECT_NE(AddSequenceControls(config, batch).message().find("batch-size 1"),
            std::string_view::npos);
  InferRequest named;
  named.sequence_id = "abc";
  EXPECT_NE(AddSequenceControls(config, named).message().find("wants a number"),
            std::string_view::npos);
}

// Whatever happens in whatever order, every call leaves exactly once.
TEST_F(SequenceSlotsTest, RandomOperations) {
  for (const bool oldest : {false, true}) {
    Make({.max_idle_us = 40, .oldest = oldest, .max_candidate_sequences = 3}, 2, 2);
    std::minstd_rand random(7);
    std::map<const InferCall*, int64_t> waiting;  // -> when it came
    std::vector<Call> alive;
    std::vector<Call> running;
    for (int64_t now = 1; now < 20000; ++now) {
      const uint64_t id = 1 + random() % 9;
      switch (random() % 5) {
        case 0:
        case 1: {
          const Call call = MakeCall(id, random() % 3 == 0, random() % 3 == 0, random() % 2 * 30);
          alive.push_back(call);
          if (slots_->Push(call, now * kUs).ok()) waiting[call.get()] = now;
          break;
        }
        case 2:
          for (const Call& call : slots_->Take(static_cast<int>(random() % 2), now * kUs).batch) {
            if (call == nullptr) continue;
            ASSERT_EQ(waiting.count(call.get()), 1u);
            running.push_back(call);
            waiting.erase(call.get());
          }
          break;
        case 3:
          if (!running.empty()) {
            slots_->Done(*running.back(), now * kUs);
            running.pop_back();
          } else if (!waiting.empty()) {
            ASSERT_TRUE(slots_->Remove(*waiting.begin()->first, now * kUs));
            waiting.erase(waiting.begin());
          }
          break;
        default:
          for (const Call& call : slots_->Expire(now * kUs).calls) {
            ASSERT_EQ(waiting.erase(call.get()), 1u);
          }
      }
      ASSERT_LE(slots_->num_active(), oldest ? 6 : 4);
    }
    EXPECT_EQ(slots_->TakeAll().size(), waiting.size());
  }
}

}  // namespace
}  // namespace trireme::server

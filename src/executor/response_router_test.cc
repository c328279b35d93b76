// SPDX-License-Identifier: Apache-2.0
#include "executor/response_router.h"

#include <gtest/gtest.h>

namespace trireme::executor {
namespace {

using std::chrono::milliseconds;

Response Piece(RequestId id, int sequence, TokenId token) {
  Response response;
  response.request_id = id;
  response.sequence_index = sequence;
  response.tokens = {token};
  response.log_probs = {-1.0f};
  response.cum_log_prob = static_cast<float>(-token);
  return response;
}

Response Last(RequestId id, int sequence, TokenId token) {
  Response response = Piece(id, sequence, token);
  response.is_sequence_final = true;
  response.is_final = true;
  return response;
}

// However far a reader falls behind, the number of responses is bounded and no token is lost.
TEST(ResponseRouterTest, PiecesOfASlowReaderJoin) {
  ResponseRouter router;
  router.Open(7, nullptr);
  constexpr int kPieces = 5000;
  for (int token = 0; token < kPieces; ++token) {
    router.Deliver({Piece(7, 0, token)});
    router.Deliver({Piece(7, 1, -token)});
  }
  Response end = Last(7, 1, 1);
  end.is_final = false;
  router.Deliver({std::move(end)});
  router.Deliver({Last(7, 0, kPieces)});
  EXPECT_LE(router.NumReady(7), static_cast<int>(ResponseRouter::kMaxPieces) + 2);

  std::vector<TokenId> tokens[2];
  const std::vector<Response> all = router.Await(7, milliseconds(0));
  for (const Response& response : all) {
    std::vector<TokenId>& to = tokens[response.sequence_index];
    to.insert(to.end(), response.tokens.begin(), response.tokens.end());
    EXPECT_EQ(response.tokens.size(), response.log_probs.size());
  }
  EXPECT_TRUE(all.back().is_final);
  ASSERT_EQ(tokens[0].size(), kPieces + 1u);
  ASSERT_EQ(tokens[1].size(), kPieces + 1u);
  for (int i = 0; i <= kPieces; ++i) EXPECT_EQ(tokens[0][i], i);
  EXPECT_TRUE(router.Await(7, milliseconds(0)).empty());
}

TEST(ResponseRouterTest, FullWhenTooMuchLiesUnread) {
  ResponseRouter router;
  for (RequestId id = 1; id <= ResponseRouter::kMaxUnreadRequests; ++id) {
    EXPECT_FALSE(router.IsFull());
    router.Open(id, nullptr);
    router.Deliver({Last(id, 0, 1)});
  }
  EXPECT_TRUE(router.IsFull());
  EXPECT_EQ(router.Await(1, milliseconds(0)).size(), 1u);
  EXPECT_FALSE(router.IsFull());
  EXPECT_EQ(router.Await(std::nullopt, milliseconds(0)).size(),
            ResponseRouter::kMaxUnreadRequests - 1u);
  EXPECT_FALSE(router.IsFull());
}

}  // namespace
}  // namespace trireme::executor

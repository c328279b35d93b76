// SPDX-License-Identifier: Apache-2.0
// Ensembles over HTTP: wiring, optional and absent tensors, decoupled steps, errors, cancellation.
#include <gtest/gtest.h>

#include <thread>

#include "base/log.h"
#include "server/server.h"
#include "server/testing/http_client.h"
#include "server/testing/repository_fixture.h"

namespace trireme::server {
namespace {

using nlohmann::json;
using testing::Get;
using testing::Post;
using testing::Reply;

std::string Step(const std::string& model, const std::string& inputs, const std::string& outputs) {
  std::string text = "{ model_name: '" + model + "' model_version: -1 ";
  const auto maps = [&](const char* field, const std::string& pairs) {
    // "a>b c>d"
    for (size_t at = 0; at < pairs.size();) {
      const size_t end = std::min(pairs.find(' ', at), pairs.size());
      const std::string pair = pairs.substr(at, end - at);
      const size_t arrow = pair.find('>');
      text += fmt::format("{} {{ key: '{}' value: '{}' }} ", field, pair.substr(0, arrow),
                          pair.substr(arrow + 1));
      at = end + 1;
    }
  };
  maps("input_map", inputs);
  maps("output_map", outputs);
  return text + "}";
}

std::string Ensemble(const std::string& tensors, const std::vector<std::string>& steps,
                     const std::string& more = "") {
  std::string text =
      "platform: 'ensemble' " + tensors + " ensemble_scheduling { " + more + " step [";
  for (size_t i = 0; i < steps.size(); ++i) text += (i > 0 ? ", " : "") + steps[i];
  return text + "] }";
}

std::string Tensor(const std::string& kind, const std::string& name, const std::string& type,
                   const std::string& dims, const std::string& more = "") {
  return fmt::format("{} {{ name: '{}' data_type: TYPE_{} dims: {} {} }} ", kind, name, type, dims,
                     more);
}

class EnsembleTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(SetLogLevel("off").ok()); }
  void TearDown() override { ASSERT_TRUE(SetLogLevel("error").ok()); }

  Status Start() {
    repository_.Add("simple", testing::SimpleConfig());
    repository_.Add("identity", testing::IdentityConfig("TYPE_INT32"));
    repository_.Add("maybe", "backend: 'identity' " +
                                 Tensor("input", "A", "INT32", "[-1]", "optional: true") +
                                 Tensor("input", "B", "INT32", "[-1]", "optional: true") +
                                 Tensor("output", "C", "INT32", "[-1]") +
                                 Tensor("output", "D", "INT32", "[-1]"));
    repository_.Add("repeat", testing::RepeatConfig());
    repository_.Add("slow", testing::IdentityConfig("TYPE_INT32", "[-1]",
                                                    "parameters { key: 'execute_delay_ms' "
                                                    "value { string_value: '300' } }"));
    ServerConfig config;
    config.http.port = 0;
    config.allow_metrics = false;
    config.allow_grpc = false;
    config.core.repository.paths = {repository_.path()};
    auto server = Server::Start(config, nullptr);
    EXPECT_TRUE(server.ok()) << server.status().ToString();
    server_ = std::move(*server);
    return server_->WaitUntilLoaded();
  }
  Reply Generate(const std::string& model, const std::string& body,
                 const std::string& how = "generate") {
    return Post(server_->http_port(), "/v2/models/" + model + "/" + how, body);
  }

  testing::TestRepository repository_;
  std::unique_ptr<Server> server_;
};

TEST_F(EnsembleTest, StepsAreWiredByName) {
  // (a + b) + a and (a - b) + a, each in its own order of declaration.
  repository_.Add(
      "both",
      Ensemble("max_batch_size: 4 " + Tensor("input", "a", "INT32", "[16]") +
                   Tensor("input", "b", "INT32", "[16]") + Tensor("output", "x", "INT32", "[16]") +
                   Tensor("output", "y", "INT32", "[16]"),
               {Step("simple", "INPUT0>sum INPUT1>a", "OUTPUT0>x"),
                Step("simple", "INPUT0>difference INPUT1>a", "OUTPUT0>y"),
                Step("simple", "INPUT0>a INPUT1>b", "OUTPUT0>sum OUTPUT1>difference")}));
  ASSERT_TRUE(Start().ok());
  json body = {{"a", std::vector<int>(16, 5)}, {"b", std::vector<int>(16, 3)}};
  const json reply = Generate("both", body.dump()).Json();
  EXPECT_EQ(reply["x"][15], 13) << reply.dump();
  EXPECT_EQ(reply["y"][0], 7);
  // Only what the wanted outputs need runs.
  const auto executions = [&] {
    return Get(server_->http_port(), "/v2/models/simple/stats")
        .Json()["model_stats"][0]["execution_count"]
        .get<int>();
  };
  const int before = executions();
  const auto input = [](const char* name) {
    return json{{"name", name},
                {"datatype", "INT32"},
                {"shape", {1, 16}},
                {"data", std::vector<int>(16, 1)}};
  };
  const Reply one =
      Post(server_->http_port(), "/v2/models/both/infer",
           json{{"inputs", {input("a"), input("b")}}, {"outputs", {{{"name", "x"}}}}}.dump());
  EXPECT_EQ(one.Json()["outputs"].size(), 1u) << one.body;
  EXPECT_EQ(one.Json()["outputs"][0]["data"][0], 3);
  EXPECT_EQ(executions(), before + 2);
}

TEST_F(EnsembleTest, AStepThatBatchesGetsABatchOfOne) {
  repository_.Add("flat", Ensemble(Tensor("input", "a", "INT32", "[16]") +
                                       Tensor("output", "x", "INT32", "[16]"),
                                   {Step("simple", "INPUT0>a INPUT1>a", "OUTPUT0>x")}));
  ASSERT_TRUE(Start().ok());
  const json body = {{"inputs",
                      {{{"name", "a"},
                        {"datatype", "INT32"},
                        {"shape", {16}},
                        {"data", std::vector<int>(16, 4)}}}}};
  const Reply reply = Post(server_->http_port(), "/v2/models/flat/infer", body.dump());
  EXPECT_EQ(reply.Json()["outputs"][0]["shape"], json({16})) << reply.body;
  EXPECT_EQ(reply.Json()["outputs"][0]["data"][0], 8);
}

TEST_F(EnsembleTest, OptionalTensorsStayAbsent) {
  const std::string tensors = Tensor("input", "a", "INT32", "[-1]", "optional: true") +
                              Tensor("input", "b", "INT32", "[-1]", "optional: true") +
                              Tensor("output", "x", "INT32", "[-1]") +
                              Tensor("output", "y", "INT32", "[-1]");
  repository_.Add("optional", Ensemble(tensors, {Step("maybe", "A>a B>b", "C>c D>d"),
                                                 Step("maybe", "A>c B>d", "C>x D>y")}));
  repository_.Add("stuck", Ensemble(Tensor("input", "a", "INT32", "[-1]", "optional: true") +
                                        Tensor("input", "b", "INT32", "[-1]", "optional: true") +
                                        Tensor("output", "x", "INT32", "[-1]"),
                                    {Step("maybe", "A>a B>b", "C>c D>d"),
                                     Step("identity", "INPUT0>d", "OUTPUT0>x")}));
  ASSERT_TRUE(Start().ok());
  const json reply = Generate("optional", R"({"b": [1, 2]})").Json();
  EXPECT_FALSE(reply.contains("x")) << reply.dump();
  EXPECT_EQ(reply["y"], json({1, 2}));
  EXPECT_EQ(Generate("optional", R"({"b": []})").Json()["y"], json::array());
  const Reply stuck = Generate("stuck", R"({"a": [1]})");
  EXPECT_NE(stuck.status, 200);
  EXPECT_NE(stuck.Error().find("in ensemble 'stuck'"), std::string::npos) << stuck.body;
}

TEST_F(EnsembleTest, DecoupledStepsBeginIterationsThatKeepTheirOrder) {
  repository_.Add("stream", Ensemble(Tensor("input", "in", "INT32", "[-1]") +
                                         Tensor("input", "delay", "UINT32", "[-1]") +
                                         Tensor("output", "out", "INT32", "[-1]") +
                                         Tensor("output", "first", "INT32", "[-1]"),
                                     {Step("repeat", "IN>copied DELAY>delay", "OUT>value"),
                                      Step("identity", "INPUT0>in", "OUTPUT0>copied"),
                                      Step("identity", "INPUT0>value", "OUTPUT0>out"),
                                      Step("identity", "INPUT0>copied", "OUTPUT0>first")},
                                     "max_inflight_requests: 1"));
  ASSERT_TRUE(Start().ok());
  EXPECT_EQ(Get(server_->http_port(), "/v2/models/stream/config")
                .Json()["model_transaction_policy"]["decoupled"],
            true);
  const Reply reply =
      Generate("stream", R"({"in": [5, 6, 7], "delay": [0, 0, 0]})", "generate_stream");
  const size_t five = reply.body.find("\"out\":5");
  const size_t six = reply.body.find("\"out\":6");
  const size_t seven = reply.body.find("\"out\":7");
  EXPECT_LT(five, six) << reply.body;
  EXPECT_LT(six, seven) << reply.body;
  ASSERT_NE(seven, std::string::npos) << reply.body;
  // What no decoupled step made is the same in every iteration.
  EXPECT_NE(reply.body.find("\"first\":[5,6,7]", seven - 60), std::string::npos) << reply.body;
  EXPECT_EQ(Generate("stream", R"({"in": [9], "delay": [0]})").Json()["out"], 9);
  EXPECT_EQ(Generate("stream", R"({"in": [], "delay": []})", "generate_stream").status, 200);
}

TEST_F(EnsembleTest, AStepsErrorEndsTheRequest) {
  repository_.Add("bad", Ensemble(Tensor("input", "in", "INT32", "[-1]") +
                                      Tensor("input", "delay", "UINT32", "[-1]") +
                                      Tensor("output", "out", "INT32", "[-1]"),
                                  {Step("repeat", "IN>in DELAY>delay", "OUT>out")}));
  ASSERT_TRUE(Start().ok());
  const Reply reply = Generate("bad", R"({"in": [1, 2], "delay": [0]})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_NE(reply.Error().find("in ensemble 'bad'"), std::string::npos);
}

TEST_F(EnsembleTest, ACancelledEnsembleStartsNothingMore) {
  repository_.Add(
      "chain",
      Ensemble(Tensor("input", "a", "INT32", "[-1]") + Tensor("output", "x", "INT32", "[-1]"),
               {Step("slow", "INPUT0>a", "OUTPUT0>b"), Step("identity", "INPUT0>b", "OUTPUT0>x")}));
  ASSERT_TRUE(Start().ok());
  {
    testing::Client client(server_->http_port());
    client.Send(
        "POST /v2/models/chain/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        "{\"a\": [1]}");
    const auto slow = server_->core().FindModel("slow", -1);
    ASSERT_TRUE(slow.ok());
    for (int i = 0; i < 2000 && (*slow)->num_in_flight() == 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ((*slow)->num_in_flight(), 1);
  }
  for (int i = 0; i < 5000 && server_->core().repository().num_in_flight() > 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(server_->core().repository().num_in_flight(), 0);
  const auto identity = server_->core().FindModel("identity", -1);
  EXPECT_EQ((*identity)->Statistics().execution_count, 0u);
}

TEST_F(EnsembleTest, WhatDoesNotFitIsNamedWhenLoading) {
  const std::string in = Tensor("input", "a", "INT32", "[-1]");
  const std::string out = Tensor("output", "x", "INT32", "[-1]");
  const std::pair<const char*, std::string> cases[] = {
      {"no_model", Ensemble(in + out, {Step("nobody", "A>a", "B>x")})},
      {"no_tensor", Ensemble(in + out, {Step("identity", "NONE>a", "OUTPUT0>x")})},
      {"no_source", Ensemble(in + out, {Step("identity", "INPUT0>b", "OUTPUT0>x")})},
      {"no_output", Ensemble(in + out, {Step("identity", "INPUT0>a", "OUTPUT0>y")})},
      {"other_type", Ensemble(Tensor("input", "a", "FP32", "[-1]") + out,
                              {Step("identity", "INPUT0>a", "OUTPUT0>x")})},
      {"made_twice", Ensemble(in + out, {Step("identity", "INPUT0>a", "OUTPUT0>x"),
                                         Step("identity", "INPUT0>a", "OUTPUT0>x")})},
      {"cycle", Ensemble(in + out, {Step("identity", "INPUT0>y", "OUTPUT0>x"),
                                    Step("identity", "INPUT0>x", "OUTPUT0>y")})},
      {"self", Ensemble(in + out, {Step("self", "a>a", "x>x")})},
      {"unmapped", Ensemble(in + out, {Step("simple", "INPUT0>a", "OUTPUT0>x")})},
  };
  for (const auto& [name, config] : cases) repository_.Add(name, config);
  EXPECT_FALSE(Start().ok());
  for (const auto& [name, config] : cases) {
    EXPECT_NE(Get(server_->http_port(), std::string("/v2/models/") + name + "/ready").status, 200)
        << name;
  }
  EXPECT_EQ(Get(server_->http_port(), "/v2/models/identity/ready").status, 200);
}

}  // namespace
}  // namespace trireme::server

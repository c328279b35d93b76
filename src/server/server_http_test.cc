// SPDX-License-Identifier: Apache-2.0
// Every HTTP route over real sockets, against the native test backends.
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "base/log.h"
#include "server/frontends/compression.h"
#include "server/server.h"
#include "server/testing/http_client.h"
#include "server/testing/repository_fixture.h"

namespace trireme::server {
namespace {

using nlohmann::json;
using testing::Ask;
using testing::Get;
using testing::Post;
using testing::Reply;

class HttpTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(SetLogLevel("error").ok());
    repository_ = new testing::TestRepository();
    repository_->Add("simple", testing::SimpleConfig());
    repository_->Add("repeat", testing::RepeatConfig());
    repository_->Add("strings", testing::IdentityConfig("TYPE_STRING", "[1]"));
    repository_->Add("bytes", testing::IdentityConfig("TYPE_UINT8"));
    repository_->Add("many", testing::IdentityConfig("TYPE_INT32", "[-1]"), "1");
    repository_->Add(
        "many", testing::IdentityConfig("TYPE_INT32", "[-1]", "version_policy { all {} }"), "3");
    repository_->Add("slow", testing::IdentityConfig("TYPE_INT32", "[1]",
                                                     "max_batch_size: 8 dynamic_batching {} "
                                                     "parameters { key: 'execute_delay_ms' "
                                                     "value { string_value: '20' } }"));
    repository_->Add("queue", testing::IdentityConfig("TYPE_INT32", "[1]",
                                                      "parameters { key: 'execute_delay_ms' "
                                                      "value { string_value: '300' } }"));
    repository_->Add("endless", testing::IdentityConfig("TYPE_INT32", "[1]",
                                                        "parameters { key: 'execute_delay_ms' "
                                                        "value { string_value: '60000' } }"));
    for (const char* type : {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16",
                             "INT32", "INT64", "FP16", "FP32", "FP64", "BF16"}) {
      repository_->Add(fmt::format("identity_{}", type),
                       testing::IdentityConfig(fmt::format("TYPE_{}", type)));
    }
    repository_->Add("labels",
                     "backend: 'identity' input { name: 'INPUT0' data_type: TYPE_FP32 dims: [4] } "
                     "output { name: 'OUTPUT0' data_type: TYPE_FP32 dims: [4] "
                     "label_filename: 'labels.txt' }");
    repository_->Write("labels/labels.txt", "cat\ndog\n");
    ServerConfig config;
    config.http.port = 0;
    config.grpc.port = 0;
    config.http.max_body_bytes = 1 << 20;
    config.metrics.port = 0;
    config.core.repository.paths = {repository_->path()};
    auto server = Server::Start(config, nullptr);
    ASSERT_TRUE(server.ok()) << server.status().ToString();
    server_ = server->release();
    const Status loaded = server_->WaitUntilLoaded();
    ASSERT_TRUE(loaded.ok()) << loaded.ToString();
  }
  static void TearDownTestSuite() {
    delete server_;
    delete repository_;
  }
  static int port() { return server_->http_port(); }
  static Reply Infer(const std::string& model, const json& body) {
    return Post(port(), "/v2/models/" + model + "/infer", body.dump());
  }

  static testing::TestRepository* repository_;
  static Server* server_;
};
testing::TestRepository* HttpTest::repository_ = nullptr;
Server* HttpTest::server_ = nullptr;

json Input(const std::string& name, const std::string& type, const json& shape, const json& data) {
  return {{"name", name}, {"datatype", type}, {"shape", shape}, {"data", data}};
}

json SimpleBody() {
  std::vector<int> a(16), b(16, 1);
  for (int i = 0; i < 16; ++i) a[i] = i;
  return {{"inputs", {Input("INPUT0", "INT32", {1, 16}, a), Input("INPUT1", "INT32", {1, 16}, b)}}};
}

TEST_F(HttpTest, HealthAndMetadata) {
  EXPECT_EQ(Get(port(), "/v2/health/live").status, 200);
  EXPECT_EQ(Get(port(), "/v2/health/ready").status, 200);
  EXPECT_EQ(Get(port(), "/v2/health/ready").body, "");
  const json server = Get(port(), "/v2").Json();
  EXPECT_EQ(server["name"], "triton");
  EXPECT_NE(server["extensions"].dump().find("binary_tensor_data"), std::string::npos);
  const json model = Get(port(), "/v2/models/simple").Json();
  EXPECT_EQ(model["platform"], "add_sub");
  EXPECT_EQ(model["versions"], json({"1"}));
  EXPECT_EQ(model["inputs"][0]["shape"], json({-1, 16}));
  EXPECT_EQ(Get(port(), "/v2/models/many").Json()["versions"], json({"1", "3"}));
  EXPECT_EQ(Get(port(), "/v2/models/many/versions/3/ready").status, 200);
  EXPECT_EQ(Get(port(), "/v2/models/simple/config").Json()["max_batch_size"], 8);
  EXPECT_EQ(Get(port(), "/v2/models/simple/config").Json()["instance_group"][0]["name"],
            "simple_0");
}

TEST_F(HttpTest, RoutesThatAreNotThere) {
  for (const char* path : {"/", "/v2/", "/v2/nothing", "/v2/health", "/v2/models/simple/nothing",
                           "/v2/models/simple/versions/x", "/v2/models/simple/infer/more"}) {
    EXPECT_EQ(Get(port(), path).Error(), "Not Found") << path;
    EXPECT_EQ(Get(port(), path).status, 404) << path;
  }
  EXPECT_EQ(Get(port(), "/v2/models/simple/infer").status, 405);
  EXPECT_EQ(Post(port(), "/v2/models/simple", "").Error(), "Method Not Allowed");
  EXPECT_EQ(Get(port(), "/v2/models/nobody").Error(),
            "Request for unknown model: 'nobody' is not found");
  EXPECT_EQ(Get(port(), "/v2/models/simple/versions/7").Error(),
            "Request for unknown model: 'simple' version 7 is not found");
  EXPECT_EQ(Get(port(), "/v2/models/nobody/stats").status, 400);
}

TEST_F(HttpTest, InferWithJson) {
  json body = SimpleBody();
  body["id"] = "7";
  const Reply reply = Infer("simple", body);
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_TRUE(reply.HasHeader("Content-Type: application/json"));
  EXPECT_EQ(reply.body.find(R"({"id":"7","model_name":"simple","model_version":"1","outputs":)"),
            0u);
  const json outputs = reply.Json()["outputs"];
  ASSERT_EQ(outputs.size(), 2u);
  EXPECT_EQ(outputs[0]["data"][15], 16);
  EXPECT_EQ(outputs[1]["data"][0], -1);
  EXPECT_EQ(outputs[1]["shape"], json({1, 16}));
  body["outputs"] = {{{"name", "OUTPUT1"}}};
  EXPECT_EQ(Infer("simple", body).Json()["outputs"].size(), 1u);
}

TEST_F(HttpTest, EveryDatatypeTravelsAsJsonAndComesBack) {
  const struct {
    const char* type;
    json data;
  } kCases[] = {
      {"BOOL", {true, false}},
      {"UINT8", {0, 255}},
      {"UINT16", {0, 65535}},
      {"UINT32", {0, 4294967295u}},
      {"UINT64", {0, UINT64_MAX}},
      {"INT8", {-128, 127}},
      {"INT16", {-32768, 32767}},
      {"INT32", {INT32_MIN, INT32_MAX}},
      {"INT64", {INT64_MIN, 5}},
      {"FP16", {0.5, -2.0}},
      {"FP32", {0.100000001490116, 3.0}},
      {"FP64", {0.1, 1e300}},
      {"BF16", {1.5, -256.0}},
  };
  for (const auto& c : kCases) {
    const Reply reply = Infer(fmt::format("identity_{}", c.type),
                              {{"inputs", {Input("INPUT0", c.type, {2}, c.data)}}});
    ASSERT_EQ(reply.status, 200) << c.type << " " << reply.body;
    const json output = reply.Json()["outputs"][0];
    EXPECT_EQ(output["datatype"], c.type);
    for (int i = 0; i < 2; ++i) {
      if (c.data[i].is_number_float()) {
        EXPECT_FLOAT_EQ(output["data"][i].get<float>(), c.data[i].get<float>()) << c.type;
      } else {
        EXPECT_EQ(output["data"][i], c.data[i]) << c.type;
      }
    }
  }
  const Reply strings =
      Infer("strings", {{"inputs", {Input("INPUT0", "BYTES", {1}, {"h\xC3\xA4\n"})}}});
  EXPECT_EQ(strings.Json()["outputs"][0]["data"][0], "h\xC3\xA4\n");
  EXPECT_EQ(strings.Json()["parameters"]["param1"], 42);
}

TEST_F(HttpTest, BinaryTensorsBothWays) {
  std::string values(64, '\0');
  for (int32_t i = 0; i < 16; ++i) std::memcpy(values.data() + 4 * i, &i, 4);
  const auto input = [](const char* name) {
    return json{{"name", name},
                {"datatype", "INT32"},
                {"shape", {1, 16}},
                {"parameters", {{"binary_data_size", 64}}}};
  };
  json body = {{"inputs", {input("INPUT0"), input("INPUT1")}},
               {"parameters", {{"binary_data_output", true}}}};
  const auto ask = [&](const std::string& bytes) {
    const std::string text = body.dump();
    return Post(port(), "/v2/models/simple/infer", text + bytes,
                {{"Inference-Header-Content-Length", std::to_string(text.size())}});
  };
  const Reply reply = ask(values + values);
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_TRUE(reply.HasHeader("application/octet-stream"));
  const size_t at = reply.head.find("Inference-Header-Content-Length: ");
  ASSERT_NE(at, std::string::npos);
  const size_t length = std::strtoul(reply.head.c_str() + at + 33, nullptr, 10);
  ASSERT_EQ(reply.body.size(), length + 128);
  const json head = json::parse(reply.body.substr(0, length));
  EXPECT_EQ(head["outputs"][0]["parameters"]["binary_data_size"], 64);
  int32_t last = 0;
  std::memcpy(&last, reply.body.data() + length + 60, 4);
  EXPECT_EQ(last, 30);

  EXPECT_NE(ask(values).Error().find("unexpected size for input"), std::string::npos);
  EXPECT_NE(ask(values + values + "x").Error().find("unexpected additional input data"),
            std::string::npos);
  // Mixed: one output as bytes, one as JSON.
  body.erase("parameters");
  body["outputs"] = {{{"name", "OUTPUT0"}},
                     {{"name", "OUTPUT1"}, {"parameters", {{"binary_data", true}}}}};
  const Reply mixed = ask(values + values);
  EXPECT_NE(mixed.body.find("\"data\":[0,2,4"), std::string::npos);
  EXPECT_TRUE(mixed.HasHeader("application/octet-stream"));
}

TEST_F(HttpTest, TheSizeLimitIsForJsonAndNotForBinaryTensors) {
  const std::string large(3 << 20, 'x');
  const std::string text = json{{"inputs",
                                 {{{"name", "INPUT0"},
                                   {"datatype", "UINT8"},
                                   {"shape", {large.size()}},
                                   {"parameters", {{"binary_data_size", large.size()}}}}}},
                                {"parameters", {{"binary_data_output", true}}}}
                               .dump();
  const Reply reply = Post(port(), "/v2/models/bytes/infer", text + large,
                           {{"Inference-Header-Content-Length", std::to_string(text.size())}});
  ASSERT_EQ(reply.status, 200) << reply.body.substr(0, 200);
  EXPECT_EQ(reply.body.substr(reply.body.size() - large.size()), large);
  for (const testing::Headers& headers :
       {testing::Headers{}, testing::Headers{{"Inference-Header-Content-Length", "3000000"}}}) {
    const Reply refused = Post(port(), "/v2/models/bytes/infer", large, headers);
    EXPECT_EQ(refused.status, 400);
    EXPECT_NE(refused.Error().find("exceeds the maximum allowed input size of"), std::string::npos)
        << refused.body;
  }
}

TEST_F(HttpTest, RawRequests) {
  const auto ask = [&](const char* model, const std::string& body) {
    return Post(port(), fmt::format("/v2/models/{}/infer", model), body,
                {{"Inference-Header-Content-Length", "0"}});
  };
  const Reply reply = ask("identity_INT32", std::string(12, '\1'));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_NE(reply.body.find("\"shape\":[3]"), std::string::npos);
  EXPECT_EQ(reply.body.substr(reply.body.size() - 12), std::string(12, '\1'));
  EXPECT_NE(ask("strings", "abc").body.find("abc"), std::string::npos);
  EXPECT_NE(ask("simple", "abc").Error().find("must only have 1 input"), std::string::npos);
  EXPECT_EQ(ask("identity_INT32", "abc").status, 400);
}

TEST_F(HttpTest, BadRequestsAreRefusedByName) {
  const auto one = [](const json& input) { return json{{"inputs", {input}}}; };
  json twice = SimpleBody();
  twice["inputs"][1] = twice["inputs"][0];
  json shape = SimpleBody();
  shape["inputs"][0]["shape"] = {2, 8};
  json batch = SimpleBody();
  batch["inputs"][0]["shape"] = {9, 16};
  batch["inputs"][0]["data"] = std::vector<int>(144);
  json output = SimpleBody();
  output["outputs"] = {{{"name", "OUTPUT9"}}};
  json reserved = SimpleBody();
  reserved["parameters"] = {{"triton_x", 1}};
  json reshaped = SimpleBody();
  reshaped["inputs"][0]["shape"] = {-1, 16};
  const struct {
    const char* model;
    json body;
    int status;
    const char* names;
  } kCases[] = {
      {"simple", json::array(), 400, "object"},
      {"simple", json::object(), 400, "inputs"},
      {"simple", {{"inputs", 5}}, 400, "inputs"},
      {"simple", one(SimpleBody()["inputs"][0]), 400, "expected 2 inputs but got 1 inputs"},
      {"simple", twice, 400, "input 'INPUT0' already exists in request"},
      {"simple", shape, 400, "unexpected shape for input 'INPUT0'"},
      {"simple", reshaped, 400,
       "Unable to parse 'shape': attempt to access JSON non-unsigned-integer"},
      {"simple", batch, 400, "batch"},
      {"simple", output, 400, "unexpected inference output 'OUTPUT9'"},
      {"simple", reserved, 400, "reserved"},
      {"bytes", one(Input("INPUT0", "UINT8", {3}, {1, 2})), 400, "Shape does not match"},
      {"bytes", one(Input("INPUT0", "UINT8", {1}, {"1"})), 400, "non-unsigned-integer"},
      {"bytes", one(Input("INPUT0", "INT8", {1}, {1})), 400, "data-type is 'INT8'"},
      {"bytes", one(Input("INPUT0", "NONE", {1}, {1})), 400, "NONE"},
      {"bytes", one(Input("INPUT0", "UINT8", {INT64_MAX, 4}, {1})), 400, "maximum"},
      {"bytes", one(Input("INPUT0", "UINT8", {1 << 30}, {1})), 400,
       "exceeds the maximum allowed input size"},
      {"identity_BOOL", one(Input("INPUT0", "BOOL", {1}, {1})), 400, "non-boolean"},
      {"nobody", json::object(), 404, "nobody"},
  };
  for (const auto& c : kCases) {
    const Reply reply = Infer(c.model, c.body);
    EXPECT_EQ(reply.status, c.status) << c.body.dump() << " -> " << reply.body;
    EXPECT_NE(reply.Error().find(c.names), std::string::npos)
        << c.body.dump() << " -> " << reply.body;
    EXPECT_EQ(reply.Json().size(), 1u);
  }
  const std::string deep = "{\"inputs\":" + std::string(500, '[');
  EXPECT_NE(Post(port(), "/v2/models/simple/infer", deep).Error().find("nesting depth"),
            std::string::npos);
  for (const char* length : {"-1", "x", "99999"}) {
    EXPECT_EQ(
        Post(port(), "/v2/models/simple/infer", "{}", {{"Inference-Header-Content-Length", length}})
            .status,
        400);
  }
}

TEST_F(HttpTest, CompressionBothWays) {
  for (const Encoding encoding : {Encoding::kGzip, Encoding::kDeflate}) {
    const std::string name(EncodingName(encoding));
    const Reply reply =
        Post(port(), "/v2/models/simple/infer", Compress(SimpleBody().dump(), encoding),
             {{"Content-Encoding", name}, {"Accept-Encoding", "identity;q=0.1, " + name}});
    ASSERT_EQ(reply.status, 200) << reply.body;
    EXPECT_TRUE(reply.HasHeader("Content-Encoding: " + name));
    const auto plain = Decompress(reply.body, encoding, 1 << 20);
    ASSERT_TRUE(plain.ok());
    EXPECT_EQ(json::parse(*plain)["outputs"].size(), 2u);
  }
  const Reply unknown = Post(port(), "/v2/models/simple/infer", "{}", {{"Content-Encoding", "br"}});
  EXPECT_EQ(unknown.status, 501);
  EXPECT_TRUE(unknown.HasHeader("Accept-Encoding: gzip, deflate"));
  EXPECT_EQ(Post(port(), "/v2/models/simple/infer", "{}", {{"Content-Encoding", "gzip"}}).status,
            400);
  // A small body that would fill memory.
  const std::string bomb = Compress(std::string(8 << 20, ' '), Encoding::kGzip);
  EXPECT_NE(Post(port(), "/v2/models/simple/infer", bomb, {{"Content-Encoding", "gzip"}})
                .Error()
                .find("exceeds the maximum allowed input size"),
            std::string::npos);
}

TEST_F(HttpTest, Classification) {
  json body = {{"inputs", {Input("INPUT0", "FP32", {4}, {0.5, 2.0, 2.0, -1.0})}},
               {"outputs", {{{"name", "OUTPUT0"}, {"parameters", {{"classification", 3}}}}}}};
  const Reply reply = Infer("labels", body);
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json output = reply.Json()["outputs"][0];
  EXPECT_EQ(output["datatype"], "BYTES");
  EXPECT_EQ(output["shape"], json({3}));
  EXPECT_EQ(output["data"], json({"2.000000:1:dog", "2.000000:2", "0.500000:0:cat"}));
}

TEST_F(HttpTest, GenerateOverAnyModel) {
  const auto ask = [](const std::string& model, const std::string& body,
                      const std::string& how = "generate") {
    return Post(port(), "/v2/models/" + model + "/" + how, body);
  };
  const Reply reply = ask("bytes", R"({"id": "a", "INPUT0": [1, 2, 3], "other": "text"})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.body, R"({"OUTPUT0":[1,2,3],"id":"a","model_name":"bytes","model_version":"1",)"
                        R"("param0":"an example string parameter","param1":42,"param2":false,)"
                        R"("param3":123.123})");
  EXPECT_EQ(ask("bytes", R"({"parameters": {"INPUT0": 5}})").Json()["OUTPUT0"], 5);
  EXPECT_EQ(ask("bytes", R"({"INPUT0": []})").Json()["OUTPUT0"], json::array());
  EXPECT_EQ(ask("bytes", R"({"INPUT0": 1, "parameters": {"INPUT0": 2}})").Error(),
            "input 'INPUT0' already exists in request");
  EXPECT_EQ(ask("simple", R"({"INPUT0": [1, 2], "INPUT1": 1})").Error(),
            "The schema can not convert input 'INPUT0' to tensor with proper shape");
  EXPECT_EQ(ask("bytes", R"({"INPUT0": "x"})").status, 400);
  EXPECT_EQ(ask("bytes", R"({"INPUT0": 1, "o": {}})").status, 400);
  EXPECT_EQ(ask("repeat", R"({"IN": [4], "DELAY": [0]})").Json()["OUT"], 4);
  EXPECT_NE(ask("repeat", R"({"IN": [4, 5], "DELAY": [0, 0]})").Error().find("exactly 1 response"),
            std::string::npos);

  const Reply stream = ask("repeat", R"({"IN": [4, 5], "DELAY": [0, 1]})", "generate_stream");
  EXPECT_TRUE(stream.HasHeader("text/event-stream; charset=utf-8"));
  EXPECT_NE(stream.body.find(R"(data: {"IDX":0,"OUT":4,"model_name":"repeat","model_version":"1"})"
                             "\n\n"),
            std::string::npos);
  EXPECT_NE(stream.body.find(R"("IDX":1,"OUT":5)"), std::string::npos);
  EXPECT_EQ(ask("repeat", R"({"IN": [], "DELAY": []})", "generate_stream").status, 200);
  const Reply failed = ask("repeat", R"({"IN": [1], "DELAY": []})", "generate_stream");
  EXPECT_EQ(failed.status, 400);
  EXPECT_NE(failed.body.find("data: {\"error\":"), std::string::npos);
}

TEST_F(HttpTest, DecoupledModelsAnswerInferWithOneResponse) {
  const auto ask = [](const json& in) {
    return Infer("repeat",
                 {{"inputs",
                   {Input("IN", "INT32", {in.size()}, in),
                    Input("DELAY", "UINT32", {in.size()}, std::vector<int>(in.size()))}}});
  };
  EXPECT_EQ(ask({7}).Json()["outputs"][0]["data"][0], 7);
  const Reply two = ask({7, 8});
  EXPECT_EQ(two.status, 501);
  EXPECT_NE(
      two.Error().find("HTTP end point doesn't support models with decoupled transaction policy"),
      std::string::npos);
}

TEST_F(HttpTest, StatisticsCountRequestsAndExecutions) {
  const auto stats = [] { return Get(port(), "/v2/models/slow/stats").Json()["model_stats"][0]; };
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i) {
    clients.emplace_back([] {
      EXPECT_EQ(Infer("slow", {{"inputs", {Input("INPUT0", "INT32", {1, 1}, {3})}}}).status, 200);
    });
  }
  for (std::thread& client : clients) client.join();
  const json after = stats();
  EXPECT_EQ(after["inference_count"], 8);
  EXPECT_LT(after["execution_count"], 8);
  EXPECT_EQ(after["inference_stats"]["success"]["count"], 8);
  EXPECT_GT(after["inference_stats"]["compute_infer"]["ns"], 0);
  EXPECT_GT(after["last_inference"], 0);
  int64_t inferences = 0;
  for (const json& batch : after["batch_stats"]) {
    inferences +=
        batch["batch_size"].get<int64_t>() * batch["compute_infer"]["count"].get<int64_t>();
  }
  EXPECT_EQ(inferences, 8);
  EXPECT_EQ(Infer("slow", {{"inputs", {Input("INPUT0", "INT32", {1, 2}, {3, 4})}}}).status, 400);
  const std::string metrics = Get(server_->metrics_port(), "/metrics").body;
  EXPECT_NE(metrics.find("nv_inference_count{model=\"slow\",version=\"1\"} 8"), std::string::npos);
  EXPECT_NE(metrics.find("nv_inference_pending_request_count{model=\"slow\",version=\"1\"} 0\n"),
            std::string::npos);
  EXPECT_GT(Get(port(), "/v2/models/stats").Json()["model_stats"].size(), 10u);
}

TEST_F(HttpTest, PendingRequestsAreCountedWhileTheyWait) {
  const std::string gauge = "nv_inference_pending_request_count{model=\"queue\",version=\"1\"} ";
  const auto pending = [&] {
    const std::string text = Get(server_->metrics_port(), "/metrics").body;
    return std::atof(text.c_str() + text.find(gauge) + gauge.size());
  };
  std::vector<std::thread> clients;
  for (int i = 0; i < 4; ++i) {
    clients.emplace_back([] {
      EXPECT_EQ(Infer("queue", {{"inputs", {Input("INPUT0", "INT32", {1}, {3})}}}).status, 200);
    });
  }
  double most = 0;
  for (int i = 0; i < 2000 && most < 1; ++i) most = std::max(most, pending());
  EXPECT_GE(most, 1);  // one runs, the others wait
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(pending(), 0);
}

TEST_F(HttpTest, AClientThatHasSaidAllIsAnswered) {
  const std::string body = R"({"INPUT0": 7})";
  for (const char* version : {"1.1", "1.0"}) {
    for (const char* model : {"queue", "identity_INT32"}) {
      testing::Client client(port());
      client.Send(fmt::format(
          "POST /v2/models/{}/generate HTTP/{}\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}", model,
          version, body.size(), body));
      client.CloseSending();
      const std::string text = client.ReceiveAll();
      EXPECT_NE(text.find(" 200 OK"), std::string::npos) << text;
      EXPECT_NE(text.find("\"OUTPUT0\":7"), std::string::npos) << text;
    }
  }
}

TEST_F(HttpTest, AClientThatHasGoneIsCancelled) {
  const auto cancelled = [] {
    const std::string series =
        "nv_inference_request_failure{model=\"endless\",reason=\"CANCELED\",version=\"1\"} ";
    const std::string text = Get(server_->metrics_port(), "/metrics").body;
    return std::atof(text.c_str() + text.find(series) + series.size());
  };
  const std::string body = R"({"INPUT0": 7})";
  const std::string request = fmt::format(
      "POST /v2/models/endless/generate HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}",
      body.size(), body);
  { testing::Client(port()).Send(request); }
  {
    testing::Client later(port());
    later.Send(request);
    later.CloseSending();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  for (int i = 0; i < 1000 && cancelled() < 2; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(cancelled(), 2);
}

TEST_F(HttpTest, LoggingTraceAndSharedMemory) {
  const json settings = Get(port(), "/v2/logging").Json();
  EXPECT_EQ(settings["log_error"], true);
  EXPECT_EQ(settings["log_info"], false);
  EXPECT_EQ(Post(port(), "/v2/logging", R"({"log_warning": true})").Json()["log_warning"], true);
  EXPECT_EQ(Post(port(), "/v2/logging", R"({"log_warning": false})").status, 200);
  EXPECT_EQ(Post(port(), "/v2/logging", R"({"log_file": "x"})").status, 501);
  EXPECT_EQ(Post(port(), "/v2/logging", R"({"log_nothing": 1})").status, 400);
  EXPECT_EQ(Get(port(), "/v2/trace/setting").status, 501);
  EXPECT_NE(Get(port(), "/v2/systemsharedmemory/status").Error().find("shared memory is disabled"),
            std::string::npos);
}

TEST_F(HttpTest, RepositoryControlIsOffUnlessExplicit) {
  const Reply load = Post(port(), "/v2/repository/models/simple/load", "");
  EXPECT_EQ(load.status, 503);
  EXPECT_EQ(load.Error(), "explicit model load / unload is not allowed if polling is enabled");
  const json index = Post(port(), "/v2/repository/index", "").Json();
  EXPECT_GT(index.size(), 10u);
  EXPECT_EQ(Post(port(), "/v2/repository/index", R"({"ready": 1})").Error(),
            "Invalid value for 'ready': expected a boolean");
  EXPECT_EQ(Post(port(), "/v2/repository/other/models/simple/load", "").status, 501);
}

}  // namespace
}  // namespace trireme::server

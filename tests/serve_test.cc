// SPDX-License-Identifier: Apache-2.0
// The server as a client sees it, over real sockets, with the demo model.
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/log.h"
#include "convert/convert.h"
#include "executor/load_testing.h"
#include "server/server.h"
#include "server/testing/http_client.h"
#include "tests/source_path.h"
#include "trireme/builder.h"

namespace trireme {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

using server::testing::Ask;
using server::testing::Client;
using server::testing::Reply;

class ServeTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(SetLogLevel("warning").ok());
    folder_ = new fs::path(fs::temp_directory_path() / fmt::format("trireme_serve_{}", ::getpid()));
    Status status = convert::Convert(
        {.model_dir = SourcePath("models/demo"), .output_dir = *folder_ / "checkpoint"}, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
    BuildOptions options;
    options.checkpoint_dir = *folder_ / "checkpoint";
    options.output_dir = *folder_ / "engine";
    options.limits.max_batch_size = 32;
    options.time_tactics = false;
    status = BuildEngine(options, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
    auto generator = Generator::Create(*folder_ / "engine", {});
    ASSERT_TRUE(generator.ok()) << generator.status().ToString();
    executor_ = &(*generator)->executor();
    server::ServerConfig config;
    config.http.port = 0;
    config.grpc.port = 0;
    config.http.max_body_bytes = 64 << 10;
    config.metrics.port = 0;
    auto server = server::Server::Start(config, std::move(*generator));
    ASSERT_TRUE(server.ok()) << server.status().ToString();
    server_ = server->release();
  }
  static void TearDownTestSuite() {
    delete server_;
    std::error_code ignored;
    if (folder_ != nullptr) fs::remove_all(*folder_, ignored);
    delete folder_;
  }

  static int port() { return server_->http_port(); }
  static Reply Generate(const std::string& body) {
    return Ask(port(), "POST", "/v2/models/ensemble/generate", body);
  }
  // Waits until no request is running and every KV block is back.
  static void ExpectRest() {
    for (int i = 0; i < 2000; ++i) {
      const ExecutorTotals totals = executor_->Totals();
      if (totals.requests_accepted == totals.requests_completed &&
          executor_->KvCache().used_num_blocks == 0) {
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "requests or blocks are left: used " << executor_->KvCache().used_num_blocks;
  }

  static fs::path* folder_;
  static server::Server* server_;
  static Executor* executor_;
};
fs::path* ServeTest::folder_ = nullptr;
server::Server* ServeTest::server_ = nullptr;
Executor* ServeTest::executor_ = nullptr;

TEST_F(ServeTest, HealthAndMetadata) {
  EXPECT_EQ(Ask(port(), "GET", "/v2/health/live").status, 200);
  EXPECT_EQ(Ask(port(), "GET", "/v2/health/ready").status, 200);
  EXPECT_EQ(Ask(port(), "GET", "/v2").Json()["name"], "triton");
  for (const char* name : {"ensemble", "tensorrt_llm_bls", "model"}) {
    const Reply reply = Ask(port(), "GET", fmt::format("/v2/models/{}", name));
    EXPECT_EQ(reply.Json()["name"], name);
    EXPECT_EQ(reply.Json()["inputs"][0]["name"], "text_input");
    EXPECT_EQ(Ask(port(), "GET", fmt::format("/v2/models/{}/versions/1/ready", name)).status, 200);
  }
  EXPECT_EQ(Ask(port(), "GET", "/v2/models/nobody").status, 404);
  EXPECT_EQ(Ask(port(), "GET", "/v2/models/ensemble/versions/2").status, 404);
  EXPECT_EQ(Ask(port(), "GET", "/nowhere").status, 404);
  EXPECT_EQ(Ask(port(), "GET", "/v2/models/ensemble/generate").status, 405);
}

TEST_F(ServeTest, GenerateAndStreamGiveTheSameText) {
  const std::string fields = R"("text_input": "Once upon a time", "max_tokens": 24)";
  const Reply whole = Generate("{" + fields + R"(, "exclude_input_in_output": true})");
  ASSERT_EQ(whole.status, 200) << whole.body;
  const std::string text = whole.Json()["text_output"];
  EXPECT_FALSE(text.empty());
  EXPECT_EQ(whole.Json()["model_name"], "ensemble");
  EXPECT_EQ(Generate("{" + fields + "}").Json()["text_output"], "Once upon a time" + text);

  const Reply stream = Ask(port(), "POST", "/v2/models/ensemble/generate_stream",
                           R"({"parameters": {"stream": true}, )" + fields + "}");
  EXPECT_EQ(stream.status, 200);
  EXPECT_NE(stream.head.find("text/event-stream"), std::string::npos);
  std::string joined;
  int events = 0;
  for (size_t at = stream.body.find("data: "); at != std::string::npos;
       at = stream.body.find("data: ", at + 1)) {
    const json event = json::parse(
        stream.body.substr(at + 6, stream.body.find("\n\n", at) - at - 6), nullptr, false);
    ASSERT_TRUE(event.is_object());
    joined += event["text_output"].get<std::string>();
    ++events;
  }
  EXPECT_EQ(joined, text);
  EXPECT_GT(events, 1);
}

TEST_F(ServeTest, SamplingFieldsAct) {
  const auto ask = [](const std::string& extra) {
    return Generate(
        R"({"text_input": "The dog", "max_tokens": 20, "exclude_input_in_output": true)" + extra +
        "}");
  };
  const std::string sampled = R"(, "top_k": 40, "temperature": 1.2, "random_seed": )";
  EXPECT_EQ(ask(sampled + "7").body, ask(sampled + "7").body);
  EXPECT_NE(ask(sampled + "7").body, ask(sampled + "8").body);
  const std::string text = ask("").Json()["text_output"];
  const std::string stop = text.substr(text.size() / 2, 3);
  const std::string stopped =
      ask(R"(, "stop_words": [)" + json(stop).dump() + "]").Json()["text_output"];
  EXPECT_EQ(stopped, text.substr(0, text.find(stop)));
  const json with_logs = ask(R"(, "return_log_probs": true)").Json();
  EXPECT_EQ(with_logs["output_log_probs"].size(), 20u);
  EXPECT_LT(with_logs["cum_log_probs"], 0.0);
}

TEST_F(ServeTest, BadInputIsRefusedByName) {
  const struct {
    const char* body;
    int status;
    const char* names;
  } kCases[] = {
      {R"({"text_input": "a")", 400, "parse"},
      {"[]", 400, "object"},
      {R"({"max_tokens": 4})", 400, "text_input"},
      {R"({"text_input": "a"})", 400, "max_tokens"},
      {R"({"text_input": "a", "max_tokens": 0})", 400, "max_tokens"},
      {R"({"text_input": "a", "max_tokens": 100000000})", 400, "max_"},
      {R"({"text_input": "a", "max_tokens": 99999999999999999999})", 500, "max_tokens"},
      {R"({"text_input": "a", "max_tokens": "4"})", 500, "max_tokens"},
      {R"({"text_input": ["a", "b"], "max_tokens": 4})", 400, "batch"},
      {R"({"text_input": 5, "max_tokens": 4})", 500, "text_input"},
      {R"({"text_input": "", "max_tokens": 4, "end_id": "x"})", 500, "end_id"},
      {R"({"text_input": "a", "max_tokens": 4, "temperature": -1})", 400, "temperature"},
      {R"({"text_input": "a", "max_tokens": 4, "temperature": 1e999})", 400, ""},
      {R"({"text_input": "a", "max_tokens": 4, "top_p": 1.5})", 400, "top_p"},
      {R"({"text_input": "a", "max_tokens": 4, "top_k": -1})", 400, "top_k"},
      {R"({"text_input": "a", "max_tokens": 4, "repetition_penalty": 0})", 400,
       "repetition_penalty"},
      {R"({"text_input": "a", "max_tokens": 4, "parameters": 3})", 400, "parameters"},
      {R"({"text_input": "a", "max_tokens": 4, "beam_width": 4})", 501, "beam"},
      {R"({"text_input": "a", "max_tokens": 4, "lora_task_id": 1})", 501, "lora_task_id"},
      {R"({"text_input": "a", "max_tokens": 4, "custom": [1]})", 400, "custom"},
      {"{\"text_input\": \"\xff\xfe\", \"max_tokens\": 4}", 400, "UTF-8"},
  };
  for (const auto& c : kCases) {
    const Reply reply = Generate(c.body);
    EXPECT_EQ(reply.status, c.status) << c.body << " -> " << reply.body;
    ASSERT_TRUE(reply.Json().is_object()) << c.body;
    EXPECT_NE(reply.Json()["error"].get<std::string>().find(c.names), std::string::npos)
        << c.body << " -> " << reply.body;
  }
  const std::string deep = R"({"text_input": "a", "x": )" + std::string(5000, '[');
  EXPECT_EQ(Generate(deep).status, 400);
  EXPECT_EQ(Generate(std::string(100 << 10, ' ')).status, 400);
  Client nonsense(port());
  nonsense.Send("this is not HTTP\r\n\r\n");
  EXPECT_NE(nonsense.Receive([](const std::string&) { return false; }).find("400"),
            std::string::npos);
  EXPECT_EQ(Ask(port(), "GET", "/v2/health/ready").status, 200);
}

TEST_F(ServeTest, ManyStreamsAndVanishingClients) {
  std::atomic<int> finished{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 24; ++i) {
    clients.emplace_back([&, i] {
      Client client(port());
      ASSERT_TRUE(client.connected());
      const std::string body = fmt::format(
          R"({{"text_input": "Story {}", "max_tokens": 60, "stream": true, "end_id": -1}})", i);
      client.Send(
          fmt::format("POST /v2/models/ensemble/generate_stream HTTP/1.1\r\nHost: x\r\n"
                      "Content-Length: {}\r\n\r\n{}",
                      body.size(), body));
      if (i % 3 == 0) {  // reads a little and goes
        client.Receive(
            [](const std::string& text) { return text.find("data: ") != std::string::npos; });
        return;
      }
      const std::string text = client.Receive(
          [](const std::string& t) { return t.find("\r\n0\r\n\r\n") != std::string::npos; });
      if (text.find("\r\n0\r\n\r\n") != std::string::npos) ++finished;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(finished.load(), 16);
  ExpectRest();
}

TEST_F(ServeTest, ManyOpenStreamsAddNoThread) {
  Generate(R"({"text_input": "a", "max_tokens": 2})");  // whatever starts late has started
  ExpectRest();
  const int64_t completed = executor_->Totals().requests_completed;
  const int64_t accepted = executor_->Totals().requests_accepted;
  const int threads = executor::NumThreads();
  constexpr int kStreams = 256;
  const std::string body =
      R"({"text_input": "Story", "max_tokens": 400, "stream": true, "end_id": -1})";
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < kStreams; ++i) {
    clients.push_back(std::make_unique<Client>(port()));
    ASSERT_TRUE(clients.back()->connected());
    clients.back()->Send(
        fmt::format("POST /v2/models/ensemble/generate_stream HTTP/1.1\r\nHost: x\r\n"
                    "Content-Length: {}\r\n\r\n{}",
                    body.size(), body));
  }
  for (int i = 0; i < 6000 && executor_->Totals().requests_accepted < accepted + kStreams; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(executor::NumThreads(), threads);
  // All were open at once: none had ended when the threads were counted.
  EXPECT_EQ(executor_->Totals().requests_accepted, accepted + kStreams);
  EXPECT_EQ(executor_->Totals().requests_completed, completed);
  // Most clients go; the others are served to the end.
  clients.resize(16);
  for (const auto& client : clients) {
    const std::string text = client->Receive(
        [](const std::string& t) { return t.find("\r\n0\r\n\r\n") != std::string::npos; });
    EXPECT_NE(text.find("\r\n0\r\n\r\n"), std::string::npos);
  }
  ExpectRest();
  EXPECT_EQ(executor::NumThreads(), threads);
}

TEST_F(ServeTest, MetricsMoveAndComeToRest) {
  const auto value = [](const std::string& name) {
    const std::string text = Ask(server_->metrics_port(), "GET", "/metrics").body;
    const size_t at = text.find("\n" + name);
    return at == std::string::npos ? -1.0 : std::atof(text.c_str() + text.find("} ", at) + 2);
  };
  const double before = value("nv_inference_request_success");
  EXPECT_EQ(Generate(R"({"text_input": "a", "max_tokens": 3})").status, 200);
  ExpectRest();
  EXPECT_EQ(value("nv_inference_request_success"), before + 1);
  EXPECT_GT(value("trireme_output_tokens"), 0);
  EXPECT_EQ(value("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"used\""), 0);
  EXPECT_EQ(value("nv_trt_llm_request_metrics{model=\"model\",request_type=\"active\""), 0);
}

TEST_F(ServeTest, ATakenPortIsNamed) {
  server::HttpServerConfig config;
  config.port = port();
  const auto second = server::HttpServer::Start(config, [](auto) {});
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.status().message().find(std::to_string(port())), std::string_view::npos);
}

}  // namespace
}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
// The server as a client sees it, over real sockets, with the demo model.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <thread>

#include "executor/load_testing.h"
#include "server/testing/http_client.h"
#include "tests/demo_server.h"

namespace trireme {
namespace {

using nlohmann::json;

using server::testing::Ask;
using server::testing::Client;
using server::testing::Get;
using server::testing::Post;
using server::testing::Reply;

class ServeTest : public DemoServerTest {
 protected:
  static void SetUpTestSuite() { Start(/*max_batch_size=*/32, {}); }

  static Reply Generate(const std::string& body) {
    return Ask(port(), "POST", "/v2/models/ensemble/generate", body);
  }
};

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
      {R"({"text_input": "a", "max_tokens": 99999999999999999999})", 400, "max_tokens"},
      {R"({"text_input": "a", "max_tokens": "4"})", 400, "max_tokens"},
      {R"({"text_input": ["a", "b"], "max_tokens": 4})", 400, "batch"},
      {R"({"text_input": 5, "max_tokens": 4})", 400, "text_input"},
      {R"({"text_input": "", "max_tokens": 4, "end_id": "x"})", 400, "end_id"},
      {R"({"text_input": "a", "max_tokens": 4, "temperature": -1})", 400, "temperature"},
      {R"({"text_input": "a", "max_tokens": 4, "temperature": 1e999})", 400, ""},
      {R"({"text_input": "a", "max_tokens": 4, "top_p": 1.5})", 400, "top_p"},
      {R"({"text_input": "a", "max_tokens": 4, "top_k": -1})", 400, "top_k"},
      {R"({"text_input": "a", "max_tokens": 4, "repetition_penalty": 0})", 400,
       "repetition_penalty"},
      {R"({"text_input": "a", "max_tokens": 4, "parameters": 3})", 400, "parameters"},
      {R"({"text_input": "a", "max_tokens": 4, "beam_width": 4})", 501, "beam"},
      {R"({"text_input": "a", "max_tokens": 4, "lora_task_id": 1})", 501, "lora_task_id"},
      {R"({"text_input": "a", "max_tokens": 4, "draft_input_ids": [1, 2]})", 501,
       "draft_input_ids"},
      {R"({"text_input": "a", "max_tokens": 4, "custom": [1]})", 400, "custom"},
      {R"({"text_input": "a", "max_tokens": 4, "seed": -1})", 400, "seed"},
      {R"({"text_input": "a", "max_tokens": 4, "temperature": "x"})", 400, "temperature"},
      {R"({"text_input": "a", "max_tokens": 4, "temperature": 1e300})", 400, "temperature"},
      {R"({"text_input": "a", "max_tokens": 4, "top_k": 1.5})", 400, "top_k"},
      {R"({"text_input": "a", "max_tokens": 4, "min_p": [0.1, 0.2]})", 400, "min_p"},
      {R"({"text_input": "a", "max_tokens": 4, "stream": "yes"})", 400, "stream"},
      {R"({"text_input": "a", "max_tokens": 4, "stop_words": [1]})", 400, "stop_words"},
      {R"({"text_input": "a", "max_tokens": 4, "presence_penalty": null})", 400,
       "presence_penalty"},
      {R"({"text_input": "a", "max_tokens": 4, "num_return_sequences": 0})", 400,
       "num_return_sequences"},
      {R"({"text_input": "a", "max_tokens": 4, "id": 7})", 400, "id"},
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
  const int64_t completed = executor().Totals().requests_completed;
  const int64_t accepted = executor().Totals().requests_accepted;
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
  for (int i = 0; i < 6000 && executor().Totals().requests_accepted < accepted + kStreams; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(executor::NumThreads(), threads);
  // All were open at once: none had ended when the threads were counted.
  EXPECT_EQ(executor().Totals().requests_accepted, accepted + kStreams);
  EXPECT_EQ(executor().Totals().requests_completed, completed);
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
  const double before = value("nv_inference_request_success{model=\"ensemble\"");
  EXPECT_EQ(Generate(R"({"text_input": "a", "max_tokens": 3})").status, 200);
  ExpectRest();
  EXPECT_EQ(value("nv_inference_request_success{model=\"ensemble\""), before + 1);
  EXPECT_GT(value("trireme_output_tokens{model=\"ensemble\""), 0);
  EXPECT_EQ(value("nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"used\""), 0);
  EXPECT_EQ(value("nv_trt_llm_request_metrics{model=\"model\",request_type=\"active\""), 0);
}

// The value of a metric of the model under one of its names.
double Metric(const std::string& metrics, const std::string& series) {
  const size_t at = metrics.find("\n" + series + "} ");
  return at == std::string::npos ? -1.0 : std::atof(metrics.c_str() + metrics.find("} ", at) + 2);
}

TEST_F(ServeTest, EverySequenceHasItsLogProbsAndLogits) {
  const json reply = Post(port(), "/v2/models/model/infer", R"({"inputs": [
      {"name": "text_input", "datatype": "BYTES", "shape": [1, 1], "data": ["The dog"]},
      {"name": "max_tokens", "datatype": "INT32", "shape": [1, 1], "data": [6]},
      {"name": "end_id", "datatype": "INT32", "shape": [1, 1], "data": [-1]},
      {"name": "top_k", "datatype": "INT32", "shape": [1, 1], "data": [50]},
      {"name": "temperature", "datatype": "FP32", "shape": [1, 1], "data": [1.5]},
      {"name": "num_return_sequences", "datatype": "INT32", "shape": [1, 1], "data": [3]},
      {"name": "return_log_probs", "datatype": "BOOL", "shape": [1, 1], "data": [true]},
      {"name": "return_context_logits", "datatype": "BOOL", "shape": [1, 1], "data": [true]},
      {"name": "return_generation_logits", "datatype": "BOOL", "shape": [1, 1], "data": [true]}
      ]})")
                         .Json();
  std::map<std::string, json> outputs;
  for (const json& output : reply["outputs"]) outputs[output["name"]] = output;
  const int vocab_size = executor().Info().model.vocab_size;
  const auto prompt = generator_->Encode({.prompt = "The dog"}).value();
  EXPECT_EQ(outputs["text_output"]["shape"], json({1, 3}));
  EXPECT_EQ(outputs["cum_log_probs"]["shape"], json({1, 3}));
  EXPECT_EQ(outputs["output_log_probs"]["shape"], json({1, 3, 6}));
  EXPECT_EQ(outputs["context_logits"]["shape"], json({1, prompt.size(), vocab_size}));
  EXPECT_EQ(outputs["generation_logits"]["shape"], json({1, 3, 6, vocab_size}));

  // Sequence i is the run with seed + i, alone.
  const json& log_probs = outputs["output_log_probs"]["data"];
  for (int i = 0; i < 3; ++i) {
    const json alone =
        Generate(fmt::format(R"({{"text_input": "The dog", "max_tokens": 6, "end_id": -1,
            "top_k": 50, "temperature": 1.5, "seed": {}, "return_log_probs": true}})",
                             i))
            .Json();
    EXPECT_EQ(outputs["text_output"]["data"][i], alone["text_output"]);
    EXPECT_EQ(outputs["cum_log_probs"]["data"][i], alone["cum_log_probs"]);
    for (int k = 0; k < 6; ++k) EXPECT_EQ(log_probs[i * 6 + k], alone["output_log_probs"][k]);
  }
}

TEST_F(ServeTest, WhatWasBrokenOffIsNoSuccess) {
  const auto metrics = [] { return Get(server_->metrics_port(), "/metrics").body; };
  const auto failures = [&](const std::string& reason) {
    return Metric(metrics(), "nv_inference_request_failure{model=\"tensorrt_llm\",reason=\"" +
                                 reason + "\",version=\"1\"");
  };
  const std::string success = "nv_inference_request_success{model=\"tensorrt_llm\",version=\"1\"";
  const double successes = Metric(metrics(), success);
  const std::string path = "/v2/models/tensorrt_llm";
  // 900 microseconds are a timeout, which no 1,000 tokens keep.
  const auto late = [&](int microseconds) {
    return Post(port(), path + "/infer",
                fmt::format(R"({{"parameters": {{"timeout": {}}},
        "inputs": [{{"name": "text_input", "datatype": "BYTES", "shape": [1, 1], "data": ["a"]}},
                   {{"name": "max_tokens", "datatype": "INT32", "shape": [1, 1], "data": [1000]}},
                   {{"name": "end_id", "datatype": "INT32", "shape": [1, 1], "data": [-1]}}]}})",
                            microseconds));
  };
  const double timed_out = failures("BACKEND");
  for (const int microseconds : {1, 900, 2000}) {
    const Reply reply = late(microseconds);
    EXPECT_EQ(reply.status, 504) << reply.body;
    EXPECT_NE(reply.Error().find("timeout"), std::string::npos) << reply.body;
  }
  EXPECT_EQ(failures("BACKEND"), timed_out + 3);

  const double cancelled = failures("CANCELED");
  {
    Client client(port());
    const std::string body =
        R"({"text_input": "a", "max_tokens": 1000, "stream": true, "end_id": -1})";
    client.Send(
        fmt::format("POST {}/generate_stream HTTP/1.1\r\nHost: x\r\n"
                    "Content-Length: {}\r\n\r\n{}",
                    path, body.size(), body));
    client.Receive([](const std::string& t) { return t.find("data: ") != std::string::npos; });
  }
  ExpectRest();
  EXPECT_EQ(failures("CANCELED"), cancelled + 1);
  EXPECT_EQ(Metric(metrics(), success), successes);
}

TEST_F(ServeTest, EveryNameHasItsOwnConfigurationAndCounts) {
  for (const std::string name : {"model", "ensemble", "tensorrt_llm_bls", "tensorrt_llm"}) {
    const std::string path = "/v2/models/" + name;
    EXPECT_EQ(Get(port(), path + "/config").Json()["name"], name);
    EXPECT_EQ(Get(port(), path).Json()["name"], name);
    const auto count = [&] {
      return Get(port(), path + "/stats").Json()["model_stats"][0]["inference_count"].get<int>();
    };
    const int before = count();
    EXPECT_EQ(Post(port(), path + "/generate", R"({"text_input": "a", "max_tokens": 1})").status,
              200);
    EXPECT_EQ(count(), before + 1);
    const std::string metrics = Get(server_->metrics_port(), "/metrics").body;
    EXPECT_EQ(Metric(metrics, "nv_inference_request_success{model=\"" + name + "\",version=\"1\""),
              before + 1);
  }
}

TEST_F(ServeTest, LatenciesAreThoseOfTheEngine) {
  const auto metrics = [] { return Get(server_->metrics_port(), "/metrics").body; };
  const auto count = [&](const std::string& histogram) {
    return Metric(metrics(), histogram + "_count{model=\"ensemble\",version=\"1\"");
  };
  const double first = count("trireme_time_to_first_token_seconds");
  const double gaps = count("trireme_inter_token_latency_seconds");
  EXPECT_EQ(Generate(R"({"text_input": "a", "max_tokens": 9, "end_id": -1})").status, 200);
  EXPECT_EQ(count("trireme_time_to_first_token_seconds"), first + 1);
  EXPECT_EQ(count("trireme_inter_token_latency_seconds"), gaps + 8) << "a whole reply has gaps too";
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

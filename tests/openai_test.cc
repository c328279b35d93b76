// SPDX-License-Identifier: Apache-2.0
// OpenAI's routes as a client sees them, over real sockets, with the demo model.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <thread>

#include "server/testing/http_client.h"
#include "tests/demo_server.h"

namespace trireme {
namespace {

using nlohmann::json;
using server::testing::Client;
using server::testing::Get;
using server::testing::Post;
using server::testing::Reply;

class OpenAiTest : public DemoServerTest {
 protected:
  static void SetUpTestSuite() {
    ExecutorConfig limits;
    limits.max_queue_size = 16;
    Start(/*max_batch_size=*/8, limits);
  }

  static Reply Complete(json fields) {
    fields.emplace("model", "model");
    if (!fields.contains("prompt")) fields["prompt"] = "Once upon a time";
    return Post(port(), "/v1/completions", fields.dump());
  }
  static Reply Chat(json fields) {
    fields.emplace("model", "model");
    if (!fields.contains("messages")) {
      fields["messages"] = {{{"role", "user"}, {"content", "Once upon a time"}}};
    }
    return Post(port(), "/v1/chat/completions", fields.dump());
  }
  static std::string Text(const Reply& reply) {
    const json body = reply.Json();
    EXPECT_EQ(reply.status, 200) << reply.body;
    if (reply.status != 200) return "";
    const json& choice = body["choices"][0];
    return choice.contains("text") ? choice["text"] : choice["message"]["content"];
  }
  // The events of a stream; the last must be [DONE].
  static std::vector<json> Events(const Reply& reply) {
    EXPECT_EQ(reply.status, 200) << reply.body;
    EXPECT_NE(reply.head.find("text/event-stream"), std::string::npos);
    std::vector<json> events;
    bool done = false;
    for (size_t at = reply.body.find("data: "); at != std::string::npos;
         at = reply.body.find("data: ", at + 1)) {
      const std::string text = reply.body.substr(at + 6, reply.body.find("\n\n", at) - at - 6);
      EXPECT_FALSE(done) << text;
      done = text == "[DONE]";
      if (done) continue;
      events.push_back(json::parse(text, nullptr, false));
      EXPECT_TRUE(events.back().is_object()) << text;
    }
    EXPECT_TRUE(done);
    return events;
  }
};

TEST_F(OpenAiTest, Models) {
  const json list = Get(port(), "/v1/models").Json();
  EXPECT_EQ(list["object"], "list");
  bool found = false;
  for (const json& model : list["data"]) found |= model["id"] == "model";
  EXPECT_TRUE(found) << list.dump();
  EXPECT_EQ(Get(port(), "/v1/models/model").Json()["object"], "model");
  EXPECT_EQ(Get(port(), "/v1/models/nobody").status, 404);
  EXPECT_EQ(Get(port(), "/v1/nowhere").status, 404);
  EXPECT_EQ(Get(port(), "/v1/completions").status, 405);
}

TEST_F(OpenAiTest, AnswersAreTheGenerators) {
  const auto expected = generator_->GenerateAll({.prompt = "Once upon a time", .max_tokens = 20});
  ASSERT_TRUE(expected.ok());
  const Reply completion = Complete({{"max_tokens", 20}, {"temperature", 0}});
  EXPECT_EQ(Text(completion), expected->front().text);
  const json body = completion.Json();
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(body["usage"]["completion_tokens"], 20);
  EXPECT_EQ(body["usage"]["prompt_tokens"], expected->front().num_prompt_tokens);
  EXPECT_EQ(body["usage"]["total_tokens"], 20 + expected->front().num_prompt_tokens);

  const GenerateRequest chat = {
      .messages_json = R"([{"role": "user", "content": "Once upon a time"}])", .max_tokens = 20};
  const auto chat_expected = generator_->GenerateAll(chat);
  ASSERT_TRUE(chat_expected.ok());
  for (const char* limit : {"max_tokens", "max_completion_tokens"}) {
    const Reply reply = Chat({{limit, 20}, {"temperature", 0}});
    EXPECT_EQ(Text(reply), chat_expected->front().text);
    EXPECT_EQ(reply.Json()["object"], "chat.completion");
    EXPECT_EQ(reply.Json()["choices"][0]["message"]["role"], "assistant");
    EXPECT_NE(reply.Json()["id"], body["id"]);
  }
}

TEST_F(OpenAiTest, StreamsJoinToTheWhole) {
  const json fields = {{"max_tokens", 20}, {"temperature", 0}};
  json streamed = fields;
  streamed["stream"] = true;
  streamed["stream_options"] = {{"include_usage", true}};
  for (const bool chat : {false, true}) {
    const std::string whole = Text(chat ? Chat(fields) : Complete(fields));
    const auto events = Events(chat ? Chat(streamed) : Complete(streamed));
    ASSERT_GT(events.size(), 3u);
    std::string joined;
    std::string reason;
    for (const json& event : events) {
      EXPECT_EQ(event["id"], events[0]["id"]);
      if (event["choices"].empty()) continue;
      EXPECT_TRUE(event["usage"].is_null());
      const json& choice = event["choices"][0];
      joined += chat ? choice["delta"].value("content", "") : choice["text"].get<std::string>();
      if (!choice["finish_reason"].is_null()) reason += choice["finish_reason"];
    }
    EXPECT_EQ(joined, whole);
    EXPECT_EQ(reason, "length");
    EXPECT_EQ(events.back()["usage"]["completion_tokens"], 20);
    if (chat) {
      EXPECT_EQ(events[0]["object"], "chat.completion.chunk");
      EXPECT_EQ(events[0]["choices"][0]["delta"]["role"], "assistant");
      EXPECT_FALSE(events[1]["choices"][0]["delta"].contains("role"));
    }
  }
  streamed.erase("stream_options");
  for (const json& event : Events(Complete(streamed))) EXPECT_FALSE(event.contains("usage"));
}

TEST_F(OpenAiTest, StopsSeedsAndSeveralChoices) {
  const json greedy = {{"max_tokens", 20}, {"temperature", 0}};
  const std::string text = Text(Complete(greedy));
  const std::string stop = text.substr(text.size() / 2, 4);
  for (const json& stops : {json(stop), json::array({"never to be seen", stop})}) {
    json fields = greedy;
    fields["stop"] = stops;
    const Reply reply = Complete(fields);
    EXPECT_EQ(Text(reply), text.substr(0, text.find(stop)));
    EXPECT_EQ(reply.Json()["choices"][0]["finish_reason"], "stop");
  }
  const json seeded = {{"max_tokens", 20}, {"seed", -7}, {"n", 2}, {"temperature", 1.2}};
  const json first = Complete(seeded).Json();
  EXPECT_EQ(first["choices"], Complete(seeded).Json()["choices"]);
  EXPECT_EQ(first["choices"][1]["index"], 1);
  EXPECT_NE(first["choices"][0]["text"], first["choices"][1]["text"]);
  EXPECT_EQ(first["usage"]["completion_tokens"], 40);
  EXPECT_NE(Text(Complete({{"max_tokens", 20}})), Text(Complete({{"max_tokens", 20}})));

  // Choice 1 of a stream is choice 1 of the whole.
  json streamed = seeded;
  streamed["stream"] = true;
  std::string joined;
  for (const json& event : Events(Complete(streamed))) {
    if (event["choices"][0]["index"] == 1) joined += event["choices"][0]["text"];
  }
  EXPECT_EQ(joined, first["choices"][1]["text"]);
}

TEST_F(OpenAiTest, SeveralPromptsIdsAndEcho) {
  const json greedy = {{"max_tokens", 8}, {"temperature", 0}};
  const auto with_prompt = [&](const json& prompt) {
    json fields = greedy;
    fields["prompt"] = prompt;
    return fields;
  };
  const std::string a = Text(Complete(with_prompt("Tom had a ball")));
  const std::string b = Text(Complete(with_prompt("The old dog")));
  const json both = Complete(with_prompt({"Tom had a ball", "The old dog"})).Json();
  EXPECT_EQ(both["choices"][0]["text"], a);
  EXPECT_EQ(both["choices"][1]["text"], b);
  EXPECT_EQ(both["usage"]["completion_tokens"], 16);
  const auto ids = generator_->Encode({.prompt = "The old dog"});
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(Text(Complete(with_prompt(*ids))), b);
  EXPECT_EQ(Text(Complete(with_prompt(json::array({*ids})))), b);
  json echoed = with_prompt("The old dog");
  echoed["echo"] = true;
  EXPECT_EQ(Text(Complete(echoed)), "The old dog" + b);
}

TEST_F(OpenAiTest, LogProbs) {
  const json completion =
      Complete({{"max_tokens", 6}, {"temperature", 0}, {"logprobs", 3}}).Json()["choices"][0];
  const json& lists = completion["logprobs"];
  std::string joined;
  ASSERT_EQ(lists["tokens"].size(), 6u) << completion.dump();
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(lists["text_offset"][i], joined.size());
    joined += lists["tokens"][i];
    EXPECT_EQ(lists["top_logprobs"][i].size(), 3u);
    // Greedy: no token is more probable than the chosen.
    for (const auto& [token, value] : lists["top_logprobs"][i].items()) {
      EXPECT_LE(value, lists["token_logprobs"][i]) << token;
    }
  }
  EXPECT_EQ(joined, completion["text"]);

  const auto expected = generator_->GenerateAll(
      {.messages_json = R"([{"role": "user", "content": "Once upon a time"}])",
       .max_tokens = 6,
       .output = {.return_log_probs = true}});
  ASSERT_TRUE(expected.ok());
  const json fields = {
      {"max_tokens", 6}, {"temperature", 0}, {"logprobs", true}, {"top_logprobs", 2}};
  const json whole = Chat(fields).Json()["choices"][0]["logprobs"]["content"];
  ASSERT_EQ(whole.size(), 6u);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_NEAR(whole[i]["logprob"].get<float>(), expected->front().log_probs[i], 1e-3);
    ASSERT_EQ(whole[i]["top_logprobs"].size(), 2u);
    EXPECT_EQ(whole[i]["top_logprobs"][0]["token"], whole[i]["token"]);
    EXPECT_EQ(whole[i]["bytes"].size(), whole[i]["token"].get<std::string>().size());
  }
  json streamed = fields;
  streamed["stream"] = true;
  json joined_tokens = json::array();
  for (const json& event : Events(Chat(streamed))) {
    const json& part = event["choices"][0]["logprobs"];
    if (!part.is_null()) {
      joined_tokens.insert(joined_tokens.end(), part["content"].begin(), part["content"].end());
    }
  }
  EXPECT_EQ(joined_tokens, whole);
}

TEST_F(OpenAiTest, BiasPenaltiesAndTemplateVariables) {
  const json greedy = {{"max_tokens", 60}, {"temperature", 0}};
  const std::string text = Text(Complete(greedy));
  const auto with = [&](const char* name, const json& value) {
    json fields = greedy;
    fields[name] = value;
    return fields;
  };
  const auto ids = generator_->GenerateAll({.prompt = "Once upon a time", .max_tokens = 1});
  ASSERT_TRUE(ids.ok());
  const std::string first = std::to_string(ids->front().tokens.at(0));
  EXPECT_NE(Text(Complete(with("logit_bias", {{first, -100}}))), text);
  EXPECT_NE(Text(Complete(with("frequency_penalty", 2))), text);
  EXPECT_NE(Text(Complete(with("presence_penalty", 2))), text);
  EXPECT_EQ(Text(Complete(with("top_p", 0))), text);
  EXPECT_EQ(Text(Complete(with("user", "someone"))), text);
  // The template begins with the BOS token: another one is another prompt.
  const json plain = Chat(greedy).Json();
  const json changed = Chat(with("chat_template_kwargs", {{"bos_token", ""}})).Json();
  EXPECT_EQ(changed["usage"]["prompt_tokens"].get<int>() + 1,
            plain["usage"]["prompt_tokens"].get<int>());
  const json tools = json::array({{{"type", "function"}, {"function", {{"name", "f"}}}}});
  EXPECT_EQ(Text(Chat(with("tools", tools))), plain["choices"][0]["message"]["content"]);
}

TEST_F(OpenAiTest, WrongFieldsAreNamed) {
  const struct {
    const char* route;
    json fields;
    const char* param;
  } kCases[] = {
      {"completions", {{"model", ""}}, "model"},
      {"completions", {{"prompt", 5}}, "prompt"},
      {"completions", {{"prompt", json::array()}}, "prompt"},
      {"completions", {{"prompt", {1, "a"}}}, "prompt"},
      {"completions", {{"max_tokens", 0}}, "max_tokens"},
      {"completions", {{"max_tokens", "4"}}, "max_tokens"},
      {"completions", {{"temperature", 2.5}}, "temperature"},
      {"completions", {{"top_p", -1}}, "top_p"},
      {"completions", {{"n", 0}}, "n"},
      {"completions", {{"n", 1000000}}, "n"},
      {"completions", {{"seed", 1.5}}, "seed"},
      {"completions", {{"seed", 18446744073709551615u}}, "seed"},
      {"completions", {{"stop", {1}}}, "stop"},
      {"completions", {{"logit_bias", {{"x", 1}}}}, "logit_bias"},
      {"completions", {{"logit_bias", {{"1", 101}}}}, "logit_bias"},
      {"completions", {{"logit_bias", {{"99999", 1}}}}, "logit_bias"},
      {"completions", {{"prompt", {1, 99999}}}, "prompt"},
      {"chat/completions", {{"min_tokens", 5}, {"max_tokens", 4}}, "min_tokens"},
      {"chat/completions", {{"top_k", 99999}}, "top_k"},
      {"completions", {{"logprobs", 21}}, "logprobs"},
      {"completions", {{"logprobs", 1}, {"echo", true}}, "logprobs"},
      {"completions", {{"best_of", 3}}, "best_of"},
      {"completions", {{"suffix", "x"}}, "suffix"},
      {"completions", {{"presence_penalty", 3}}, "presence_penalty"},
      {"completions", {{"stream", 1}}, "stream"},
      {"completions", {{"stream_options", {{"include_usage", true}}}}, "stream_options"},
      {"completions", {{"temprature", 1}}, "temprature"},
      {"chat/completions", {{"messages", json::array()}}, "messages"},
      {"chat/completions", {{"messages", {{{"content", "a"}}}}}, "messages"},
      {"chat/completions",
       {{"messages", {{{"role", "user"}, {"content", {{{"type", "image_url"}}}}}}}},
       "messages"},
      {"chat/completions", {{"max_tokens", 4}, {"max_completion_tokens", 4}}, "max_tokens"},
      {"chat/completions", {{"top_logprobs", 2}}, "top_logprobs"},
      {"chat/completions", {{"tools", {1}}}, "tools"},
      {"chat/completions", {{"tool_choice", "required"}}, "tool_choice"},
      {"chat/completions", {{"response_format", {{"type", "json_object"}}}}, "response_format"},
      {"chat/completions", {{"modalities", {"audio"}}}, "modalities"},
      {"chat/completions", {{"functions", json::array()}}, "functions"},
      {"chat/completions", {{"store", true}}, "store"},
      {"chat/completions", {{"prompt", "a"}}, "prompt"},
  };
  for (const auto& c : kCases) {
    const bool chat = std::string(c.route) != "completions";
    const Reply reply = chat ? Chat(c.fields) : Complete(c.fields);
    EXPECT_EQ(reply.status, 400) << c.fields.dump() << " -> " << reply.body;
    const json error = reply.Json()["error"];
    EXPECT_EQ(error["param"], c.param) << c.fields.dump() << " -> " << reply.body;
    EXPECT_EQ(error["type"], "invalid_request_error");
    EXPECT_NE(error["message"].get<std::string>().find(c.param), std::string::npos) << reply.body;
  }
  for (const char* body : {"", "[]", "{\"model\": \"model\"", "{\"a\": \"\xff\"}"}) {
    EXPECT_EQ(Post(port(), "/v1/completions", body).status, 400) << body;
  }
  const Reply unknown = Complete({{"model", "nobody"}});
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(unknown.Json()["error"]["code"], "model_not_found");
  const Reply too_long = Complete({{"max_tokens", 100000}});
  EXPECT_EQ(too_long.status, 400);
  EXPECT_NE(too_long.body.find("max_seq_len"), std::string::npos);
  EXPECT_EQ(Chat({{"max_tokens", 100000}}).Json()["error"]["param"], "messages");
  // The header of larger binary bodies makes no JSON larger.
  const Reply large = Post(port(), "/v1/completions", std::string((64 << 10) + 1, ' '),
                           {{"Inference-Header-Content-Length", "2"}});
  EXPECT_EQ(large.status, 413) << large.body;
  EXPECT_TRUE(large.Json()["error"].is_object()) << large.body;
  const Reply plain = Post(port(), "/v1/completions", std::string((64 << 10) + 1, ' '));
  EXPECT_EQ(plain.status, 413) << plain.body;
  EXPECT_TRUE(plain.Json()["error"].is_object()) << plain.body;
}

TEST_F(OpenAiTest, AFullQueueIs429AndLeavesNothingRunning) {
  json prompts = json::array();
  for (int i = 0; i < 100; ++i) prompts.push_back("Story");
  const Reply reply = Complete({{"prompt", prompts}, {"max_tokens", 400}, {"ignore_eos", true}});
  EXPECT_EQ(reply.status, 429) << reply.body;
  EXPECT_EQ(reply.Json()["error"]["type"], "rate_limit_error");
  // What was cancelled counts as waiting until the engine's thread has seen it.
  int status = 429;
  for (int i = 0; i < 1000 && status == 429; ++i) {
    status = Complete({{"max_tokens", 1}}).status;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(status, 200);
  ExpectRest();
}

TEST_F(OpenAiTest, AClientThatGoesEndsItsGeneration) {
  const int64_t generated = executor().Totals().generated_tokens;
  {
    Client client(port());
    const std::string body =
        R"({"model": "model", "messages": [{"role": "user", "content": "Once"}], "stream": true,
            "max_tokens": 480, "ignore_eos": true})";
    client.Send(
        fmt::format("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{}",
                    body.size(), body));
    const std::string begun =
        client.Receive([](const std::string& t) { return t.find("data: ") != std::string::npos; });
    EXPECT_NE(begun.find("chat.completion.chunk"), std::string::npos) << begun;
  }
  ExpectRest();
  EXPECT_LT(executor().Totals().generated_tokens - generated, 480);
}

}  // namespace
}  // namespace trireme

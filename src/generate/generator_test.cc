// SPDX-License-Identifier: Apache-2.0
// The generator over the executor, the hash model and a tokenizer of single characters.
#include "trireme/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/log.h"
#include "base/status.h"
#include "executor/executor_impl.h"
#include "executor/fake_session.h"

namespace trireme {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

// Token i is the character at place i of an alphabet; the last three ids are the two bytes of
// "é", apart, and the end token.
class CharTokenizer : public Tokenizer {
 public:
  static constexpr std::string_view kAlphabet =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ .,:/";
  static constexpr int32_t kHighByte = 57, kLowByte = 58, kEnd = 59;
  static constexpr int kVocabSize = 60;

  StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special) const override {
    std::vector<int32_t> ids;
    if (add_special) ids.push_back(kEnd);
    for (char c : text) {
      const size_t at = kAlphabet.find(c);
      if (c == '\xc3') {
        ids.push_back(kHighByte);
      } else if (c == '\xa9') {
        ids.push_back(kLowByte);
      } else if (at == std::string_view::npos) {
        return InvalidArgument("no token for '{}'", c);
      } else {
        ids.push_back(static_cast<int32_t>(at));
      }
    }
    return ids;
  }
  StatusOr<std::string> Decode(std::span<const int32_t> ids, bool skip) const override {
    std::string text;
    auto stream = NewDecodeStream(skip);
    for (int32_t id : ids) stream->Append(id, text);
    stream->Finish(text);
    return text;
  }
  int vocab_size() const override { return kVocabSize; }
  std::optional<int32_t> bos_id() const override { return std::nullopt; }
  std::optional<int32_t> eos_id() const override { return kEnd; }
  std::optional<int32_t> pad_id() const override { return std::nullopt; }
  std::optional<int32_t> TokenToId(std::string_view) const override { return std::nullopt; }
  std::string IdToToken(int32_t id) const override { return TokenBytes(id); }
  bool IsSpecial(int32_t id) const override { return id == kEnd; }
  std::string TokenBytes(int32_t id) const override {
    if (id == kHighByte) return "\xc3";
    if (id == kLowByte) return "\xa9";
    if (id == kEnd) return "<end>";
    return std::string(1, kAlphabet[id]);
  }
};

std::unique_ptr<Generator> MakeGenerator(std::string_view chat_template = "",
                                         std::shared_ptr<executor::FakeSessionCounters> counters =
                                             std::make_shared<executor::FakeSessionCounters>()) {
  SetLogLevel("off").ok();
  auto session = std::make_unique<executor::FakeSession>(
      executor::FakeSessionOptions{.vocab_size = CharTokenizer::kVocabSize, .max_seq_len = 256});
  std::unique_ptr<ChatTemplate> parsed;
  if (!chat_template.empty()) parsed = ChatTemplate::Parse(chat_template).value();
  return Generator::Create(executor::ExecutorImpl::Create(std::move(session), {}).value(),
                           std::make_unique<CharTokenizer>(), std::move(parsed));
}

GenerateRequest Sampled(std::string prompt, int max_tokens, uint64_t seed = 3) {
  GenerateRequest request{.prompt = std::move(prompt), .max_tokens = max_tokens};
  request.add_special_tokens = false;
  request.sampling.top_p = 1.0f;
  request.sampling.seed = seed;
  request.end_ids = std::vector<TokenId>{};
  return request;
}

// All outputs of a streamed run joined, and how many there were.
std::pair<GenerateOutput, int> Stream(Generator& generator, GenerateRequest request) {
  request.streaming = true;
  GenerateOutput joined;
  int num_outputs = 0;
  std::promise<void> done;
  const auto id = generator.Generate(request, [&](GenerateOutput&& output) {
    ++num_outputs;
    joined.text += output.text;
    joined.tokens.insert(joined.tokens.end(), output.tokens.begin(), output.tokens.end());
    joined.finish_reason = output.finish_reason;
    joined.num_output_tokens = output.num_output_tokens;
    joined.stop_string = output.stop_string;
    if (output.is_final) done.set_value();
  });
  EXPECT_TRUE(id.ok());
  done.get_future().wait();
  return {joined, num_outputs};
}

TEST(Generator, TextIsThatOfTheTokensStreamedOrNot) {
  auto generator = MakeGenerator();
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const GenerateRequest request = Sampled("hello", 80, seed);
    const auto outputs = generator->GenerateAll(request).value();
    ASSERT_THAT(outputs, SizeIs(1));
    EXPECT_EQ(outputs[0].text, generator->tokenizer().Decode(outputs[0].tokens, true).value());
    EXPECT_EQ(outputs[0].num_output_tokens, 80);
    EXPECT_EQ(outputs[0].num_prompt_tokens, 5);
    EXPECT_EQ(outputs[0].finish_reason, FinishReason::kLength);
    const auto [streamed, num_outputs] = Stream(*generator, request);
    EXPECT_EQ(streamed.text, outputs[0].text);
    EXPECT_EQ(streamed.tokens, outputs[0].tokens);
    EXPECT_EQ(num_outputs, 80);
  }
}

TEST(Generator, StopStringEndsTextTokensAndCounts) {
  auto generator = MakeGenerator();
  for (uint64_t seed = 0; seed < 20; ++seed) {
    GenerateRequest request = Sampled("tell me", 200, seed);
    const GenerateOutput free = std::move(generator->GenerateAll(request).value()[0]);
    // Whatever stands at characters 20 to 22 stops the second run.
    const std::string ascii_stop = free.text.substr(20, 3);
    if (ascii_stop.find_first_of("\xc3\xa9\xef\xbf\xbd") != std::string::npos) continue;
    const size_t at = free.text.find(ascii_stop);
    request.stop = {"", "never to be seen", ascii_stop};
    for (const bool streaming : {false, true}) {
      const GenerateOutput stopped = streaming
                                         ? Stream(*generator, request).first
                                         : std::move(generator->GenerateAll(request).value()[0]);
      EXPECT_EQ(stopped.text, free.text.substr(0, at));
      EXPECT_EQ(stopped.finish_reason, FinishReason::kStopWords);
      EXPECT_EQ(stopped.stop_string, ascii_stop);
      const auto num_tokens = stopped.tokens.size();
      EXPECT_EQ(stopped.num_output_tokens, static_cast<int>(num_tokens));
      // The last token is the one that completed the stop string.
      const std::string full = generator->tokenizer().Decode(stopped.tokens, true).value();
      EXPECT_EQ(full, free.text.substr(0, at + 3));
    }
    request.include_stop_in_output = true;
    EXPECT_EQ(generator->GenerateAll(request).value()[0].text, free.text.substr(0, at + 3));
  }
}

// Hands out responses when the test says so, and notes cancellations.
class ScriptedExecutor final : public Executor {
 public:
  ScriptedExecutor() {
    info_.model.vocab_size = CharTokenizer::kVocabSize;
    info_.max_seq_len = 256;
  }
  StatusOr<RequestId> Enqueue(Request) override { return Unimplemented("no callback"); }
  StatusOr<RequestId> Enqueue(Request request, ResponseCallback on_response) override {
    last_request = std::move(request);
    deliver = std::move(on_response);
    return RequestId{7};
  }
  std::vector<Response> AwaitResponses(std::optional<RequestId>,
                                       std::chrono::milliseconds) override {
    return {};
  }
  int NumResponsesReady(std::optional<RequestId>) const override { return 0; }
  void Cancel(RequestId id) override { cancelled.push_back(id); }
  std::vector<IterationStats> LatestIterationStats() override { return {}; }
  ExecutorTotals Totals() const override { return {}; }
  KvCacheStats KvCache() const override { return {}; }
  const EngineInfo& Info() const override { return info_; }
  bool IsHealthy() const override { return true; }
  void Shutdown(std::chrono::milliseconds) override {}

  Request last_request;
  ResponseCallback deliver;
  std::vector<RequestId> cancelled;

 private:
  EngineInfo info_;
};

TEST(Generator, StopStringCancelsOnceAndTheSurplusIsDropped) {
  auto owned = std::make_unique<ScriptedExecutor>();
  ScriptedExecutor& executor = *owned;
  auto generator = Generator::Create(std::move(owned), std::make_unique<CharTokenizer>(), nullptr);
  GenerateRequest request = Sampled("x", 0);
  request.stop = {"bc"};
  std::vector<GenerateOutput> outputs;
  ASSERT_TRUE(generator
                  ->Generate(request,
                             [&](GenerateOutput&& output) { outputs.push_back(std::move(output)); })
                  .ok());
  EXPECT_EQ(executor.last_request.max_tokens, 255);
  EXPECT_TRUE(executor.last_request.streaming);
  const auto deliver = [&](std::vector<TokenId> tokens, bool is_final) {
    executor.deliver({.request_id = 7,
                      .is_sequence_final = is_final,
                      .is_final = is_final,
                      .tokens = std::move(tokens)});
  };
  deliver({0}, false);  // a
  deliver({1}, false);  // b, held back
  EXPECT_THAT(executor.cancelled, testing::IsEmpty());
  EXPECT_THAT(outputs, SizeIs(0));
  deliver({2, 3}, false);  // c completes the stop string, d is surplus
  EXPECT_THAT(executor.cancelled, testing::ElementsAre(7));
  deliver({4}, false);  // sampled before the cancellation arrived
  deliver({5}, true);
  EXPECT_THAT(executor.cancelled, SizeIs(1));
  ASSERT_THAT(outputs, SizeIs(1));
  EXPECT_EQ(outputs[0].text, "a");
  EXPECT_EQ(outputs[0].num_output_tokens, 3);
  EXPECT_TRUE(outputs[0].is_final);
}

TEST(Generator, EndIdsComeFromTheTokenizerUnlessGiven) {
  auto generator = MakeGenerator();
  int ended = 0;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    GenerateRequest request = Sampled("x", 200, seed);
    request.end_ids.reset();
    request.skip_special_tokens = false;
    const GenerateOutput output = std::move(generator->GenerateAll(request).value()[0]);
    EXPECT_THAT(output.text, testing::Not(HasSubstr("<end>")));
    ended += output.finish_reason == FinishReason::kEndId;
    request.skip_special_tokens = true;
    request.end_ids = std::vector<TokenId>{0, 1, 2, 3, 4, 5, 6, 7};
    const GenerateOutput early = std::move(generator->GenerateAll(request).value()[0]);
    EXPECT_EQ(early.text.find_first_of("abcdefgh"), std::string::npos);
  }
  EXPECT_GE(ended, 5);
}

TEST(Generator, BadWordsNeverAppear) {
  auto generator = MakeGenerator();
  GenerateRequest request = Sampled("x", 200);
  const std::string free = generator->GenerateAll(request).value()[0].text;
  request.bad_words = {"", free.substr(3, 1), free.substr(10, 2)};
  const std::string text = generator->GenerateAll(request).value()[0].text;
  EXPECT_EQ(text.find(request.bad_words[1]), std::string::npos);
  EXPECT_EQ(text.find(request.bad_words[2]), std::string::npos);
  EXPECT_NE(free.find(request.bad_words[1]), std::string::npos);
}

TEST(Generator, BiasMakesTokensCertainOrImpossible) {
  auto generator = MakeGenerator();
  GenerateRequest request = Sampled("x", 20);
  request.logit_bias = {{4, 100.0f}};
  EXPECT_EQ(generator->GenerateAll(request).value()[0].text, std::string(20, 'e'));
  request.logit_bias = {};
  request.embedding_bias_words = {{"q", 100.0f}};
  EXPECT_EQ(generator->GenerateAll(request).value()[0].text, std::string(20, 'q'));
  request.logit_bias = {{60, 1.0f}};
  EXPECT_THAT(generator->GenerateAll(request).status().ToString(),
              HasSubstr("logit_bias names token 60"));
}

TEST(Generator, EchoPutsThePromptBeforeTheText) {
  auto generator = MakeGenerator();
  GenerateRequest request = Sampled("so it goes: ", 10);
  const GenerateOutput plain = std::move(generator->GenerateAll(request).value()[0]);
  request.output.exclude_input_from_output = false;
  request.stop = {"so it"};  // in the prompt it stops nothing
  const GenerateOutput echoed = std::move(generator->GenerateAll(request).value()[0]);
  EXPECT_EQ(echoed.text, "so it goes: " + plain.text);
  EXPECT_EQ(echoed.tokens, plain.tokens);
}

TEST(Generator, SequencesStopEachByItself) {
  auto generator = MakeGenerator();
  GenerateRequest request = Sampled("x", 100);
  request.sampling.num_return_sequences = 4;
  request.stop = {"e", "t"};
  const auto outputs = generator->GenerateAll(request).value();
  ASSERT_THAT(outputs, SizeIs(4));
  int finals = 0;
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(outputs[i].sequence_index, i);
    EXPECT_EQ(outputs[i].text.find_first_of("et"), std::string::npos);
    finals += outputs[i].is_final;
    GenerateRequest single = Sampled("x", 100, 3 + i);
    single.stop = request.stop;
    EXPECT_EQ(generator->GenerateAll(single).value()[0].text, outputs[i].text);
  }
  EXPECT_EQ(finals, 1);
}

TEST(Generator, LogProbsAndLogitsBelongToTheTokensKept) {
  auto generator = MakeGenerator();
  GenerateRequest request = Sampled("x", 100);
  request.stop = {"e"};
  request.output = {
      .return_log_probs = true, .return_context_logits = true, .return_generation_logits = true};
  const GenerateOutput output = std::move(generator->GenerateAll(request).value()[0]);
  EXPECT_EQ(output.finish_reason, FinishReason::kStopWords);
  EXPECT_EQ(output.log_probs.size(), output.tokens.size());
  EXPECT_EQ(output.generation_logits.size(), output.tokens.size() * CharTokenizer::kVocabSize);
  EXPECT_EQ(output.context_logits.size(), 1u * CharTokenizer::kVocabSize);
  float sum = 0;
  for (float log_prob : output.log_probs) sum += log_prob;
  EXPECT_NEAR(output.cum_log_prob, sum, 1e-3);
}

TEST(Generator, MessagesGoThroughTheTemplate) {
  auto generator = MakeGenerator(
      "{% for m in messages %}{{ m.role }}: {{ m.content }}.{% endfor %}"
      "{% if add_generation_prompt %}bot:{% endif %}{{ tone }}");
  GenerateRequest request{.messages_json = R"([{"role": "me", "content": "hi"},
      {"role": "you", "content": [{"type": "text", "text": "ha"}, {"type": "text", "text": "lo"}]}])",
                          .max_tokens = 8};
  const auto decoded = [&] {
    return generator->tokenizer().Decode(generator->Encode(request).value(), false).value();
  };
  EXPECT_EQ(decoded(), "me: hi.you: halo.bot:");
  request.template_variables_json = R"({"add_generation_prompt": false, "tone": "soft"})";
  EXPECT_EQ(decoded(), "me: hi.you: halo.soft");
  EXPECT_TRUE(generator->GenerateAll(request).ok());
}

TEST(Generator, RefusesByName) {
  auto generator = MakeGenerator("{{ messages[0].content }}");
  const auto error = [&](const GenerateRequest& request) {
    return generator->GenerateAll(request).status().ToString();
  };
  EXPECT_THAT(error({}), HasSubstr("exactly one of prompt, prompt_ids and messages"));
  EXPECT_THAT(error({.prompt = "a", .prompt_ids = {1}}), HasSubstr("exactly one"));
  EXPECT_THAT(error({.prompt = "a\xff"}), HasSubstr("prompt is not UTF-8: byte 1"));
  EXPECT_THAT(error({.prompt = "a", .stop = {"\xc3"}}), HasSubstr("stop is not UTF-8"));
  EXPECT_THAT(error({.prompt = "a", .bad_words = {"\xc3"}}), HasSubstr("bad_words is not UTF-8"));
  EXPECT_THAT(error({.prompt = "", .add_special_tokens = false}), HasSubstr("prompt"));
  EXPECT_THAT(error({.messages_json = "[{]"}), HasSubstr("messages is not valid JSON"));
  EXPECT_THAT(error({.messages_json = "{}"}), HasSubstr("messages must be a JSON array"));
  EXPECT_THAT(error({.messages_json = "[]"}), HasSubstr("messages is empty"));
  EXPECT_THAT(error({.messages_json = "[3]"}), HasSubstr("messages[0] must be an object"));
  EXPECT_THAT(
      error({.messages_json =
                 R"([{"role": "a", "content": [{"type": "image_url", "image_url": {}}]}])"}),
      HasSubstr("messages[0] has content that is not text"));
  EXPECT_THAT(error({.messages_json = R"([{"role": "a", "content": "b"}])", .tools_json = "3"}),
              HasSubstr("tools must be a JSON array"));
  EXPECT_THAT(error({.prompt = std::string(300, 'a')}), HasSubstr("max_seq_len 256"));
  auto without_template = MakeGenerator();
  EXPECT_THAT(
      without_template->GenerateAll({.messages_json = R"([{"role": "a"}])"}).status().ToString(),
      HasSubstr("no chat template"));
}

TEST(Generator, DestructionAnswersWhatRuns) {
  auto generator = MakeGenerator();
  std::promise<FinishReason> reason;
  GenerateRequest request = Sampled("x", 200);
  ASSERT_TRUE(generator
                  ->Generate(request,
                             [&](GenerateOutput&& output) {
                               if (output.is_final) reason.set_value(output.finish_reason);
                             })
                  .ok());
  generator.reset();
  const FinishReason got = reason.get_future().get();
  EXPECT_TRUE(got == FinishReason::kCancelled || got == FinishReason::kLength);
}

}  // namespace
}  // namespace trireme

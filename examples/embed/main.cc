// SPDX-License-Identifier: Apache-2.0
// Loads an engine folder, sends one prompt, and prints the text as it comes: everything a program
// needs of Trireme in one file. One thread.
//
//   embed ENGINE_DIR TEXT [MAX_TOKENS]
#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>

#include "trireme/executor.h"
#include "trireme/tokenizer.h"

namespace {

int Fail(const trireme::Status& status) {
  std::fprintf(stderr, "embed: %s\n", status.ToString().c_str());
  return 1;
}

// Streams the tokens of one request to standard output as text.
int Generate(trireme::Executor& executor, const trireme::Tokenizer& tokenizer,
             std::string_view text, int max_tokens) {
  auto prompt = tokenizer.Encode(text, /*add_special_tokens=*/true);
  if (!prompt.ok()) return Fail(prompt.status());

  trireme::Request request;
  request.prompt = *prompt;
  request.max_tokens = max_tokens;
  request.streaming = true;
  request.end_id = tokenizer.eos_id();
  request.extra_end_ids = tokenizer.end_ids();
  const auto id = executor.Enqueue(request);
  if (!id.ok()) return Fail(id.status());

  trireme::Detokenizer detokenizer(tokenizer, {});
  for (bool done = false; !done;) {
    for (const trireme::Response& response : executor.AwaitResponses(*id)) {
      if (!response.error.ok()) return Fail(response.error);
      for (const trireme::TokenId token : response.tokens) {
        std::fputs(detokenizer.Append(token).c_str(), stdout);
      }
      std::fflush(stdout);
      done |= response.is_final;
    }
  }
  std::puts(detokenizer.Finish().c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  int max_tokens = 64;
  bool usable = argc == 3 || argc == 4;
  if (argc == 4) {
    const std::string_view number = argv[3];
    const auto parsed = std::from_chars(number.begin(), number.end(), max_tokens);
    usable = parsed.ec == std::errc() && parsed.ptr == number.end() && max_tokens > 0;
  }
  if (!usable) {
    std::fprintf(stderr, "usage: embed ENGINE_DIR TEXT [MAX_TOKENS]\n");
    return 2;
  }
  auto tokenizer = trireme::Tokenizer::Load(argv[1]);  // the engine folder holds a copy
  if (!tokenizer.ok()) return Fail(tokenizer.status());
  auto executor = trireme::Executor::Create(argv[1], {});
  if (!executor.ok()) return Fail(executor.status());
  return Generate(**executor, **tokenizer, argv[2], max_tokens);
}

// SPDX-License-Identifier: Apache-2.0
// Times the tokenizer of a model folder on a text file and prints one JSON object. CPU time of one
// thread; bench/text/compare.py runs it beside other tokenizers.
//
//   tokenizer_bench FOLDER TEXT REPEATS
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "trireme/tokenizer.h"

namespace {

double CpuSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Seconds of each run, sorted.
std::vector<double> Times(int repeats, const std::function<void()>& run) {
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    const double start = CpuSeconds();
    run();
    times.push_back(CpuSeconds() - start);
  }
  std::sort(times.begin(), times.end());
  return times;
}

void Print(const char* name, const std::vector<double>& times, double units) {
  std::printf("\"%s\": {\"median\": %.2f, \"best\": %.2f, \"worst\": %.2f}, ", name,
              units / times[times.size() / 2], units / times.front(), units / times.back());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: tokenizer_bench FOLDER TEXT REPEATS\n");
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  std::stringstream buffer;
  buffer << file.rdbuf();
  const std::string text = buffer.str();
  const int repeats = std::max(1, std::atoi(argv[3]));

  std::unique_ptr<trireme::Tokenizer> tokenizer;
  const std::vector<double> load = Times(repeats, [&] {
    auto loaded = trireme::Tokenizer::Load(argv[1]);
    if (loaded.ok()) tokenizer = std::move(*loaded);
  });
  if (tokenizer == nullptr) {
    std::fprintf(stderr, "%s does not load\n", argv[1]);
    return 1;
  }
  std::vector<int32_t> ids;
  const std::vector<double> encode = Times(repeats, [&] {
    auto encoded = tokenizer->Encode(text, false);
    if (encoded.ok()) ids = std::move(*encoded);
  });
  size_t streamed = 0;
  const std::vector<double> decode =
      Times(repeats, [&] { streamed = tokenizer->Decode(ids, false)->size(); });
  const std::vector<double> stream = Times(repeats, [&] {
    trireme::Detokenizer detokenizer(*tokenizer,
                                     {.skip_special_tokens = false, .stop_strings = {}});
    streamed = 0;
    for (const int32_t id : ids) streamed += detokenizer.Append(id).size();
    streamed += detokenizer.Finish().size();
  });
  const double megabytes = static_cast<double>(text.size()) * 1e-6;
  std::printf("{\"tokens\": %zu, \"bytes\": %zu, \"streamed_bytes\": %zu, ", ids.size(),
              text.size(), streamed);
  Print("encode_mb_s", encode, megabytes);
  Print("decode_mb_s", decode, megabytes);
  Print("stream_mb_s", stream, megabytes);
  std::printf("\"load_ms\": {\"median\": %.1f, \"best\": %.1f, \"first\": %.1f}}\n",
              load[load.size() / 2] * 1e3, load.front() * 1e3, load.back() * 1e3);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "commands.h"

#include <array>

#include "cli.h"

namespace trireme::cli {

std::span<const Command> Commands() {
  static constexpr std::array kCommands = {
      Command{"convert", "convert a Hugging Face folder to a checkpoint", RunConvert},
      Command{"quantize", "quantize a Hugging Face folder to a checkpoint", RunQuantize},
      Command{"build", "compile a checkpoint into an engine", RunBuild},
      Command{"run", "generate text with an engine", RunRun},
      Command{"serve", "serve a model over HTTP", RunServe},
      Command{"launch", "start a server in the background, or end it", RunLaunch},
      Command{"fill-template", "put values for the ${...} of a config.pbtxt", RunFillTemplate},
      Command{"bench", "measure throughput and latency", RunBench},
      Command{"eval", "measure perplexity, summaries, and the distance of two engines", RunEval},
      Command{"inspect", "show what is inside an engine or checkpoint", RunInspect},
      Command{"lora", "merge LoRA adapters into a model, convert their files", RunLora},
      Command{"tokenize", "text to token ids and back", RunTokenize},
  };
  return kCommands;
}

}  // namespace trireme::cli

// SPDX-License-Identifier: Apache-2.0
// Generator::Create: everything from folders. Apart from generator_impl.cc so that a program with
// an executor of its own needs no engine loader.
#include "trireme/generator.h"

#include <utility>

#include "base/status.h"
#include "generate/generator_impl.h"

namespace trireme {

StatusOr<std::unique_ptr<Generator>> Generator::Create(const std::string& engine_dir,
                                                       const ExecutorConfig& config,
                                                       const Options& options) {
  const std::string dir = options.tokenizer_dir.empty() ? engine_dir : options.tokenizer_dir;
  // The tokenizer first: it fails fast, an engine takes its time.
  TRIREME_ASSIGN_OR_RETURN(auto tokenizer, Tokenizer::Load(dir));
  std::unique_ptr<ChatTemplate> chat_template;
  if (!options.chat_template_file.empty()) {
    TRIREME_ASSIGN_OR_RETURN(chat_template,
                             ChatTemplate::LoadFile(options.chat_template_file, dir));
  } else if (auto loaded = ChatTemplate::Load(dir); loaded.ok()) {
    chat_template = std::move(loaded).value();
  } else if (loaded.status().code() != StatusCode::kNotFound) {
    return std::move(loaded).status();
  }
  generate::GenerationDefaults defaults;
  if (options.use_generation_config) {
    TRIREME_ASSIGN_OR_RETURN(defaults, generate::ReadGenerationDefaults(dir));
  }
  TRIREME_ASSIGN_OR_RETURN(auto executor, Executor::Create(engine_dir, config));
  std::unique_ptr<Generator> generator = std::make_unique<generate::GeneratorImpl>(
      std::move(executor), std::move(tokenizer), std::move(chat_template), defaults);
  return generator;
}

}  // namespace trireme

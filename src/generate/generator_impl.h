// SPDX-License-Identifier: Apache-2.0
// GeneratorImpl: Generator over any executor. Thread-safe.
#pragma once

#include <memory>
#include <vector>

#include "generate/generation_defaults.h"
#include "trireme/generator.h"

namespace trireme::generate {

class GeneratorImpl final : public Generator {
 public:
  GeneratorImpl(std::unique_ptr<Executor> executor, std::unique_ptr<Tokenizer> tokenizer,
                std::unique_ptr<ChatTemplate> chat_template, const GenerationDefaults& defaults);

  StatusOr<RequestId> Generate(const GenerateRequest& request, OutputCallback on_output) override;
  StatusOr<std::vector<GenerateOutput>> GenerateAll(const GenerateRequest& request) override;
  void Cancel(RequestId id) override { executor_->Cancel(id); }
  StatusOr<std::vector<TokenId>> Encode(const GenerateRequest& request) const override;

  Executor& executor() override { return *executor_; }
  const Tokenizer& tokenizer() const override { return *tokenizer_; }
  const ChatTemplate* chat_template() const override { return chat_template_.get(); }

 private:
  StatusOr<Request> ToTokens(const GenerateRequest& request) const;
  void SetEndIds(const GenerateRequest& request, Request& tokens) const;

  const std::unique_ptr<Tokenizer> tokenizer_;
  const std::unique_ptr<ChatTemplate> chat_template_;
  const GenerationDefaults defaults_;
  // Last, so first to go: its output thread uses the members above.
  const std::unique_ptr<Executor> executor_;
};

}  // namespace trireme::generate

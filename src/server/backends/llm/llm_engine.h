// SPDX-License-Identifier: Apache-2.0
// A loaded engine with its tokenizer, or, where only token ids pass, without one. Thread-safe.
#pragma once

#include <memory>
#include <string>

#include "trireme/generator.h"

namespace trireme::server {

class LlmEngine {
 public:
  // With everything; shared with whoever made it.
  explicit LlmEngine(std::shared_ptr<Generator> generator);
  // Token ids only.
  explicit LlmEngine(std::shared_ptr<Executor> executor);

  // Loads a folder, or a bare engine file. A tokenizer that is not there is an error only when
  // `needs_text`.
  static StatusOr<std::unique_ptr<LlmEngine>> Load(const std::string& path, bool needs_text,
                                                   const ExecutorConfig& config,
                                                   Generator::Options options);

  // Each output goes to `on_output` on one thread of the executor. Without `as_text` outputs carry
  // token ids only.
  StatusOr<RequestId> Start(const GenerateRequest& request, bool as_text,
                            Generator::OutputCallback on_output);
  void Cancel(RequestId id) { executor_->Cancel(id); }

  Generator* generator() { return generator_.get(); }
  const std::shared_ptr<Executor>& executor() const { return executor_; }
  std::vector<TokenId> end_ids() const;

 private:
  const std::shared_ptr<Generator> generator_;  // null: token ids only
  const std::shared_ptr<Executor> executor_;    // the generator's, if there is one
};

}  // namespace trireme::server

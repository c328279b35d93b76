// SPDX-License-Identifier: Apache-2.0
// One OpenAI request on its way: the calls it became, and the answer they make together. Thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "server/core/server_core.h"
#include "server/frontends/openai/openai_reply.h"

namespace trireme::server {

class OpenAiJob : public std::enable_shared_from_this<OpenAiJob> {
 public:
  struct Params {
    std::shared_ptr<HttpExchange> exchange;
    std::shared_ptr<Model> model;  // of text
    OpenAiAnswer answer;
    bool stream = false;
    int num_top_log_probs = 0;
    int choices_per_prompt = 1;
    std::vector<std::string> echoes;  // for each prompt: what its texts begin with
  };
  explicit OpenAiJob(Params params);

  // Starts one call for each generation; the exchange is answered in any case.
  void Start(ServerCore& core, std::vector<GenerateRequest> generations);

 private:
  void OnResponse(size_t prompt, InferResponse&& response);
  void Take(size_t prompt, GenerateOutput&& output) REQUIRES(mutex_);
  void Stream(OpenAiChoice& choice, bool is_final) REQUIRES(mutex_);
  void Begin() REQUIRES(mutex_);
  void Finish() REQUIRES(mutex_);
  // The first failure is the answer, and ends all calls.
  void Fail(const Status& status);
  void CancelAll();

  const Params params_;
  Mutex mutex_;
  // Weak: a call holds this job until it has ended.
  std::vector<std::weak_ptr<InferCall>> calls_ GUARDED_BY(mutex_);
  std::vector<OpenAiChoice> choices_ GUARDED_BY(mutex_);
  std::vector<bool> begun_ GUARDED_BY(mutex_);             // of a stream: the choice has events
  std::vector<bool> has_prompt_usage_ GUARDED_BY(mutex_);  // by prompt
  OpenAiUsage usage_ GUARDED_BY(mutex_);
  size_t num_open_ GUARDED_BY(mutex_);  // prompts
  bool stream_begun_ GUARDED_BY(mutex_) = false;
  bool failed_ GUARDED_BY(mutex_) = false;
};

}  // namespace trireme::server

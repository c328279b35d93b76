// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/openai/openai_job.h"

#include "base/status.h"
#include "server/error_reply.h"

namespace trireme::server {

OpenAiJob::OpenAiJob(Params params) : params_(std::move(params)) {
  const size_t num_prompts = params_.echoes.size();
  const auto per_prompt = static_cast<size_t>(params_.choices_per_prompt);
  choices_.resize(num_prompts * per_prompt);
  for (size_t i = 0; i < choices_.size(); ++i) {
    choices_[i].index = static_cast<int>(i);
    choices_[i].text = params_.echoes[i / per_prompt];
    choices_[i].text_offset = CountCharacters(choices_[i].text);
  }
  begun_.resize(choices_.size());
  has_prompt_usage_.resize(num_prompts);
  num_open_ = num_prompts;
}

void OpenAiJob::Start(ServerCore& core, std::vector<GenerateRequest> generations) {
  for (size_t i = 0; i < generations.size(); ++i) {
    InferRequest request;
    request.model_name = params_.answer.model;
    request.generation = std::make_shared<const GenerateRequest>(std::move(generations[i]));
    const auto call =
        core.Infer(params_.model, std::move(request),
                   [self = shared_from_this(), i](InferCall&, InferResponse&& response) {
                     self->OnResponse(i, std::move(response));
                   });
    if (!call.ok()) return Fail(call.status());
    bool failed = false;
    {
      MutexLock lock(mutex_);
      calls_.push_back(*call);
      failed = failed_;
    }
    if (failed) return CancelAll();
  }
  params_.exchange->OnDisconnect([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->CancelAll();
  });
}

void OpenAiJob::CancelAll() {
  std::vector<std::weak_ptr<InferCall>> calls;
  {
    MutexLock lock(mutex_);
    calls = calls_;
  }
  // Without the lock: a call that has not begun answers at once.
  for (const auto& weak : calls) {
    if (const auto call = weak.lock()) call->Cancel();
  }
}

void OpenAiJob::Fail(const Status& status) {
  {
    MutexLock lock(mutex_);
    if (failed_) return;
    failed_ = true;
    if (!stream_begun_) {
      params_.exchange->Send(
          OpenAiErrorResponse(status, FieldNamedBy(params_.answer.kind, status.message())));
    } else {
      params_.exchange->Write("data: " + MakeOpenAiError(status).json + "\n\n");
      params_.exchange->End();
    }
  }
  CancelAll();
}

void OpenAiJob::OnResponse(size_t prompt, InferResponse&& response) {
  if (!response.error.ok()) return Fail(response.error);
  MutexLock lock(mutex_);
  if (failed_ || response.generated == nullptr) return;
  Take(prompt, std::move(*response.generated));
  if (response.is_final && --num_open_ == 0) Finish();
}

void OpenAiJob::Take(size_t prompt, GenerateOutput&& output) {
  const size_t index = prompt * static_cast<size_t>(params_.choices_per_prompt) +
                       static_cast<size_t>(output.sequence_index);
  OpenAiChoice& choice = choices_.at(index);
  choice.text += output.text;
  if (params_.answer.log_probs) {
    auto tokens = LogProbsOf(output, params_.model->backend().generator()->tokenizer(),
                             params_.num_top_log_probs);
    choice.tokens.insert(choice.tokens.end(), std::make_move_iterator(tokens.begin()),
                         std::make_move_iterator(tokens.end()));
  }
  if (!has_prompt_usage_[prompt]) {
    has_prompt_usage_[prompt] = true;
    usage_.prompt_tokens += output.num_prompt_tokens;
    usage_.cached_tokens += output.num_cached_tokens;
  }
  if (output.is_sequence_final) {
    usage_.completion_tokens += output.num_output_tokens;
    choice.finish_reason = output.finish_reason;
  }
  if (params_.stream) Stream(choice, output.is_sequence_final);
}

void OpenAiJob::Begin() {
  if (stream_begun_) return;
  stream_begun_ = true;
  HttpResponse head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers["Cache-Control"] = "no-cache";
  params_.exchange->BeginStream(std::move(head));
}

void OpenAiJob::Stream(OpenAiChoice& choice, bool is_final) {
  const bool chat = params_.answer.kind == OpenAiKind::kChat;
  const bool has_news = !choice.text.empty() || !choice.tokens.empty();
  if (!has_news && !is_final) return;
  Begin();
  std::string events;
  const auto index = static_cast<size_t>(choice.index);
  if (chat && !begun_[index]) events += RoleEvent(params_.answer, choice.index);
  begun_[index] = true;
  const FinishReason reason = std::exchange(choice.finish_reason, FinishReason::kNotFinished);
  // A chat's last event says why and nothing else.
  if (has_news && (chat || !is_final)) events += ChoiceEvent(params_.answer, choice);
  if (is_final) {
    if (chat) {
      choice.text.clear();
      choice.tokens.clear();
    }
    choice.finish_reason = reason;
    events += ChoiceEvent(params_.answer, choice);
  }
  for (const OpenAiToken& token : choice.tokens) {
    choice.text_offset += CountCharacters(token.chosen.bytes);
  }
  choice.text.clear();
  choice.tokens.clear();
  params_.exchange->Write(std::move(events));
}

void OpenAiJob::Finish() {
  if (!params_.stream) {
    params_.exchange->Send(JsonResponse(WholeReply(params_.answer, choices_, usage_)));
    return;
  }
  Begin();
  if (params_.answer.include_usage) params_.exchange->Write(UsageEvent(params_.answer, usage_));
  params_.exchange->Write("data: [DONE]\n\n");
  params_.exchange->End();
}

}  // namespace trireme::server

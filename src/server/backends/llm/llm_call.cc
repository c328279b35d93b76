// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/llm_call.h"

#include "base/status.h"

namespace trireme::server {
namespace {

// A text that was broken off is a failure to whoever asked for it, and in the statistics.
Status BrokenOff(FinishReason reason) {
  if (reason == FinishReason::kCancelled) {
    return Cancelled("the generation was cancelled before its end");
  }
  if (reason == FinishReason::kTimedOut) {
    return DeadlineExceeded("the generation reached its timeout before its end");
  }
  return OkStatus();
}

}  // namespace

LlmCall::LlmCall(std::shared_ptr<InferCall> call, LlmBatch batch, const LlmFace* face,
                 const std::shared_ptr<LlmEngine>& engine, LlmMetrics& metrics)
    : call_(std::move(call)),
      batch_(std::move(batch)),
      face_(face),
      engine_(engine),
      metrics_(metrics),
      num_open_(static_cast<int>(batch_.requests.size())),
      rows_(batch_.requests.size()) {}

void LlmCall::Start(bool as_text) {
  call_->OnCancel([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->CancelAll();
  });
  const std::shared_ptr<LlmEngine> engine = engine_.lock();
  const size_t num_rows = batch_.requests.size();
  for (size_t row = 0; row < num_rows; ++row) {
    const StatusOr<RequestId> id =
        engine->Start(batch_.requests[row].generate, as_text,
                      [self = shared_from_this(), row](GenerateOutput&& output) {
                        self->OnOutput(row, std::move(output));
                      });
    if (!id.ok()) {
      // Those begun before still answer, to nobody.
      Abort(id.status());
      if (EndRows(static_cast<int>(num_rows - row))) FinishFailed();
      return;
    }
    bool cancelled = false;
    {
      MutexLock lock(mutex_);
      ids_.push_back(*id);
      cancelled = cancelled_;
    }
    if (cancelled) engine->Cancel(*id);
  }
}

void LlmCall::Stop() {
  stopped_ = true;
  CancelAll();
}

void LlmCall::CancelAll() {
  std::vector<RequestId> ids;
  {
    MutexLock lock(mutex_);
    cancelled_ = true;
    ids = ids_;
  }
  const std::shared_ptr<LlmEngine> engine = engine_.lock();
  if (engine == nullptr) return;
  for (const RequestId id : ids) engine->Cancel(id);
}

void LlmCall::Abort(Status error) {
  {
    MutexLock lock(mutex_);
    if (error_.ok()) error_ = std::move(error);
  }
  CancelAll();
}

void LlmCall::FinishFailed() {
  Status error;
  {
    MutexLock lock(mutex_);
    error = error_;
  }
  call_->Fail(std::move(error));
}

void LlmCall::Measure(Row& row, const GenerateOutput& output) {
  const bool is_first_of_row = row.generated.empty();
  Row::Generated& generated = row.generated[output.sequence_index];
  const int count = output.num_output_tokens - generated.num_tokens;
  if (count <= 0) return;
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  metrics_.output_tokens.Add(count);
  if (is_first_of_row) {
    metrics_.prompt_tokens.Add(output.num_prompt_tokens);
    metrics_.first_token_s.Observe(seconds(output.times.first - begin_), 1);
  }
  // A sequence's first token ends no gap.
  const bool is_first = generated.num_tokens == 0;
  const int num_gaps = is_first ? count - 1 : count;
  if (num_gaps > 0) {
    const double span_s =
        seconds(output.times.last - (is_first ? output.times.first : generated.last));
    metrics_.inter_token_s.Observe(span_s / num_gaps, num_gaps);
  }
  generated = {.num_tokens = output.num_output_tokens, .last = output.times.last};
}

void LlmCall::Respond(InferResponse response, bool is_final) {
  response.is_final = is_final;
  // The reference's answers carry these, and clients of its ensemble print them.
  response.parameters = {
      {"sequence_id", int64_t{0}}, {"sequence_start", false}, {"sequence_end", false}};
  call_->Respond(std::move(response));
}

void LlmCall::OnOutput(size_t index, GenerateOutput&& output) {
  Measure(rows_[index], output);
  const bool is_final = output.is_final;
  Status error = output.error;
  if (error.ok() && !stopped_) error = BrokenOff(output.finish_reason);
  if (!error.ok()) {
    // Whoever reads a stream still gets what was held back of it.
    const bool has_news = !output.tokens.empty() || !output.text.empty();
    const bool streams = batch_.requests[index].generate.streaming && !batch_.gather;
    if (face_ != nullptr && streams && has_news && !HasFailed()) {
      RespondPiece(index, std::move(output), /*is_final=*/false);
    }
    Abort(std::move(error));
  }
  const bool was_last = is_final && EndRows(1);
  if (HasFailed()) {
    if (was_last) FinishFailed();
    return;
  }
  if (face_ == nullptr) {
    InferResponse response;
    response.is_final = was_last;
    response.generated = std::make_shared<GenerateOutput>(std::move(output));
    return call_->Respond(std::move(response));
  }
  if (!batch_.gather) return RespondPiece(index, std::move(output), was_last);
  gathered_.push_back({.row = index, .output = std::move(output)});
  if (was_last) Respond(face_->ToResponse(gathered_, batch_), true);
}

void LlmCall::RespondPiece(size_t index, GenerateOutput&& output, bool is_final) {
  LlmPiece piece{.row = index, .output = std::move(output)};
  if (batch_.requests[index].generate.streaming) {
    std::shared_ptr<PieceStream>& stream = rows_[index].streams[piece.output.sequence_index];
    if (stream == nullptr) stream = std::make_shared<PieceStream>();
    piece.stream = stream;
  }
  Respond(face_->ToResponse({&piece, 1}, batch_), is_final);
}

bool LlmCall::HasFailed() {
  MutexLock lock(mutex_);
  return !error_.ok();
}

}  // namespace trireme::server

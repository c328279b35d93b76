// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/llm_call.h"

#include "base/status.h"

namespace trireme::server {

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
  int& num_tokens = row.num_tokens[output.sequence_index];
  const auto count = static_cast<double>(output.num_output_tokens - num_tokens);
  if (count <= 0) return;
  num_tokens = output.num_output_tokens;
  const Clock::time_point now = Clock::now();
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  metrics_.output_tokens.Add(count);
  if (!row.last_token) {
    metrics_.prompt_tokens.Add(output.num_prompt_tokens);
    metrics_.first_token_s.Observe(seconds(now - begin_));
  } else {
    metrics_.inter_token_s.Observe(seconds(now - *row.last_token) / count);
  }
  row.last_token = now;
}

void LlmCall::Respond(InferResponse response, bool is_final) {
  response.is_final = is_final;
  // The reference's answers carry these, and clients of its ensemble print them.
  response.parameters = {
      {"sequence_id", int64_t{0}}, {"sequence_start", false}, {"sequence_end", false}};
  call_->Respond(std::move(response));
}

void LlmCall::OnOutput(size_t index, GenerateOutput&& output) {
  Row& row = rows_[index];
  Measure(row, output);
  if (!output.error.ok()) Abort(output.error);
  const bool was_last = output.is_final && EndRows(1);
  bool failed = false;
  {
    MutexLock lock(mutex_);
    failed = !error_.ok();
  }
  if (failed) {
    if (was_last) FinishFailed();
    return;
  }
  if (face_ == nullptr) {
    InferResponse response;
    response.is_final = was_last;
    response.generated = std::make_shared<GenerateOutput>(std::move(output));
    return call_->Respond(std::move(response));
  }
  LlmPiece piece{.row = index, .output = std::move(output)};
  if (batch_.gather) {
    gathered_.push_back(std::move(piece));
    if (was_last) Respond(face_->ToResponse(gathered_, batch_), true);
    return;
  }
  if (batch_.requests[index].generate.streaming) {
    std::shared_ptr<PieceStream>& stream = row.streams[piece.output.sequence_index];
    if (stream == nullptr) stream = std::make_shared<PieceStream>();
    piece.stream = stream;
  }
  Respond(face_->ToResponse({&piece, 1}, batch_), was_last);
}

}  // namespace trireme::server

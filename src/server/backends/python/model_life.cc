// SPDX-License-Identifier: Apache-2.0
#include "server/backends/python/model_life.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "base/log.h"
#include "base/status.h"

namespace trireme::server {
namespace {

constexpr size_t kLastWords = 4096;

using Kind = ProcessMessage::Kind;

}  // namespace

StatusOr<std::shared_ptr<ModelLife>> ModelLife::Begin(const ModelProgram& program) {
  TRIREME_ASSIGN_OR_RETURN(ChildProcess child, ChildProcess::Spawn(program.command));
  std::shared_ptr<ModelLife> life(new ModelLife(program, std::move(child)));
  OutgoingMessage start("start");
  start.json().update(program.start);
  TRIREME_RETURN_IF_ERROR(life->channel_->Send(start));
  return life;
}

ModelLife::ModelLife(const ModelProgram& program, ChildProcess child)
    : program_(program),
      child_(std::move(child)),
      channel_(std::make_shared<ModelChannel>(std::move(child_.socket()))),
      nested_(std::make_shared<NestedCalls>(program.caller, channel_)),
      deadline_ns_(NowNs() + program.start_timeout_ms * 1000000) {}

int ModelLife::TimeLeftMs() const {
  const int64_t deadline = deadline_ns_.load();
  if (deadline == 0) return -1;
  return static_cast<int>(std::clamp<int64_t>((deadline - NowNs()) / 1000000 + 1, 0, 60000));
}

Status ModelLife::Run(const std::function<void(const ProcessMessage&)>& on_first) {
  while (Step(on_first)) {
  }
  channel_->Close();
  const std::string how = child_.Reap();
  (void)LogOutput(child_.stdout_fd(), "stdout", stdout_);
  (void)LogOutput(child_.stderr_fd(), "stderr", stderr_);
  LogLine("stdout", stdout_.TakeRest());
  LogLine("stderr", stderr_.TakeRest());
  Status why = end_;
  if (why.ok() && !finalized_) {
    why = Internal("the process of model instance '{}' ended: {}{}", program_.instance, how,
                   first_seen_ ? "" : "\n" + last_words_);
  }
  nested_->CancelAll();
  Bury(why);
  return why;
}

bool ModelLife::Step(const std::function<void(const ProcessMessage&)>& on_first) {
  pollfd fds[] = {{channel_->fd(), POLLIN, 0},
                  {channel_->wake_fd(), POLLIN, 0},
                  {stdout_open_ ? child_.stdout_fd() : -1, POLLIN, 0},
                  {stderr_open_ ? child_.stderr_fd() : -1, POLLIN, 0}};
  if (channel_->has_unsent()) fds[0].events |= POLLOUT;
  const int ready = ::poll(fds, std::size(fds), TimeLeftMs());
  if (killed_.load()) return false;
  if (ready < 0) return errno == EINTR;
  if (ready == 0 && TimeLeftMs() == 0) {
    if (end_.ok() && !first_seen_) {
      end_ = DeadlineExceeded(
          "model instance '{}' was not initialised within {} seconds; "
          "--backend-config=python,initialize-timeout-seconds=N gives it more",
          program_.instance, program_.start_timeout_ms / 1000);
    }
    return false;
  }
  if ((fds[0].revents & POLLOUT) != 0 || fds[1].revents != 0) channel_->WriteUnsent();
  if (fds[2].revents != 0) stdout_open_ = LogOutput(fds[2].fd, "stdout", stdout_);
  if (fds[3].revents != 0) stderr_open_ = LogOutput(fds[3].fd, "stderr", stderr_);
  return (fds[0].revents & (POLLIN | POLLHUP | POLLERR)) == 0 || ReceiveMessages(on_first);
}

bool ModelLife::ReceiveMessages(const std::function<void(const ProcessMessage&)>& on_first) {
  std::vector<ModelChannel::Received> messages;
  bool ended = false;
  if (const Status status = channel_->Receive(messages, ended); !status.ok()) {
    end_ = Internal("the process of model instance '{}' was ended: {}", program_.instance,
                    status.message());
    return false;
  }
  for (ModelChannel::Received& received : messages) {
    const Kind kind = received.message.kind;
    if (kind == Kind::kFailed) {
      end_ = Internal("{}", received.message.text);
      return false;
    }
    if (!first_seen_ && (kind == Kind::kStarted || kind == Kind::kCompleted)) {
      first_seen_ = true;
      deadline_ns_.store(kind == Kind::kCompleted ? NowNs() + program_.end_timeout_ms * 1000000
                                                  : 0);
      finalized_ = kind == Kind::kCompleted;
      on_first(received.message);
      continue;
    }
    Handle(std::move(received));
  }
  return !ended;
}

void ModelLife::Handle(ModelChannel::Received received) {
  ProcessMessage& message = received.message;
  switch (message.kind) {
    case Kind::kResponse: return OnResponse(std::move(received));
    case Kind::kExecuted: {
      MutexLock lock(mutex_);
      batches_.erase(message.number);
      return changed_.NotifyAll();
    }
    case Kind::kInfer:
      message.request.inputs = std::move(received.tensors);
      return nested_->Start(message.number, std::move(message.request), message.flag);
    case Kind::kInferCancel: return nested_->Cancel(message.number);
    case Kind::kIsModelReady:
      return nested_->AnswerIsModelReady(message.number, message.request.model_name, message.text);
    case Kind::kIsReady: {
      MutexLock lock(mutex_);
      const auto question = readiness_.find(message.number);
      if (question != readiness_.end()) question->second = message.flag;
      batches_.erase(message.number);
      return changed_.NotifyAll();
    }
    case Kind::kLog: {
      const LogLevel level = message.level == "error"     ? LogLevel::kError
                             : message.level == "warning" ? LogLevel::kWarning
                             : message.level == "debug"   ? LogLevel::kDebug
                                                          : LogLevel::kInfo;
      return Log(level, "model_log instance={} text=\"{}\"", program_.instance, message.text);
    }
    case Kind::kFinalized: finalized_ = true; return;
    default: return;  // a second start, or what the channel has dealt with
  }
}

void ModelLife::OnResponse(ModelChannel::Received received) {
  std::shared_ptr<InferCall> call;
  {
    MutexLock lock(mutex_);
    const auto found = pending_.find(received.message.number);
    if (found == pending_.end()) return;  // it has had its last one
    call = found->second.call;
    // Once its batch is over the marks belong to others.
    const bool marks = batches_.count(found->second.batch) > 0;
    if (marks && call->times.output_begin == 0) call->times.output_begin = NowNs();
    if (received.message.response.is_final) pending_.erase(found);
  }
  InferResponse response = std::move(received.message.response);
  response.outputs = std::move(received.tensors);
  call->Respond(std::move(response));
}

Status ModelLife::Execute(Execution& execution) {
  OutgoingMessage message("execute");
  std::vector<uint64_t> numbers;
  uint64_t batch = 0;
  {
    MutexLock lock(mutex_);
    if (over_) return Unavailable("model instance '{}' has no process", program_.instance);
    batch = next_number_++;
    batches_.insert(batch);
    for (const auto& call : execution.calls()) {
      numbers.push_back(next_number_++);
      pending_[numbers.back()] = {call, batch};
    }
  }
  Json requests = Json::array();
  for (size_t i = 0; i < numbers.size(); ++i) {
    requests.push_back(
        RequestJson(execution.calls()[i]->request(), numbers[i], program_.outputs, message));
    for (const std::string& state : program_.states) requests.back()["outputs"].push_back(state);
  }
  message.json()["batch"] = batch;
  message.json()["requests"] = std::move(requests);
  execution.InputsReady();
  if (Status sent = channel_->Send(message); !sent.ok()) {
    MutexLock lock(mutex_);
    // A life that has ended meanwhile has answered them.
    const bool ours = !over_;
    for (const uint64_t number : numbers) pending_.erase(number);
    batches_.erase(batch);
    return ours ? sent : OkStatus();
  }
  for (size_t i = 0; i < numbers.size(); ++i) {
    execution.calls()[i]->OnCancel([weak = weak_from_this(), number = numbers[i]] {
      if (const auto self = weak.lock()) self->SendCancel(number);
    });
  }
  MutexLock lock(mutex_);
  while (!over_ && batches_.count(batch) > 0) changed_.Wait(mutex_);
  return OkStatus();
}

void ModelLife::SendCancel(uint64_t number) {
  OutgoingMessage message("cancel");
  message.json()["request"] = number;
  (void)channel_->Send(message).ok();  // a process that is gone has nothing to cancel
}

bool ModelLife::AskIsReady(int64_t timeout_ms) {
  OutgoingMessage message("is_ready");
  uint64_t number = 0;
  {
    MutexLock lock(mutex_);
    if (over_) return false;
    number = next_number_++;
    batches_.insert(number);
    readiness_[number] = false;
  }
  message.json()["call"] = number;
  const bool sent = channel_->Send(message).ok();
  const int64_t end_ns = NowNs() + timeout_ms * 1000000;
  MutexLock lock(mutex_);
  while (sent && !over_ && batches_.count(number) > 0 && NowNs() < end_ns) {
    changed_.WaitFor(mutex_, std::chrono::nanoseconds(end_ns - NowNs()));
  }
  batches_.erase(number);
  const bool ready = readiness_[number];
  readiness_.erase(number);
  return ready && !over_;
}

void ModelLife::End() {
  deadline_ns_.store(NowNs() + program_.end_timeout_ms * 1000000);
  OutgoingMessage message("finalize");
  (void)channel_->Send(message).ok();  // a process that is gone has ended already
  channel_->Wake();
}

void ModelLife::Kill() {
  killed_.store(true);
  channel_->Wake();
}

void ModelLife::Bury(const Status& why) {
  std::map<uint64_t, Pending> left;
  {
    MutexLock lock(mutex_);
    over_ = true;
    left.swap(pending_);
    changed_.NotifyAll();
  }
  const Status status = why.ok() ? Unavailable("model instance '{}' was ended", program_.instance)
                                 : Internal("{}; it had this request", why.message());
  for (const auto& [number, pending] : left) pending.call->Fail(status);
}

bool ModelLife::LogOutput(int fd, std::string_view stream, LineReader& reader) {
  char buffer[4096];
  // Bounded, so that a model that writes without end cannot keep its messages from being read.
  for (int i = 0; i < 16; ++i) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got <= 0) return got < 0 && (errno == EAGAIN || errno == EINTR);
    for (const std::string& line : reader.Feed({buffer, static_cast<size_t>(got)})) {
      LogLine(stream, line);
    }
  }
  return true;
}

void ModelLife::LogLine(std::string_view stream, const std::string& line) {
  if (line.empty()) return;
  LogInfo("model_output instance={} stream={} line=\"{}\"", program_.instance, stream, line);
  if (first_seen_) return;
  last_words_ += line + "\n";
  if (last_words_.size() > kLastWords) last_words_.erase(0, last_words_.size() - kLastWords);
}

}  // namespace trireme::server

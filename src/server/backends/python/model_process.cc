// SPDX-License-Identifier: Apache-2.0
#include "server/backends/python/model_process.h"

#include <algorithm>
#include <chrono>

#include "base/log.h"
#include "base/status.h"

namespace trireme::server {
namespace {

constexpr int64_t kFirstPauseMs = 100;
constexpr int64_t kLongestPauseMs = 5000;
constexpr int64_t kLongLifeNs =
    10'000'000'000;  // a process that lived so long starts again at once
constexpr int64_t kIsReadyMs = 5000;

}  // namespace

ModelProcess::ModelProcess(ModelProgram program) : program_(std::move(program)) {
  thread_ = std::thread([this] { Supervise(); });
}

ModelProcess::~ModelProcess() {
  End();
  thread_.join();
}

void ModelProcess::Supervise() {
  while (true) {
    const int64_t begin_ns = NowNs();
    StatusOr<std::shared_ptr<ModelLife>> life = ModelLife::Begin(program_);
    Status why = life.status();
    if (life.ok()) {
      bool stop = false;
      {
        MutexLock lock(mutex_);
        life_ = *life;
        stop = stopping_;
      }
      if (stop) (*life)->End();
      why = (*life)->Run([this](const ProcessMessage& first) {
        MutexLock lock(mutex_);
        state_ = State::kReady;
        ever_ready_ = true;
        has_is_ready_ = first.flag;
        changed_.NotifyAll();
      });
    }
    if (!AfterLife(why, NowNs() - begin_ns)) return;
  }
}

bool ModelProcess::AfterLife(const Status& why, int64_t lived_ns) {
  MutexLock lock(mutex_);
  const bool was_ready = state_ == State::kReady;
  life_ = nullptr;
  // While it comes back, requests wait for it; once a start has failed they do not.
  state_ = was_ready && !stopping_ ? State::kStarting : State::kDown;
  why_down_ = why.ok() ? Unavailable("model instance '{}' was ended", program_.instance) : why;
  changed_.NotifyAll();
  if (stopping_ || !ever_ready_) return false;
  pause_ms_ = was_ready && lived_ns > kLongLifeNs
                  ? 0
                  : std::clamp(2 * pause_ms_, kFirstPauseMs, kLongestPauseMs);
  LogError("model_process_ended instance={} restart_in_ms={} reason=\"{}\"", program_.instance,
           pause_ms_, why_down_.message());
  const int64_t end_ns = NowNs() + pause_ms_ * 1000000;
  while (!stopping_ && NowNs() < end_ns) {
    changed_.WaitFor(mutex_, std::chrono::nanoseconds(end_ns - NowNs()));
  }
  return !stopping_;
}

Status ModelProcess::WaitUntilStarted() {
  MutexLock lock(mutex_);
  while (state_ == State::kStarting) changed_.Wait(mutex_);
  return state_ == State::kReady ? OkStatus() : why_down_;
}

StatusOr<std::shared_ptr<ModelLife>> ModelProcess::WaitForLife() {
  MutexLock lock(mutex_);
  while (state_ == State::kStarting && !stopping_) changed_.Wait(mutex_);
  if (state_ == State::kReady && !stopping_) return life_;
  return Unavailable("Stub process '{}' is not healthy: {}", program_.instance,
                     stopping_ ? "the model is being unloaded" : why_down_.message());
}

void ModelProcess::Execute(Execution& execution) {
  const StatusOr<std::shared_ptr<ModelLife>> life = WaitForLife();
  const Status status = life.ok() ? (*life)->Execute(execution) : life.status();
  if (status.ok()) return;
  for (const auto& call : execution.calls()) call->Fail(status);
}

bool ModelProcess::ready() {
  std::shared_ptr<ModelLife> life;
  {
    MutexLock lock(mutex_);
    if (state_ != State::kReady) return false;
    if (!has_is_ready_) return true;
    life = life_;
  }
  return life->AskIsReady(kIsReadyMs);
}

void ModelProcess::End() {
  std::shared_ptr<ModelLife> life;
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    life = life_;
    changed_.NotifyAll();
  }
  if (life != nullptr) life->End();
}

void ModelProcess::Kill() {
  std::shared_ptr<ModelLife> life;
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    life = life_;
    changed_.NotifyAll();
  }
  if (life != nullptr) life->Kill();
}

}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
#include "server/backends/pacer.h"

#include <algorithm>
#include <chrono>

#include "base/status.h"

namespace trireme::server {

Pacer::Pacer() : thread_([this] { Run(); }) {}

Pacer::~Pacer() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    changed_.NotifyAll();
  }
  thread_.join();
  for (auto& [due_ns, job] : jobs_) job.call->Fail(Cancelled("the model is being unloaded"));
}

// When the next response goes out, one having gone now.
int64_t Pacer::DueNs(const Job& job) {
  return NowNs() + (job.next < job.responses.size() ? job.responses[job.next].delay_ns : 0);
}

void Pacer::Send(const std::shared_ptr<InferCall>& call, std::vector<Timed> responses) {
  Job job{.call = call, .responses = std::move(responses)};
  MutexLock lock(mutex_);
  jobs_.emplace(DueNs(job), std::move(job));
  changed_.NotifyAll();
}

bool Pacer::Step(Job& job) {
  if (job.call->cancelled()) {
    job.call->Fail(Cancelled(""));
    return false;
  }
  if (job.next == job.responses.size()) {
    job.call->Finish();
    return false;
  }
  InferResponse response = std::move(job.responses[job.next++].response);
  response.is_final = false;
  job.call->Respond(std::move(response));
  return true;
}

void Pacer::Run() {
  // A cancelled call is noticed at least this often.
  constexpr int64_t kLook_ns = 20 * 1000000;
  while (true) {
    Job job;
    {
      MutexLock lock(mutex_);
      while (!stopping_ && (jobs_.empty() || jobs_.begin()->first > NowNs())) {
        if (jobs_.empty()) {
          changed_.Wait(mutex_);
          continue;
        }
        if (jobs_.begin()->second.call->cancelled()) break;
        const int64_t wait_ns = std::min(jobs_.begin()->first - NowNs(), kLook_ns);
        changed_.WaitFor(mutex_, std::chrono::nanoseconds(std::max<int64_t>(wait_ns, 1)));
      }
      if (stopping_) return;
      job = std::move(jobs_.extract(jobs_.begin()).mapped());
    }
    if (!Step(job)) continue;
    MutexLock lock(mutex_);
    jobs_.emplace(DueNs(job), std::move(job));
  }
}

}  // namespace trireme::server

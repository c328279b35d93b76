// SPDX-License-Identifier: Apache-2.0
// Streams, events and captured graphs, owned. Move-only; not thread-safe.
#pragma once

#include <cuda_runtime_api.h>

#include <utility>

#include "base/status.h"

namespace trireme::cuda {

// A CUDA handle with its destructor.
template <typename Handle, cudaError_t (*kDestroy)(Handle)>
class Owned {
 public:
  Owned() = default;
  explicit Owned(Handle handle) : handle_(handle) {}
  Owned(Owned&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Owned& operator=(Owned&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Owned() {
    if (handle_ != nullptr) kDestroy(handle_);
  }

  Handle get() const { return handle_; }

 private:
  Handle handle_ = nullptr;
};

class Stream : public Owned<cudaStream_t, cudaStreamDestroy> {
 public:
  using Owned::Owned;
  static StatusOr<Stream> Create();
  Status Synchronize() const;
};

// Without timing.
class Event : public Owned<cudaEvent_t, cudaEventDestroy> {
 public:
  using Owned::Owned;
  static StatusOr<Event> Create();
  Status Record(const Stream& stream) const;
  // Waits on the host.
  Status Synchronize() const;
};

class TimedEvent : public Owned<cudaEvent_t, cudaEventDestroy> {
 public:
  using Owned::Owned;
  static StatusOr<TimedEvent> Create();
  Status Record(cudaStream_t stream) const;
  // Waits on the host.
  Status Synchronize() const;
  // From `begin` to this one; both have passed.
  StatusOr<double> MicrosecondsSince(const TimedEvent& begin) const;
};

// A graph ready to be launched again and again.
class GraphExec : public Owned<cudaGraphExec_t, cudaGraphExecDestroy> {
 public:
  using Owned::Owned;
  // Captures what `record` (callable returning Status) submits to `stream`.
  template <typename Record>
  static StatusOr<GraphExec> Capture(const Stream& stream, Record&& record) {
    TRIREME_RETURN_IF_ERROR(BeginCapture(stream));
    const Status recorded = record();
    return EndCapture(stream, recorded);
  }
  Status Launch(const Stream& stream) const;

 private:
  static Status BeginCapture(const Stream& stream);
  // Ends the capture in any case; `recorded` goes before errors of its own.
  static StatusOr<GraphExec> EndCapture(const Stream& stream, const Status& recorded);
};

}  // namespace trireme::cuda

// SPDX-License-Identifier: Apache-2.0
// The server's end of the socket to a model process. Anybody may send and nobody waits for it: what
// the socket does not take is kept for the one thread that receives.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "server/backends/python/frame.h"
#include "server/backends/python/messages.h"
#include "server/backends/python/shared_buffers.h"

namespace trireme::server {

// Shared: tensors that lie in the process's memory give it back through the channel.
class ModelChannel : public std::enable_shared_from_this<ModelChannel> {
 public:
  explicit ModelChannel(Descriptor socket);

  // UNAVAILABLE once the channel is closed or when the process has not read for too long.
  Status Send(OutgoingMessage& message) EXCLUDES(mutex_);
  // After the process is gone: nothing is sent any more.
  void Close() EXCLUDES(mutex_);

  // For the receiving thread.
  struct Received {
    ProcessMessage message;
    std::vector<Tensor> tensors;
  };
  int fd() const { return socket_.get(); }
  // Readable after Wake, which Send calls when something waits to be written.
  int wake_fd() const { return wake_.get(); }
  void Wake();
  bool has_unsent() EXCLUDES(mutex_);
  void WriteUnsent() EXCLUDES(mutex_);
  // Appends the messages that have come; `ended`: the process has closed its end. Messages about
  // buffers are dealt with here. An error: the process does not keep to the protocol.
  Status Receive(std::vector<Received>& messages, bool& ended);

 private:
  struct Chunk {
    std::string bytes;
    size_t sent = 0;
    Descriptor descriptor;  // goes with the first byte
  };
  void Queue(std::string bytes, Descriptor descriptor) REQUIRES(mutex_);
  // Writes what the socket takes; false when the other end is gone.
  bool Write() REQUIRES(mutex_);
  Status Handle(Frame frame, std::vector<Received>& messages);
  Status TakeTensors(const Frame& frame, Received& received);
  void GiveBack(uint64_t number) EXCLUDES(mutex_);
  void Release(const std::vector<uint64_t>& numbers) EXCLUDES(mutex_);

  const Descriptor socket_;
  const Descriptor wake_;
  Mutex mutex_;
  bool closed_ GUARDED_BY(mutex_) = false;
  std::deque<Chunk> unsent_ GUARDED_BY(mutex_);
  uint64_t unsent_bytes_ GUARDED_BY(mutex_) = 0;
  OwnBuffers own_ GUARDED_BY(mutex_);

  // Receiving thread only.
  FrameReader reader_;
  std::deque<Descriptor> descriptors_;  // received, not yet claimed by a message
  TheirBuffers theirs_;
};

}  // namespace trireme::server

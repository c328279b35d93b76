// SPDX-License-Identifier: Apache-2.0
#include "server/backends/python/model_channel.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/status.h"

namespace trireme::server {
namespace {

constexpr uint64_t kMaxUnsentBytes = 256ull << 20;
constexpr size_t kReadBytes = 256 * 1024;
constexpr size_t kMaxDescriptors = 16;  // received ahead of their messages

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// Sends bytes and, with the first of them, a descriptor. As send(2).
ssize_t SendSome(int socket, std::string_view bytes, int descriptor) {
  iovec span{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &span;
  message.msg_iovlen = 1;
  if (descriptor >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof(control);
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(header), &descriptor, sizeof(int));
  }
  return ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

// As recv(2); descriptors that came along are appended.
ssize_t ReceiveSome(int socket, char* buffer, size_t bytes, std::deque<Descriptor>& descriptors) {
  iovec span{buffer, bytes};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kMaxDescriptors)];
  msghdr message{};
  message.msg_iov = &span;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  const ssize_t got = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return got;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      descriptors.emplace_back(fd);
    }
  }
  return got;
}

}  // namespace

ModelChannel::ModelChannel(Descriptor socket)
    : socket_(std::move(socket)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

Status ModelChannel::Send(OutgoingMessage& message) {
  MutexLock lock(mutex_);
  if (closed_) return Unavailable("the model process is gone");
  if (unsent_bytes_ > kMaxUnsentBytes) {
    return Unavailable("the model process does not read what it is sent");
  }
  std::string tail;
  const uint64_t bytes = message.blob_bytes();
  if (bytes > kInlineBytes) {
    TRIREME_ASSIGN_OR_RETURN(OwnBuffers::Lease lease, own_.Acquire(bytes));
    message.CopyBlob(lease.data);
    message.json()["buffer"] = lease.number;
    if (lease.announce.valid()) {
      const Json announcement = {
          {"type", "buffer"}, {"number", lease.number}, {"size", lease.buffer_bytes}};
      const std::string text = Dump(announcement);
      Queue(FrameHeader(text.size(), 0, true) + text, std::move(lease.announce));
    }
  } else if (bytes > 0) {
    tail.resize(bytes);
    message.CopyBlob(tail.data());
  }
  const std::string text = Dump(message.json());
  Queue(FrameHeader(text.size(), tail.size(), false) + text + tail, Descriptor());
  if (!Write()) return Unavailable("the model process is gone");
  if (!unsent_.empty()) Wake();
  return OkStatus();
}

void ModelChannel::Wake() {
  const uint64_t one = 1;
  (void)!::write(wake_.get(), &one, sizeof(one));
}

void ModelChannel::Close() {
  MutexLock lock(mutex_);
  closed_ = true;
  unsent_.clear();
  unsent_bytes_ = 0;
}

void ModelChannel::Queue(std::string bytes, Descriptor descriptor) {
  unsent_bytes_ += bytes.size();
  unsent_.push_back({std::move(bytes), 0, std::move(descriptor)});
}

bool ModelChannel::Write() {
  while (!unsent_.empty()) {
    Chunk& chunk = unsent_.front();
    const std::string_view rest = std::string_view(chunk.bytes).substr(chunk.sent);
    const ssize_t sent = SendSome(socket_.get(), rest, chunk.descriptor.get());
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    chunk.descriptor.reset();
    chunk.sent += static_cast<size_t>(sent);
    unsent_bytes_ -= static_cast<uint64_t>(sent);
    if (chunk.sent == chunk.bytes.size()) unsent_.pop_front();
  }
  return true;
}

bool ModelChannel::has_unsent() {
  MutexLock lock(mutex_);
  return !unsent_.empty();
}

void ModelChannel::WriteUnsent() {
  uint64_t ignored = 0;
  (void)!::read(wake_.get(), &ignored, sizeof(ignored));
  MutexLock lock(mutex_);
  (void)Write();  // that the other end is gone shows when receiving
}

Status ModelChannel::Receive(std::vector<Received>& messages, bool& ended) {
  std::string buffer(kReadBytes, '\0');
  const ssize_t got = ReceiveSome(socket_.get(), buffer.data(), buffer.size(), descriptors_);
  if (descriptors_.size() > kMaxDescriptors) {
    return InvalidArgument("the model process sent more descriptors than messages for them");
  }
  if (got < 0) {
    if (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK) return OkStatus();
    ended = true;
    return OkStatus();
  }
  ended = got == 0;
  std::vector<Frame> frames;
  TRIREME_RETURN_IF_ERROR(
      reader_.Feed(std::string_view(buffer.data(), static_cast<size_t>(got)), frames));
  for (Frame& frame : frames) TRIREME_RETURN_IF_ERROR(Handle(std::move(frame), messages));
  return OkStatus();
}

Status ModelChannel::Handle(Frame frame, std::vector<Received>& messages) {
  Descriptor descriptor;
  if (frame.has_descriptor) {
    if (descriptors_.empty()) return InvalidArgument("the model process sent no descriptor");
    descriptor = std::move(descriptors_.front());
    descriptors_.pop_front();
  }
  TRIREME_ASSIGN_OR_RETURN(ProcessMessage message, ReadProcessMessage(frame.json));
  switch (message.kind) {
    case ProcessMessage::Kind::kBuffer:
      return theirs_.Add(message.number, message.size, descriptor);
    case ProcessMessage::Kind::kRelease: return Release(message.buffers), OkStatus();
    case ProcessMessage::Kind::kForget:
      for (const uint64_t number : message.buffers) theirs_.Forget(number);
      return OkStatus();
    default: break;
  }
  Received received{std::move(message), {}};
  TRIREME_RETURN_IF_ERROR(TakeTensors(frame, received));
  messages.push_back(std::move(received));
  return OkStatus();
}

Status ModelChannel::TakeTensors(const Frame& frame, Received& received) {
  ProcessMessage& message = received.message;
  std::string_view blob = *frame.tail;
  std::shared_ptr<const void> owner = frame.tail;
  if (message.buffer) {
    const std::shared_ptr<SharedMapping> mapping = theirs_.Find(*message.buffer);
    if (mapping == nullptr) {
      return InvalidArgument("the model process names buffer {}, which it never shared",
                             *message.buffer);
    }
    blob = {mapping->data(), mapping->size()};
    // When the last tensor is gone the process may use the buffer again.
    owner = std::shared_ptr<const void>(
        mapping.get(), [mapping, weak = weak_from_this(), number = *message.buffer](const void*) {
          if (const auto self = weak.lock()) self->GiveBack(number);
        });
  }
  TRIREME_ASSIGN_OR_RETURN(received.tensors, TensorsIn(std::move(message.rows), blob, owner));
  return OkStatus();
}

void ModelChannel::GiveBack(uint64_t number) {
  OutgoingMessage message("release");
  message.json()["buffers"] = {number};
  (void)Send(message).ok();  // a process that is gone needs nothing back
}

void ModelChannel::Release(const std::vector<uint64_t>& numbers) {
  std::vector<uint64_t> dropped;
  {
    MutexLock lock(mutex_);
    for (const uint64_t number : numbers) own_.Release(number);
    dropped = own_.Trim();
  }
  if (dropped.empty()) return;
  OutgoingMessage message("forget");
  message.json()["buffers"] = dropped;
  (void)Send(message).ok();
}

}  // namespace trireme::server

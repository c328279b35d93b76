// SPDX-License-Identifier: Apache-2.0
// Memory that the server shares with a model process: anonymous files passed as descriptors, so that
// nothing has a name, nothing outlives its users and /dev/shm may be small. Not thread-safe, but for
// SharedMapping, which is immutable.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "trireme/status.h"

namespace trireme::server {

// An open descriptor, closed at the end.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { reset(); }
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// A whole file, mapped for reading and writing.
class SharedMapping {
 public:
  static StatusOr<std::shared_ptr<SharedMapping>> Map(int fd, uint64_t bytes);
  ~SharedMapping();
  SharedMapping(const SharedMapping&) = delete;
  SharedMapping& operator=(const SharedMapping&) = delete;

  char* data() const { return data_; }
  uint64_t size() const { return bytes_; }

 private:
  SharedMapping(char* data, uint64_t bytes) : data_(data), bytes_(bytes) {}
  char* const data_;
  const uint64_t bytes_;
};

// The buffers the server made, used again and again: touching fresh pages costs several times what
// copying into them does.
class OwnBuffers {
 public:
  struct Lease {
    uint64_t number = 0;
    char* data = nullptr;
    uint64_t buffer_bytes = 0;
    Descriptor announce;  // valid: the other side has not seen this buffer yet
  };
  // RESOURCE_EXHAUSTED when the machine has not that much memory left.
  StatusOr<Lease> Acquire(uint64_t bytes);
  void Release(uint64_t number);
  // Gives memory back to the system while more than a limit lies free; their numbers.
  std::vector<uint64_t> Trim();

 private:
  struct Buffer {
    std::shared_ptr<SharedMapping> mapping;
    bool free = false;
  };
  std::map<uint64_t, Buffer> buffers_;
  uint64_t next_ = 1;
};

// The buffers the process made.
class TheirBuffers {
 public:
  // Takes only memory that cannot be shortened under its reader.
  Status Add(uint64_t number, uint64_t bytes, const Descriptor& descriptor);
  // Null: unknown.
  std::shared_ptr<SharedMapping> Find(uint64_t number) const;
  void Forget(uint64_t number) { mappings_.erase(number); }

 private:
  // Shared: tensors made of a buffer outlive its being forgotten.
  std::map<uint64_t, std::shared_ptr<SharedMapping>> mappings_;
};

}  // namespace trireme::server

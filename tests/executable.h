// SPDX-License-Identifier: Apache-2.0
// Runs the trireme executable as a shell would, for tests. Tests only.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace trireme::testing_tools {

namespace fs = std::filesystem;

// Far above what any of it takes: a hang fails instead of stopping the suite.
constexpr int kPatience_s = 240;

// One run of the executable; its output and errors in one text. Killed with the object.
class Process {
 public:
  // With `output` a file gets what it prints, and the text is the errors alone.
  explicit Process(const std::vector<std::string>& arguments, const std::string& output = "") {
    int pipe_fds[2];
    EXPECT_EQ(::pipe(pipe_fds), 0);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(output.empty() ? pipe_fds[1] : ::open(output.c_str(), O_WRONLY), STDOUT_FILENO);
      ::dup2(pipe_fds[1], STDERR_FILENO);
      ::close(pipe_fds[0]);
      std::vector<char*> argv = {const_cast<char*>("trireme")};
      for (const std::string& argument : arguments)
        argv.push_back(const_cast<char*>(argument.c_str()));
      argv.push_back(nullptr);
      ::execv(TRIREME_EXECUTABLE, argv.data());
      ::_exit(127);
    }
    ::close(pipe_fds[1]);
    fd_ = pipe_fds[0];
  }
  ~Process() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    ::close(fd_);
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Reads until `mark` has come or the output ends.
  bool ReadUntil(const std::string& mark) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(kPatience_s);
    while (mark.empty() || text_.find(mark) == std::string::npos) {
      pollfd poll{fd_, POLLIN, 0};
      char buffer[4096];
      if (std::chrono::steady_clock::now() > end) return false;
      if (::poll(&poll, 1, 1000) == 0) continue;
      const ssize_t got = ::read(fd_, buffer, sizeof(buffer));
      if (got <= 0) return mark.empty();
      text_.append(buffer, static_cast<size_t>(got));
    }
    return true;
  }
  // The exit code once it has ended; 128 + the signal that killed it.
  int Wait() {
    EXPECT_TRUE(ReadUntil("")) << "still running after " << kPatience_s << " s:\n" << text_;
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void Signal(int number) { ::kill(pid_, number); }
  const std::string& text() const { return text_; }

 private:
  pid_t pid_ = -1;
  int fd_ = -1;
  std::string text_;
};

struct Result {
  int code = 0;
  std::string text;
};

inline Result RunTrireme(const std::vector<std::string>& arguments,
                         const std::string& output = "") {
  Process process(arguments, output);
  const int code = process.Wait();
  return {code, process.text()};
}

// A TCP connection to this machine; blocking, with a timeout so that a silent server fails the test.
class Connection {
 public:
  explicit Connection(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval timeout{kPatience_s, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  ~Connection() { ::close(fd_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Post(const std::string& path, const std::string& body) {
    Send("POST " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  void Get(const std::string& path) {
    Send("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  }
  // What comes until `mark` or, with none, until the server closes.
  std::string Receive(const std::string& mark = "") {
    std::string text;
    char buffer[4096];
    while (mark.empty() || text.find(mark) == std::string::npos) {
      const ssize_t got = ::recv(fd_, buffer, sizeof(buffer), 0);
      if (got <= 0) break;
      text.append(buffer, static_cast<size_t>(got));
    }
    return text;
  }

 private:
  void Send(const std::string& bytes) { ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }

  const int fd_;
};

inline std::string ReadText(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}
inline void WriteText(const fs::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary)
      .write(text.data(), static_cast<std::streamsize>(text.size()));
}

}  // namespace trireme::testing_tools

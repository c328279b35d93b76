// SPDX-License-Identifier: Apache-2.0
// A blocking HTTP client over a raw socket, for tests: it sends what it is told, right or wrong.
// One thread each.
#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <string>

namespace trireme::server::testing {

// One connection, with a timeout so that a silent server fails the test.
class Client {
 public:
  explicit Client(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval timeout{60, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  void Send(const std::string& bytes) {
    for (size_t at = 0; at < bytes.size();) {
      const ssize_t sent = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (sent <= 0) return;
      at += static_cast<size_t>(sent);
    }
  }
  // Says that nothing more comes, and goes on listening.
  void CloseSending() { ::shutdown(fd_, SHUT_WR); }
  // What came until `enough` says so or the server closed.
  template <typename Enough>
  std::string Receive(Enough enough) {
    std::string text;
    char buffer[4096];
    while (!enough(text)) {
      const ssize_t got = ::recv(fd_, buffer, sizeof(buffer), 0);
      if (got <= 0) break;
      text.append(buffer, static_cast<size_t>(got));
    }
    return text;
  }
  std::string ReceiveAll() {
    return Receive([](const std::string&) { return false; });
  }

 private:
  int fd_;
  bool connected_ = false;
};

struct Reply {
  int status = 0;
  std::string head;
  std::string body;
  nlohmann::json Json() const { return nlohmann::json::parse(body, nullptr, false); }
  std::string Error() const {
    const nlohmann::json json = Json();
    return json.is_object() && json.contains("error") ? json["error"].get<std::string>() : "";
  }
  bool HasHeader(const std::string& line) const { return head.find(line) != std::string::npos; }
};

using Headers = std::map<std::string, std::string>;

// One request on a connection of its own.
inline Reply Ask(int port, const std::string& method, const std::string& path,
                 const std::string& body = "", const Headers& headers = {}) {
  Client client(port);
  std::string more;
  for (const auto& [name, value] : headers) more += name + ": " + value + "\r\n";
  client.Send(fmt::format(
      "{} {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{}", method,
      path, more, body.size(), body));
  const std::string text = client.ReceiveAll();
  Reply reply;
  const size_t end = text.find("\r\n\r\n");
  if (end == std::string::npos) return reply;
  reply.head = text.substr(0, end);
  reply.body = text.substr(end + 4);
  reply.status = std::atoi(text.c_str() + 9);
  return reply;
}

inline Reply Get(int port, const std::string& path) { return Ask(port, "GET", path); }
inline Reply Post(int port, const std::string& path, const std::string& body,
                  const Headers& headers = {}) {
  return Ask(port, "POST", path, body, headers);
}

}  // namespace trireme::server::testing

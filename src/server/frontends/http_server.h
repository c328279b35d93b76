// SPDX-License-Identifier: Apache-2.0
// HTTP/1.1 server: connections, limits, streams. Knows nothing of what it serves.
//
// A handler is called on an I/O thread with an exchange; it must return soon and may answer then or
// later, from any thread. HttpExchange is thread-safe; HttpServer's methods are called by its owner.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "trireme/status.h"

namespace trireme::server {

struct HttpRequest {
  std::string method;                          // "GET"
  std::string path;                            // without the query string, as sent
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

struct HttpResponse {
  int status = 200;
  std::string content_type;  // "": no such header
  std::string body;
  std::map<std::string, std::string> headers;
};

// One request and its answer: either Send, or BeginStream, Write ..., End. What comes after the
// client has gone is dropped.
class HttpExchange {
 public:
  virtual ~HttpExchange() = default;
  virtual const HttpRequest& request() const = 0;

  virtual void Send(HttpResponse response) = 0;

  // Headers of `response` now, its body first, more with Write. Text written while the socket is
  // busy goes out together.
  virtual void BeginStream(HttpResponse response) = 0;
  virtual void Write(std::string text) = 0;
  virtual void End() = 0;

  // Calls `callback` once, on an I/O thread, if the client goes before the answer has ended. At once
  // when it has gone already.
  virtual void OnDisconnect(std::function<void()> callback) = 0;
};

using HttpHandler = std::function<void(std::shared_ptr<HttpExchange>)>;

struct HttpServerConfig {
  std::string address = "0.0.0.0";
  int port = 8000;  // 0: any free one
  int num_threads = 1;
  int64_t max_body_bytes = int64_t{64} << 20;
  // Requests with this header (binary tensors behind JSON) may be larger; "": there is none.
  std::string large_body_header;
  int64_t max_large_body_bytes = INT32_MAX;
  // The answer to a body over the limit, by the path it was sent to.
  std::function<HttpResponse(std::string_view path, int64_t limit_bytes)> large_body_reply;
  int max_connections = 4096;
  std::chrono::seconds read_timeout{120};  // idle connections too
  std::chrono::seconds write_timeout{60};  // a client that does not read
};

// INVALID_ARGUMENT unless it is an IP address, or localhost.
Status CheckAddress(const std::string& address);

class HttpServer {
 public:
  // ALREADY_EXISTS names the port when another program has it.
  static StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerConfig& config,
                                                     HttpHandler handler);
  virtual ~HttpServer() = default;

  virtual int port() const = 0;
  // Answers not yet ended.
  virtual int open_exchanges() const = 0;
  // Accepts no more connections, waits up to `drain` for open exchanges, closes the rest.
  virtual void Stop(std::chrono::milliseconds drain) = 0;
};

}  // namespace trireme::server

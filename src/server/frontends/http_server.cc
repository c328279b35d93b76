// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/http_server.h"

#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <cerrno>
#include <deque>
#include <thread>
#include <vector>

#include "base/log.h"
#include "base/log_text.h"
#include "base/mutex.h"
#include "base/status.h"

namespace trireme::server {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using asio::awaitable;
using asio::redirect_error;
using asio::use_awaitable;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using Strand = asio::strand<asio::io_context::executor_type>;

constexpr std::uint32_t kMaxHeaderBytes = 64 << 10;
// Between two looks after a client that has closed its side, and looks between two questions to it.
constexpr std::chrono::milliseconds kLookInterval{50};
constexpr int kLooksPerProbe = 40;

// Counts of a server that its connections share.
struct ServerState {
  HttpServerConfig config;
  HttpHandler handler;
  std::atomic<int> connections{0};
  std::atomic<int> exchanges{0};
  std::atomic<bool> stopping{false};
};

// The answer's side of one request. State is touched on the connection's strand only, but for the
// request, which is constant.
class Exchange : public HttpExchange, public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(HttpRequest request, Strand strand, std::shared_ptr<ServerState> server)
      : request_(std::move(request)), strand_(strand), server_(std::move(server)), wake_(strand) {
    server_->exchanges.fetch_add(1);
  }
  ~Exchange() override { server_->exchanges.fetch_sub(1); }

  const HttpRequest& request() const override { return request_; }

  void Send(HttpResponse response) override {
    Post([response = std::move(response)](Exchange& self) mutable {
      self.head_ = std::move(response);
      self.has_head_ = true;
      self.ended_ = true;
    });
  }
  void BeginStream(HttpResponse response) override {
    Post([response = std::move(response)](Exchange& self) mutable {
      self.pending_ = std::move(response.body);
      self.head_ = std::move(response);
      self.has_head_ = true;
      self.stream_ = true;
    });
  }
  void Write(std::string text) override {
    Post([text = std::move(text)](Exchange& self) { self.pending_ += text; });
  }
  void End() override {
    Post([](Exchange& self) { self.ended_ = true; });
  }
  void OnDisconnect(std::function<void()> callback) override {
    Post([callback = std::move(callback)](Exchange& self) mutable {
      if (self.gone_) return callback();
      self.on_disconnect_ = std::move(callback);
    });
  }

  // --- On the strand. ---

  awaitable<void> WaitForOutput() {
    while (!gone_ && !ended_ && pending_.empty() && !(has_head_ && !head_sent_)) {
      wake_.expires_at(asio::steady_timer::time_point::max());
      error_code ignored;
      co_await wake_.async_wait(redirect_error(use_awaitable, ignored));
    }
  }
  void ClientGone() {
    if (gone_ || done_) return;
    gone_ = true;
    wake_.cancel();
    if (auto callback = std::move(on_disconnect_)) callback();
  }
  // The answer is out: a client that goes now disturbs nobody.
  void Done() {
    done_ = true;
    on_disconnect_ = nullptr;
  }

  bool gone() const { return gone_; }
  bool done() const { return done_; }
  bool ended() const { return ended_; }
  bool stream() const { return stream_; }
  bool waiting() const { return !done_ && !gone_ && !has_head_; }
  HttpResponse& head() { return head_; }
  bool head_sent() const { return head_sent_; }
  void set_head_sent() { head_sent_ = true; }
  std::string TakePending() { return std::exchange(pending_, {}); }

 private:
  template <typename Change>
  void Post(Change change) {
    asio::post(strand_, [self = shared_from_this(), change = std::move(change)]() mutable {
      change(*self);
      self->wake_.cancel();
    });
  }

  const HttpRequest request_;
  Strand strand_;
  std::shared_ptr<ServerState> server_;
  asio::steady_timer wake_;
  HttpResponse head_;
  std::string pending_;
  std::function<void()> on_disconnect_;
  bool has_head_ = false;
  bool head_sent_ = false;
  bool stream_ = false;
  bool ended_ = false;
  bool gone_ = false;
  bool done_ = false;
};

asio::ip::address ParseAddress(const std::string& text, error_code& error) {
  return asio::ip::make_address(text == "localhost" ? "127.0.0.1" : text, error);
}

template <typename Message>
void SetHeaders(Message& message, const HttpResponse& response) {
  if (!response.content_type.empty()) message.set(http::field::content_type, response.content_type);
  for (const auto& [name, value] : response.headers) message.set(name, value);
}

HttpRequest ToRequest(http::request<http::string_body>& parsed) {
  HttpRequest request;
  request.method = std::string(parsed.method_string());
  const std::string_view target(parsed.target().data(), parsed.target().size());
  request.path = std::string(target.substr(0, target.find('?')));
  for (const auto& field : parsed) {
    std::string name(field.name_string());
    for (char& c : name) {
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    request.headers[std::move(name)] = std::string(field.value());
  }
  request.body = std::move(parsed.body());
  return request;
}

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, Strand strand, std::shared_ptr<ServerState> server)
      : stream_(std::move(socket)), strand_(strand), server_(std::move(server)) {
    server_->connections.fetch_add(1);
  }
  ~Connection() { server_->connections.fetch_sub(1); }

  awaitable<void> Run() {
    error_code error;
    stream_.socket().set_option(tcp::no_delay(true), error);
    bool keep_alive = true;
    while (keep_alive && !server_->stopping.load()) {
      http::request_parser<http::string_body> parser;
      // Beast checks Content-Length with the header, before it is known which limit is meant.
      parser.body_limit(MaxBody());
      parser.header_limit(kMaxHeaderBytes);
      keep_alive = co_await ReadRequest(parser);
      if (!keep_alive) break;
      const unsigned version = parser.get().version();
      keep_alive = parser.get().keep_alive();
      const bool head_only = parser.get().method() == http::verb::head;
      auto exchange = std::make_shared<Exchange>(ToRequest(parser.get()), strand_, server_);
      WatchForDisconnect(exchange, version);
      server_->handler(exchange);
      keep_alive = co_await Answer(*exchange, version, keep_alive, head_only) && keep_alive;
      exchange->Done();
    }
    stream_.socket().shutdown(tcp::socket::shutdown_both, error);
  }

  void Close() {
    asio::post(strand_, [self = shared_from_this()] {
      error_code ignored;
      self->stream_.socket().close(ignored);
    });
  }

 private:
  // False when the connection is to be closed; a request that breaks a limit is answered first.
  awaitable<bool> ReadRequest(http::request_parser<http::string_body>& parser) {
    error_code error;
    stream_.expires_after(server_->config.read_timeout);
    co_await http::async_read_header(stream_, buffer_, parser,
                                     redirect_error(use_awaitable, error));
    const std::uint64_t limit = error ? 0 : BodyLimit(parser.get());
    if (!error && parser.content_length().value_or(0) > limit) error = http::error::body_limit;
    if (!error) parser.body_limit(limit);
    if (!error && parser.get()[http::field::expect] == "100-continue") {
      http::response<http::empty_body> go_on(http::status::continue_, parser.get().version());
      co_await http::async_write(stream_, go_on, redirect_error(use_awaitable, error));
    }
    if (!error) {
      stream_.expires_after(server_->config.read_timeout);
      co_await http::async_read(stream_, buffer_, parser, redirect_error(use_awaitable, error));
    }
    if (!error) co_return true;
    if (error == http::error::body_limit) {
      HttpResponse reply = LargeBodyReply(parser, limit > 0 ? limit : MaxBody());
      co_await Refuse(std::move(reply));
    } else if (error == http::error::header_limit) {
      HttpResponse reply = ErrorReply(431, "request header is too long");
      co_await Refuse(std::move(reply));
    } else if (error.category() == http::make_error_code(http::error::bad_method).category() &&
               error != http::error::end_of_stream && error != http::error::partial_message) {
      HttpResponse reply = ErrorReply(400, "malformed HTTP request: " + error.message());
      co_await Refuse(std::move(reply));
    }
    co_return false;
  }

  std::uint64_t MaxBody() const {
    const HttpServerConfig& config = server_->config;
    return static_cast<std::uint64_t>(std::max(config.max_body_bytes, config.max_large_body_bytes));
  }
  std::uint64_t BodyLimit(const http::request<http::string_body>& header) const {
    const HttpServerConfig& config = server_->config;
    const bool large =
        !config.large_body_header.empty() && header.find(config.large_body_header) != header.end();
    return large ? MaxBody() : static_cast<std::uint64_t>(config.max_body_bytes);
  }

  static HttpResponse ErrorReply(int status, const std::string& message) {
    return {.status = status,
            .content_type = "application/json",
            .body = "{\"error\":\"" + message + "\"}",
            .headers = {}};
  }

  HttpResponse LargeBodyReply(http::request_parser<http::string_body>& parser,
                              std::uint64_t limit) const {
    const auto target = parser.get().target();
    const auto& reply = server_->config.large_body_reply;
    if (!reply) return ErrorReply(413, fmt::format("the body has more than {} bytes", limit));
    return reply({target.data(), target.size()}, static_cast<int64_t>(limit));
  }

  awaitable<void> Refuse(HttpResponse reply) {
    http::response<http::string_body> response(static_cast<http::status>(reply.status), 11);
    SetHeaders(response, reply);
    response.keep_alive(false);
    response.body() = std::move(reply.body);
    response.prepare_payload();
    error_code ignored;
    stream_.expires_after(server_->config.write_timeout);
    co_await http::async_write(stream_, response, redirect_error(use_awaitable, ignored));
    // What the client still sends is read away for a moment, so that it sees the answer and no reset.
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.expires_after(std::chrono::seconds(2));
    std::vector<char> sink(64 << 10);
    for (error_code error; !error;) {
      co_await stream_.async_read_some(asio::buffer(sink), redirect_error(use_awaitable, error));
    }
  }

  // Watches for the end of the client's side while an answer is on its way. Data instead of an end
  // is the next request, and ends the watch. An end does not tell a client that has gone from one
  // that has said all and listens.
  void WatchForDisconnect(const std::shared_ptr<Exchange>& exchange, unsigned version) {
    stream_.expires_never();
    stream_.socket().async_wait(
        tcp::socket::wait_read,
        asio::bind_executor(strand_, [self = shared_from_this(), version,
                                      weak = std::weak_ptr<Exchange>(exchange)](error_code error) {
          const auto watched = weak.lock();
          if (watched == nullptr || watched->done()) return;
          error_code ignored;
          if (!error && self->stream_.socket().available(ignored) > 0) return;
          if (error || self->IsReset()) return watched->ClientGone();
          asio::co_spawn(self->strand_, self->WatchHalfClosed(weak, version), asio::detached);
        }));
  }

  // The system of a client that has gone answers what is sent to it with a reset. An interim reply,
  // which every HTTP/1.1 client reads past, brings that about before there is an answer to send; the
  // writes of a stream do so by themselves.
  awaitable<void> WatchHalfClosed(std::weak_ptr<Exchange> weak, unsigned version) {
    const auto self = shared_from_this();
    asio::steady_timer timer(strand_);
    for (int look = 0;; ++look) {
      {
        const auto watched = weak.lock();
        if (watched == nullptr || watched->done() || watched->gone()) co_return;
        const bool asks = look % kLooksPerProbe == 0 && version >= 11 && watched->waiting();
        if (IsReset() || (asks && !SendInterim())) co_return watched->ClientGone();
      }
      timer.expires_after(kLookInterval);
      error_code ignored;
      co_await timer.async_wait(redirect_error(use_awaitable, ignored));
    }
  }

  bool IsReset() {
    if (!stream_.socket().is_open()) return true;
    pollfd state{stream_.socket().native_handle(), 0, 0};
    return ::poll(&state, 1, 0) == 1;
  }

  // False when the client cannot be written to. One that has not read earlier answers is left alone.
  bool SendInterim() {
    constexpr std::string_view kInterim = "HTTP/1.1 100 Continue\r\n\r\n";
    const ssize_t sent = ::send(stream_.socket().native_handle(), kInterim.data(), kInterim.size(),
                                MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent == std::ssize(kInterim) || (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK));
  }

  awaitable<bool> Answer(Exchange& exchange, unsigned version, bool keep_alive, bool head_only) {
    co_await exchange.WaitForOutput();
    if (exchange.gone()) co_return false;
    if (exchange.stream()) co_return co_await AnswerStream(exchange, version, keep_alive);
    http::response<http::string_body> response(static_cast<http::status>(exchange.head().status),
                                               version);
    SetHeaders(response, exchange.head());
    response.keep_alive(keep_alive);
    response.body() = std::move(exchange.head().body);
    response.prepare_payload();
    if (head_only) response.body().clear();
    co_return co_await WriteMessage(response, exchange);
  }

  template <typename Message>
  awaitable<bool> WriteMessage(Message& message, Exchange& exchange) {
    error_code error;
    stream_.expires_after(server_->config.write_timeout);
    co_await http::async_write(stream_, message, redirect_error(use_awaitable, error));
    stream_.expires_never();
    if (error) exchange.ClientGone();
    co_return !error;
  }

  // Chunked; an HTTP/1.0 client gets the bytes as they are and the end of the connection.
  awaitable<bool> AnswerStream(Exchange& exchange, unsigned version, bool keep_alive) {
    const bool chunked = version >= 11;
    http::response<http::empty_body> head(static_cast<http::status>(exchange.head().status),
                                          version);
    SetHeaders(head, exchange.head());
    head.keep_alive(keep_alive && chunked);
    head.chunked(chunked);
    exchange.set_head_sent();
    http::response_serializer<http::empty_body> serializer(head);
    error_code error;
    stream_.expires_after(server_->config.write_timeout);
    co_await http::async_write_header(stream_, serializer, redirect_error(use_awaitable, error));
    while (!error) {
      co_await exchange.WaitForOutput();
      if (exchange.gone()) co_return false;
      const std::string text = exchange.TakePending();
      if (!text.empty()) {
        stream_.expires_after(server_->config.write_timeout);
        if (chunked) {
          co_await asio::async_write(stream_, http::make_chunk(asio::buffer(text)),
                                     redirect_error(use_awaitable, error));
        } else {
          co_await asio::async_write(stream_, asio::buffer(text),
                                     redirect_error(use_awaitable, error));
        }
        continue;
      }
      if (!exchange.ended()) continue;
      if (chunked) {
        stream_.expires_after(server_->config.write_timeout);
        co_await asio::async_write(stream_, http::make_chunk_last(),
                                   redirect_error(use_awaitable, error));
      }
      stream_.expires_never();
      co_return !error && chunked;
    }
    exchange.ClientGone();
    co_return false;
  }

  beast::tcp_stream stream_;
  Strand strand_;
  std::shared_ptr<ServerState> server_;
  beast::flat_buffer buffer_;
};

class Server : public HttpServer {
 public:
  Server(const HttpServerConfig& config, HttpHandler handler)
      : state_(std::make_shared<ServerState>()), acceptor_(io_) {
    state_->config = config;
    state_->handler = std::move(handler);
  }
  ~Server() override { Stop(std::chrono::milliseconds(0)); }

  Status Listen() {
    const HttpServerConfig& config = state_->config;
    error_code error;
    TRIREME_RETURN_IF_ERROR(CheckAddress(config.address));
    const asio::ip::address address = ParseAddress(config.address, error);
    if (config.port < 0 || config.port > 65535) {
      return InvalidArgument("port {} does not exist; use 0 to 65535", config.port);
    }
    const tcp::endpoint endpoint(address, static_cast<unsigned short>(config.port));
    acceptor_.open(endpoint.protocol(), error);
    if (!error) acceptor_.set_option(asio::socket_base::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error == asio::error::address_in_use) {
      return AlreadyExists("port {} is taken by another program; choose another port", config.port);
    }
    if (error) {
      return Unavailable("cannot listen on {}:{}: {}", config.address, config.port,
                         error.message());
    }
    port_ = acceptor_.local_endpoint().port();
    asio::co_spawn(io_, Accept(), asio::detached);
    for (int i = 0; i < std::max(1, config.num_threads); ++i) {
      threads_.emplace_back([this] { io_.run(); });
    }
    return OkStatus();
  }

  int port() const override { return port_; }
  int open_exchanges() const override { return state_->exchanges.load(); }

  void Stop(std::chrono::milliseconds drain) override {
    if (threads_.empty()) return;
    state_->stopping.store(true);
    asio::post(io_, [this] {
      error_code ignored;
      acceptor_.close(ignored);
    });
    const auto deadline = std::chrono::steady_clock::now() + drain;
    while (open_exchanges() > 0 && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    {
      MutexLock lock(mutex_);
      for (const std::weak_ptr<Connection>& weak : connections_) {
        if (const std::shared_ptr<Connection> connection = weak.lock()) connection->Close();
      }
    }
    // Closed connections end by themselves; a moment lets the last bytes out.
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    while (state_->connections.load() > 0 && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    io_.stop();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  awaitable<void> Accept() {
    while (true) {
      error_code error;
      Strand strand = asio::make_strand(io_);
      tcp::socket socket(strand);
      co_await acceptor_.async_accept(socket, redirect_error(use_awaitable, error));
      if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor)
        co_return;
      if (error) {
        // Out of descriptors, most likely: wait for some to come back.
        LogWarning("http_accept_failed reason={}", Quoted(error.message()));
        asio::steady_timer pause(io_, std::chrono::milliseconds(100));
        co_await pause.async_wait(redirect_error(use_awaitable, error));
        continue;
      }
      if (state_->connections.load() >= state_->config.max_connections) {
        LogWarning("http_connection_refused reason=\"limit\" max_connections={}",
                   state_->config.max_connections);
        continue;
      }
      auto connection = std::make_shared<Connection>(std::move(socket), strand, state_);
      Remember(connection);
      asio::co_spawn(
          strand, [connection]() -> awaitable<void> { co_await connection->Run(); },
          asio::detached);
    }
  }

  void Remember(const std::shared_ptr<Connection>& connection) {
    MutexLock lock(mutex_);
    if (connections_.size() >= 64 && connections_.size() >= 2 * last_live_) {
      std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
      last_live_ = connections_.size();
    }
    connections_.push_back(connection);
  }

  std::shared_ptr<ServerState> state_;
  asio::io_context io_;
  tcp::acceptor acceptor_;
  int port_ = 0;
  std::vector<std::thread> threads_;
  Mutex mutex_;
  std::vector<std::weak_ptr<Connection>> connections_ GUARDED_BY(mutex_);
  size_t last_live_ GUARDED_BY(mutex_) = 0;
};

}  // namespace

Status CheckAddress(const std::string& address) {
  error_code error;
  ParseAddress(address, error);
  if (!error) return OkStatus();
  return InvalidArgument("'{}' is not an IP address to listen on", address);
}

StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerConfig& config,
                                                        HttpHandler handler) {
  auto server = std::make_unique<Server>(config, std::move(handler));
  TRIREME_RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace trireme::server

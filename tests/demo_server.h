// SPDX-License-Identifier: Apache-2.0
// The demo model behind a server with all its ports, made once for the tests of a suite. Main thread
// only.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "base/log.h"
#include "convert/convert.h"
#include "server/server.h"
#include "tests/source_path.h"
#include "trireme/builder.h"

namespace trireme {

class DemoServerTest : public testing::Test {
 protected:
  // To be called by SetUpTestSuite.
  static void Start(int max_batch_size, const ExecutorConfig& limits) {
    ASSERT_TRUE(SetLogLevel("warning").ok());
    folder_ =
        std::filesystem::temp_directory_path() / fmt::format("trireme_demo_server_{}", ::getpid());
    Status status = convert::Convert(
        {.model_dir = SourcePath("models/demo"), .output_dir = folder_ / "checkpoint"}, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
    BuildOptions options;
    options.checkpoint_dir = folder_ / "checkpoint";
    options.output_dir = folder_ / "engine";
    options.limits.max_batch_size = max_batch_size;
    options.time_tactics = false;
    status = BuildEngine(options, {});
    ASSERT_TRUE(status.ok()) << status.ToString();
    auto generator = Generator::Create(folder_ / "engine", limits);
    ASSERT_TRUE(generator.ok()) << generator.status().ToString();
    generator_ = generator->get();
    server::ServerConfig config;
    config.http.port = 0;
    config.http.max_body_bytes = 64 << 10;
    config.grpc.port = 0;
    config.metrics.port = 0;
    auto server = server::Server::Start(config, std::move(*generator));
    ASSERT_TRUE(server.ok()) << server.status().ToString();
    server_ = std::move(*server);
    // Ports open first; readiness follows.
    const auto ready = [] {
      return server::testing::Ask(port(), "GET", "/v2/health/ready").status;
    };
    for (int i = 0; i < 2000 && ready() != 200; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ASSERT_EQ(ready(), 200);
  }
  static void TearDownTestSuite() {
    server_.reset();
    std::error_code ignored;
    if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
  }

  static int port() { return server_->http_port(); }
  static Executor& executor() { return generator_->executor(); }

  // Waits until no request is running and every KV block is back.
  static void ExpectRest() {
    for (int i = 0; i < 2000; ++i) {
      const ExecutorTotals totals = executor().Totals();
      if (totals.requests_accepted == totals.requests_completed &&
          executor().KvCache().used_num_blocks == 0) {
        return;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    ADD_FAILURE() << "requests or blocks are left: used " << executor().KvCache().used_num_blocks;
  }

  static inline std::filesystem::path folder_;
  static inline std::unique_ptr<server::Server> server_;
  static inline Generator* generator_ = nullptr;  // the server's
};

}  // namespace trireme

// SPDX-License-Identifier: Apache-2.0
// Loading, unloading and reloading as clients of the HTTP extension see it.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "base/log.h"
#include "server/server.h"
#include "server/testing/http_client.h"
#include "server/testing/repository_fixture.h"

namespace trireme::server {
namespace {

using nlohmann::json;
using testing::Get;
using testing::Post;
using testing::Reply;

class RepositoryTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(SetLogLevel("off").ok()); }
  void TearDown() override { ASSERT_TRUE(SetLogLevel("error").ok()); }

  Status Start(RepositoryOptions options) {
    ServerConfig config;
    config.http.port = 0;
    config.grpc.port = 0;
    config.allow_metrics = false;
    config.core.repository = std::move(options);
    if (config.core.repository.paths.empty()) config.core.repository.paths = {repository_.path()};
    auto server = Server::Start(config, nullptr);
    EXPECT_TRUE(server.ok()) << server.status().ToString();
    server_ = std::move(*server);
    return server_->WaitUntilLoaded();
  }
  Reply Load(const std::string& model, const json& body = json::object()) {
    return Post(server_->http_port(), "/v2/repository/models/" + model + "/load", body.dump());
  }
  Reply Unload(const std::string& model) {
    return Post(server_->http_port(), "/v2/repository/models/" + model + "/unload", "");
  }
  json Index() { return Post(server_->http_port(), "/v2/repository/index", "").Json(); }
  int Status200(const std::string& path) { return Get(server_->http_port(), path).status; }

  testing::TestRepository repository_;
  std::unique_ptr<Server> server_;
};

TEST_F(RepositoryTest, ExplicitLoadAndUnload) {
  repository_.Add("a", testing::IdentityConfig("TYPE_INT32"));
  repository_.Add("b", testing::IdentityConfig("TYPE_INT32"));
  ASSERT_TRUE(Start({.control_mode = ControlMode::kExplicit, .load_models = {"a"}}).ok());
  EXPECT_EQ(Index(), json::parse(R"([{"name":"a","version":"1","state":"READY"},{"name":"b"}])"));
  EXPECT_EQ(Status200("/v2/models/b/ready"), 400);
  EXPECT_EQ(Load("b").status, 200);
  EXPECT_EQ(Status200("/v2/models/b/ready"), 200);
  EXPECT_EQ(Unload("b").status, 200);
  for (int i = 0; i < 1000 && Index()[1]["state"] != "UNAVAILABLE"; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_EQ(Index()[1]["reason"], "unloaded");
  EXPECT_EQ(Status200("/v2/health/ready"), 200);  // what was unloaded on purpose does not count
  EXPECT_EQ(Unload("nobody").status, 200);
  const Reply missing = Load("nobody");
  EXPECT_EQ(missing.status, 500);
  EXPECT_EQ(missing.Error(), "failed to load 'nobody', failed to poll from model repository");
  for (const char* name : {"..", "%20", "a..b"}) EXPECT_NE(Load(name).status, 200) << name;
}

TEST_F(RepositoryTest, AFailedLoadByRequestLeavesTheServerReady) {
  repository_.Add("a", testing::IdentityConfig("TYPE_INT32"));
  repository_.Add("bad", "backend: 'nothing'");
  ASSERT_TRUE(Start({.control_mode = ControlMode::kExplicit, .load_models = {"a"}}).ok());
  EXPECT_EQ(Status200("/v2/health/ready"), 200);
  EXPECT_EQ(Load("bad").status, 400);
  EXPECT_EQ(Status200("/v2/models/bad/ready"), 400);
  EXPECT_EQ(Status200("/v2/health/ready"), 200);
}

TEST_F(RepositoryTest, TheEndWaitsForAVersionThatWasReplaced) {
  const auto config = [](int delay_ms) {
    return testing::IdentityConfig(
        "TYPE_INT32", "[-1]",
        fmt::format("parameters {{ key: 'execute_delay_ms' value {{ string_value: '{}' }} }}",
                    delay_ms));
  };
  repository_.Add("a", config(1500));
  ASSERT_TRUE(Start({.control_mode = ControlMode::kExplicit, .load_models = {"*"}}).ok());
  Reply reply;
  std::thread client(
      [&] { reply = Post(server_->http_port(), "/v2/models/a/generate", R"({"INPUT0": 1})"); });
  while (server_->core().FindModel("a", -1).value()->num_in_flight() == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  repository_.Add("a", config(1));
  EXPECT_EQ(Load("a").status, 200);
  server_->core().repository().Shutdown(60'000);
  client.join();
  EXPECT_EQ(reply.status, 200) << reply.body;
}

TEST_F(RepositoryTest, NamesOfTheModelOnTheCommandLineAreTaken) {
  repository_.Add("a", testing::IdentityConfig("TYPE_INT32"));
  ASSERT_TRUE(Start({.control_mode = ControlMode::kExplicit}).ok());
  std::vector<std::string> warnings;
  ModelConfig config = ParseModelConfig("backend: 'identity'", "", warnings).value();
  Repository& repository = server_->core().repository();
  const auto backend = repository.backends().Find("identity").value();
  ASSERT_TRUE(repository.Add({"a", "b", "a"}, config, backend).ok());
  EXPECT_EQ(Get(server_->http_port(), "/v2/models/b/config").Json()["name"], "b");
  const Reply taken = Load("a");
  EXPECT_EQ(taken.status, 400);
  EXPECT_NE(taken.Error().find("the server was started with"), std::string::npos);
  EXPECT_FALSE(repository.Add({"a/b"}, config, backend).ok());
}

TEST_F(RepositoryTest, OverridesOfConfigurationAndFiles) {
  repository_.Add("a", testing::IdentityConfig("TYPE_INT32"));
  ASSERT_TRUE(Start({.control_mode = ControlMode::kExplicit}).ok());
  const json config = {{"backend", "identity"},
                       {"max_batch_size", 5},
                       {"input", {{{"name", "X"}, {"data_type", "TYPE_FP32"}, {"dims", {-1}}}}},
                       {"output", {{{"name", "Y"}, {"data_type", "TYPE_FP32"}, {"dims", {"-1"}}}}}};
  EXPECT_EQ(Load("a", {{"parameters", {{"config", config.dump()}}}}).status, 200);
  EXPECT_EQ(Get(server_->http_port(), "/v2/models/a/config").Json()["max_batch_size"], 5);
  const Reply unknown = Load("a", {{"parameters", {{"config", R"({"nothing": 1})"}}}});
  EXPECT_EQ(unknown.status, 400);
  EXPECT_NE(unknown.Error().find("nothing"), std::string::npos);
  EXPECT_EQ(Status200("/v2/models/a/ready"), 200);  // the version that served goes on

  const json files = {{"parameters", {{"config", config.dump()}, {"file:7/model.bin", "YWJj"}}}};
  EXPECT_EQ(Load("from_files", files).status, 200);
  EXPECT_EQ(Status200("/v2/models/from_files/versions/7/ready"), 200);
  EXPECT_EQ(Load("x", {{"parameters", {{"file:1/m", "YWJj"}}}}).status, 400);
  EXPECT_EQ(Load("x", {{"parameters", {{"config", config.dump()}, {"file:../m", "YWJj"}}}}).status,
            400);
  EXPECT_EQ(Load("x", {{"parameters", {{"config", config.dump()}, {"file:1/m", "?"}}}}).status,
            400);
  EXPECT_EQ(Load("x", {{"parameters", {{"other", "1"}}}}).status, 400);
}

TEST_F(RepositoryTest, FailuresAreNamedAndOthersServe) {
  repository_.Add("good", testing::IdentityConfig("TYPE_INT32"));
  repository_.Add("bad", "backend: 'nothing'");
  repository_.Add("worse", "backend: 'identity' max_batch: 3");
  repository_.Write("empty/config.pbtxt", testing::IdentityConfig("TYPE_INT32"));
  repository_.Write("nameless/1/file", "");
  const Status loaded = Start({});
  EXPECT_FALSE(loaded.ok());
  EXPECT_EQ(Status200("/v2/models/good/ready"), 200);
  EXPECT_EQ(Status200("/v2/models/bad/ready"), 400);
  EXPECT_EQ(Status200("/v2/health/live"), 200);
  EXPECT_EQ(Status200("/v2/health/ready"), 400);
  std::map<std::string, std::string> reasons;
  for (const json& entry : Index()) {
    if (entry.contains("reason")) reasons[entry["name"]] = entry["reason"];
  }
  EXPECT_NE(reasons["bad"].find("unable to find backend 'nothing'"), std::string::npos);
  EXPECT_NE(reasons["worse"].find("max_batch"), std::string::npos);
  EXPECT_NE(reasons["empty"].find("at least one version must be available"), std::string::npos);
  EXPECT_NE(reasons["nameless"].find("Could not determine backend"), std::string::npos);
}

TEST_F(RepositoryTest, APathMayBeAModelItself) {
  repository_.Add("alone", testing::IdentityConfig("TYPE_INT32"));
  ASSERT_TRUE(Start({.paths = {repository_.path() + "/alone/"}}).ok());
  EXPECT_EQ(Status200("/v2/models/alone/ready"), 200);
}

TEST_F(RepositoryTest, VersionPolicies) {
  const std::string identity = testing::IdentityConfig("TYPE_INT32");
  for (const char* version : {"1", "2", "10", "03", "x"}) {
    repository_.Add("latest", identity + "version_policy { latest { num_versions: 2 } }", version);
    repository_.Add("specific", identity + "version_policy { specific { versions: [1] } }",
                    version);
  }
  ASSERT_TRUE(Start({}).ok());
  const auto versions = [&](const std::string& model) {
    return Get(server_->http_port(), "/v2/models/" + model).Json()["versions"];
  };
  EXPECT_EQ(versions("latest"), json({"2", "10"}));
  EXPECT_EQ(versions("specific"), json({"1"}));
}

TEST_F(RepositoryTest, ReloadingUnderLoadLosesNoRequest) {
  const auto config = [](int delay_ms) {
    return testing::IdentityConfig(
        "TYPE_INT32", "[-1]",
        fmt::format("parameters {{ key: 'execute_delay_ms' value {{ string_value: '{}' }} }}",
                    delay_ms));
  };
  repository_.Add("a", config(1));
  ASSERT_TRUE(Start({.control_mode = ControlMode::kExplicit, .load_models = {"*"}}).ok());
  std::atomic<bool> stop{false};
  std::atomic<int> answered{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&] {
      while (!stop.load()) {
        const Reply reply = Post(server_->http_port(), "/v2/models/a/generate", R"({"INPUT0": 1})");
        EXPECT_EQ(reply.status, 200) << reply.body;
        ++answered;
      }
    });
  }
  for (int i = 2; i < 10; ++i) {
    repository_.Add("a", config(i % 3));
    EXPECT_EQ(Load("a").status, 200);
    const int before = answered.load();
    while (answered.load() < before + 5) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  stop = true;
  for (std::thread& client : clients) client.join();
}

TEST_F(RepositoryTest, LoadsNotYetBegunAreAnsweredAtTheEnd) {
  repository_.Add("slow", testing::IdentityConfig("TYPE_INT32", "[-1]",
                                                  "parameters { key: 'creation_delay_sec' "
                                                  "value { string_value: '1' } }"));
  repository_.Add("b", testing::IdentityConfig("TYPE_INT32"));
  ASSERT_TRUE(Start({.control_mode = ControlMode::kExplicit}).ok());
  int second = 200;
  std::thread first([&] { Load("slow"); });
  while (Index()[1]["state"] != "LOADING")
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::thread other([&] { second = Load("b").status; });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  server_->Shutdown(std::chrono::milliseconds(0));
  first.join();
  other.join();
  EXPECT_NE(second, 200);
}

TEST_F(RepositoryTest, PollingFollowsTheFolder) {
  repository_.Add("a", testing::IdentityConfig("TYPE_INT32"));
  ASSERT_TRUE(Start({.control_mode = ControlMode::kPoll, .poll_secs = 1}).ok());
  repository_.Add("b", testing::IdentityConfig("TYPE_INT32"));
  std::filesystem::remove_all(repository_.path() + "/a");
  for (int i = 0; i < 1000; ++i) {
    if (Status200("/v2/models/b/ready") == 200 && Status200("/v2/models/a/ready") == 400) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ADD_FAILURE() << Index().dump();
}

}  // namespace
}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
#include "server/backends/llm/kv_share.h"

#include <gtest/gtest.h>

#include "base/status.h"
#include "server/core/model.h"
#include "server/testing/repository_fixture.h"

namespace trireme::server {
namespace {

// Knows no model: none is loaded.
class NobodyLoaded : public ModelCaller {
 public:
  StatusOr<std::shared_ptr<Model>> FindModel(const std::string& name, int64_t) const override {
    return NotFound("{}", name);
  }
  StatusOr<std::shared_ptr<InferCall>> Infer(InferRequest, InferCall::ResponseFn) override {
    return Unimplemented("nobody to ask");
  }
};

TEST(KvShareTest, CountsTheTextModelsThatAreStillToCome) {
  testing::TestRepository repository;
  repository.Add("a", "backend: 'llm'");
  repository.Add("b", "backend: '${triton_backend}'");
  repository.Add("c", "backend: 'vllm'");
  repository.Add("d", "platform: 'tensorrt_llm'");
  repository.Add("other", "backend: 'identity'");
  repository.Add("broken", "backend: ");
  NobodyLoaded caller;
  MetricsRegistry metrics;
  const ModelConfig config;
  const std::map<std::string, std::string> settings;
  const auto count = [&](const std::string& model_dir) {
    return NumTextModelsToLoad({.config = config,
                                .model_dir = model_dir,
                                .version_dir = model_dir + "/1",
                                .metrics = metrics,
                                .caller = caller,
                                .settings = settings});
  };
  EXPECT_EQ(count(repository.path() + "/a"), 4);
  EXPECT_EQ(count(""), 1);
}

}  // namespace
}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
// Infer responses of KServe v2 over HTTP. Pure functions.
#pragma once

#include <string>

#include "server/core/inference.h"
#include "server/frontends/http_server.h"
#include "server/frontends/output_options.h"

namespace trireme::server {

struct ReplyOptions {
  std::string_view id;
  std::string_view model_name;
  int64_t model_version = 1;
  const OutputOptionsMap& outputs;
  bool binary_outputs = false;  // of outputs not listed
};

StatusOr<HttpResponse> InferReply(const InferResponse& response, const ReplyOptions& options);

}  // namespace trireme::server

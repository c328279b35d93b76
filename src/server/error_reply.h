// SPDX-License-Identifier: Apache-2.0
// Status to HTTP, in one table. Pure functions.
#pragma once

#include <string>

#include "server/frontends/http_server.h"
#include "trireme/status.h"

namespace trireme::server {

// INTERNAL 500, NOT_FOUND 404, UNAVAILABLE and RESOURCE_EXHAUSTED 503, UNIMPLEMENTED 501, all else
// 400, as Triton does.
int HttpStatusOf(StatusCode code);

// {"error":"message"}
std::string ErrorJson(std::string_view message);
HttpResponse ErrorResponse(const Status& status);
HttpResponse ErrorResponse(int http_status, std::string_view message);
HttpResponse JsonResponse(std::string json);

}  // namespace trireme::server

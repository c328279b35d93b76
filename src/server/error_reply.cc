// SPDX-License-Identifier: Apache-2.0
#include "server/error_reply.h"

#include <nlohmann/json.hpp>

namespace trireme::server {

int HttpStatusOf(StatusCode code) {
  switch (code) {
    case StatusCode::kOk: return 200;
    case StatusCode::kInternal: return 500;
    case StatusCode::kNotFound: return 404;
    // Whoever cancels over HTTP hangs up; an answer comes when the server did it, at its end.
    case StatusCode::kCancelled:
    case StatusCode::kUnavailable:
    case StatusCode::kResourceExhausted: return 503;
    case StatusCode::kUnimplemented: return 501;
    case StatusCode::kDeadlineExceeded: return 504;
    default: return 400;
  }
}

std::string ErrorJson(std::string_view message) {
  // A message may quote bytes a client sent; they are replaced where they are not UTF-8.
  return nlohmann::json{{"error", message}}.dump(-1, ' ', false,
                                                 nlohmann::json::error_handler_t::replace);
}

HttpResponse ErrorResponse(int http_status, std::string_view message) {
  HttpResponse response;
  response.status = http_status;
  response.content_type = "application/json";
  response.body = ErrorJson(message);
  return response;
}

HttpResponse ErrorResponse(const Status& status) {
  return ErrorResponse(HttpStatusOf(status.code()), status.message());
}

HttpResponse JsonResponse(std::string json) {
  HttpResponse response;
  response.content_type = "application/json";
  response.body = std::move(json);
  return response;
}

}  // namespace trireme::server

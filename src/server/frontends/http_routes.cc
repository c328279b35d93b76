// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/http_routes.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "server/core/json_text.h"
#include "server/core/log_settings.h"
#include "server/error_reply.h"
#include "server/frontends/base64.h"

namespace trireme::server {
namespace {

std::vector<std::string> Segments(const std::string& path) {
  std::vector<std::string> segments;
  size_t begin = 1;
  while (begin <= path.size()) {
    const size_t end = std::min(path.find('/', begin), path.size());
    segments.push_back(path.substr(begin, end - begin));
    begin = end + 1;
  }
  return segments;
}

void NotFoundRoute(HttpExchange& exchange) { exchange.Send(ErrorResponse(404, "Not Found")); }

// True when the method fits; else the exchange is answered.
bool Takes(HttpExchange& exchange, std::string_view method) {
  const std::string& used = exchange.request().method;
  if (used == method || (method == "GET" && used == "HEAD")) return true;
  exchange.Send(ErrorResponse(405, "Method Not Allowed"));
  return false;
}

void SendJson(HttpExchange& exchange, StatusOr<std::string> json) {
  exchange.Send(json.ok() ? JsonResponse(std::move(*json)) : ErrorResponse(json.status()));
}

// An empty body, 200 or the error.
void SendStatus(HttpExchange& exchange, const Status& status) {
  exchange.Send(status.ok() ? HttpResponse() : ErrorResponse(status));
}

// 0: not a number.
int64_t VersionOf(const std::string& text) {
  int64_t version = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  return error == std::errc() && end == text.data() + text.size() && version > 0 ? version : 0;
}

// An empty body is an empty object.
StatusOr<Json> BodyObject(const HttpRequest& request) {
  if (request.body.find_first_not_of(" \t\r\n") == std::string::npos) return Json(Json::object());
  return ParseJsonObject(request.body);
}

StatusOr<LoadOverrides> ReadLoadRequest(const HttpRequest& request) {
  LoadOverrides overrides;
  TRIREME_ASSIGN_OR_RETURN(const Json body, BodyObject(request));
  const auto parameters = body.find("parameters");
  if (parameters == body.end()) return overrides;
  if (!parameters->is_object()) {
    return InvalidArgument("Expected JSON object for keyword: 'parameters'");
  }
  for (const auto& [key, value] : parameters->items()) {
    if (!value.is_string()) {
      return InvalidArgument("load parameter '{}' must be a string", key);
    }
    const std::string& text = value.get_ref<const std::string&>();
    if (key == "config") {
      overrides.config_json = text;
    } else if (key.starts_with("file:")) {
      TRIREME_ASSIGN_OR_RETURN(overrides.files[key.substr(5)], DecodeBase64(text));
    } else {
      return InvalidArgument("unknown load parameter '{}'; known are config and file:PATH", key);
    }
  }
  return overrides;
}

StatusOr<LogSettingMap> ReadLogSettings(const HttpRequest& request) {
  LogSettingMap settings;
  TRIREME_ASSIGN_OR_RETURN(const Json body, BodyObject(request));
  for (const auto& [key, value] : body.items()) {
    if (value.is_boolean()) {
      settings[key] = value.get<bool>();
    } else if (value.is_number_unsigned() && value.get<uint64_t>() <= UINT32_MAX) {
      settings[key] = value.get<uint32_t>();
    } else if (value.is_string()) {
      settings[key] = value.get<std::string>();
    } else {
      return InvalidArgument("log setting '{}' has an invalid type", key);
    }
  }
  return settings;
}

}  // namespace

void HttpRoutes::Handle(const Exchange& exchange) {
  if (core_.exiting()) return exchange->Send(ErrorResponse(503, "Server exiting"));
  const Path path = Segments(exchange->request().path);
  if (path.empty() || path[0] != "v2") return NotFoundRoute(*exchange);
  if (path.size() == 1) {
    if (Takes(*exchange, "GET")) SendJson(*exchange, core_.ServerMetadataJson());
    return;
  }
  if (path[1] == "health" && path.size() == 3) return HandleHealth(exchange, path[2]);
  if (path[1] == "models" && path.size() >= 3) return HandleModel(exchange, path);
  if (path[1] == "repository") return HandleRepository(exchange, path);
  if (path[1] == "systemsharedmemory" || path[1] == "cudasharedmemory") {
    return HandleSharedMemory(exchange, path);
  }
  if (path[1] == "logging" && path.size() == 2) return HandleLogging(exchange);
  if (path[1] == "trace" && path.size() == 3 && path[2] == "setting") return HandleTrace(exchange);
  NotFoundRoute(*exchange);
}

void HttpRoutes::HandleHealth(const Exchange& exchange, const std::string& what) {
  if (what != "live" && what != "ready") return NotFoundRoute(*exchange);
  if (!Takes(*exchange, "GET")) return;
  HttpResponse response;
  response.status = what == "live" || core_.repository().Ready() ? 200 : 400;
  exchange->Send(std::move(response));
}

void HttpRoutes::HandleModel(const Exchange& exchange, const Path& path) {
  const std::string& name = path[2];
  if (name == "stats" && path.size() == 3) {
    if (Takes(*exchange, "GET")) SendJson(*exchange, core_.StatisticsJson("", -1));
    return;
  }
  size_t at = 3;
  int64_t version = -1;
  if (path.size() > 4 && path[3] == "versions") {
    version = VersionOf(path[4]);
    if (version == 0) return NotFoundRoute(*exchange);
    at = 5;
  }
  const std::string action = path.size() > at ? path[at] : "";
  if (action == "trace" && at == 3 && path.size() == 5 && path[4] == "setting") {
    return HandleTrace(exchange);
  }
  if (path.size() > at + 1) return NotFoundRoute(*exchange);
  if (action == "infer" || action == "generate" || action == "generate_stream") {
    if (!Takes(*exchange, "POST")) return;
    if (action == "infer") return Infer(exchange, name, version);
    return Generate(exchange, name, version, action == "generate_stream");
  }
  HandleModelGet(exchange, name, version, action);
}

void HttpRoutes::HandleModelGet(const Exchange& exchange, const std::string& name, int64_t version,
                                const std::string& action) {
  constexpr std::string_view kActions[] = {"", "ready", "config", "stats"};
  if (std::find(std::begin(kActions), std::end(kActions), action) == std::end(kActions)) {
    return NotFoundRoute(*exchange);
  }
  if (!Takes(*exchange, "GET")) return;
  if (action == "ready") return SendStatus(*exchange, core_.ModelReady(name, version));
  if (action == "config") return SendJson(*exchange, core_.ModelConfigJson(name, version));
  if (action == "stats") return SendJson(*exchange, core_.StatisticsJson(name, version));
  SendJson(*exchange, core_.ModelMetadataJson(name, version));
}

void HttpRoutes::HandleRepository(const Exchange& exchange, const Path& path) {
  const std::string& last = path.back();
  if (last == "index" && (path.size() == 3 || path.size() == 4)) return HandleIndex(exchange);
  // The models' part ends with models/NAME/ACTION; a repository's name may stand before it.
  const size_t at = path.size() >= 5 && path[2] == "models" ? 2 : 3;
  if (path.size() != at + 3 || path[at] != "models" || (last != "load" && last != "unload")) {
    return NotFoundRoute(*exchange);
  }
  if (!Takes(*exchange, "POST")) return;
  if (at == 3) {
    return exchange->Send(ErrorResponse(501, "'repository_name' specification is not supported"));
  }
  if (last == "load") return HandleLoad(exchange, path[3]);
  HandleUnload(exchange, path[3]);
}

void HttpRoutes::HandleIndex(const Exchange& exchange) {
  if (!Takes(*exchange, "POST")) return;
  const StatusOr<Json> body = BodyObject(exchange->request());
  if (!body.ok()) return exchange->Send(ErrorResponse(body.status()));
  const auto ready = body->find("ready");
  if (ready != body->end() && !ready->is_boolean()) {
    return exchange->Send(ErrorResponse(400, "Invalid value for 'ready': expected a boolean"));
  }
  SendJson(*exchange, core_.IndexJson(ready != body->end() && ready->get<bool>()));
}

void HttpRoutes::HandleLoad(const Exchange& exchange, const std::string& name) {
  StatusOr<LoadOverrides> overrides = ReadLoadRequest(exchange->request());
  if (!overrides.ok()) return exchange->Send(ErrorResponse(overrides.status()));
  core_.repository().Load(name, std::move(*overrides),
                          [exchange](const Status& status) { SendStatus(*exchange, status); });
}

void HttpRoutes::HandleUnload(const Exchange& exchange, const std::string& name) {
  const StatusOr<Json> body = BodyObject(exchange->request());
  if (!body.ok()) return exchange->Send(ErrorResponse(body.status()));
  bool dependents = false;
  if (const auto parameters = body->find("parameters");
      parameters != body->end() && parameters->is_object()) {
    const auto found = parameters->find("unload_dependents");
    if (found != parameters->end() && !found->is_boolean()) {
      return exchange->Send(ErrorResponse(400, "'unload_dependents' must be true or false"));
    }
    dependents = found != parameters->end() && found->get<bool>();
  }
  core_.repository().Unload(name, dependents,
                            [exchange](const Status& status) { SendStatus(*exchange, status); });
}

void HttpRoutes::HandleSharedMemory(const Exchange& exchange, const Path& path) {
  const std::string& action = path.back();
  const bool has_region = path.size() == 5 && path[2] == "region";
  const std::string name = has_region ? path[3] : "";
  const bool known = action == "status" || action == "register" || action == "unregister";
  if (!known || (!has_region && path.size() != 3) || (action == "register" && !has_region)) {
    return NotFoundRoute(*exchange);
  }
  if (!Takes(*exchange, action == "status" ? "GET" : "POST")) return;
  if (path[1] == "cudasharedmemory") {
    return exchange->Send(ErrorResponse(501, "CUDA shared memory does not exist yet"));
  }
  if (action == "unregister") return SendStatus(*exchange, shared_memory_.Unregister(name));
  if (action == "status") {
    const auto regions = shared_memory_.List(name);
    if (!regions.ok()) return exchange->Send(ErrorResponse(regions.status()));
    Json list = Json::array();
    for (const SharedRegionInfo& region : *regions) {
      list.push_back({{"name", region.name},
                      {"key", region.key},
                      {"offset", region.offset},
                      {"byte_size", region.byte_size}});
    }
    return exchange->Send(JsonResponse(list.dump(-1, ' ', false, Json::error_handler_t::replace)));
  }
  const StatusOr<Json> body = BodyObject(exchange->request());
  if (!body.ok()) return exchange->Send(ErrorResponse(body.status()));
  const Json offset = body->value("offset", Json(0u));
  if (!body->contains("key") || !(*body)["key"].is_string() || !body->contains("byte_size") ||
      !(*body)["byte_size"].is_number_unsigned() || !offset.is_number_unsigned()) {
    return exchange->Send(ErrorResponse(
        400,
        "registering shared memory needs 'key' (string), 'byte_size' and optionally 'offset' "
        "(unsigned integers)"));
  }
  SendStatus(*exchange,
             shared_memory_.Register({.name = name,
                                      .key = (*body)["key"].get<std::string>(),
                                      .offset = offset.get<uint64_t>(),
                                      .byte_size = (*body)["byte_size"].get<uint64_t>()}));
}

void HttpRoutes::HandleLogging(const Exchange& exchange) {
  const bool post = exchange->request().method == "POST";
  if (!post && !Takes(*exchange, "GET")) return;
  if (post) {
    const StatusOr<LogSettingMap> changes = ReadLogSettings(exchange->request());
    const Status status = changes.ok() ? ChangeLogSettings(*changes) : changes.status();
    if (!status.ok()) return exchange->Send(ErrorResponse(status));
  }
  Json reply;
  for (const auto& [key, value] : CurrentLogSettings()) {
    std::visit([&, name = key](const auto& held) { reply[name] = held; }, value);
  }
  SendJson(*exchange, reply.dump());
}

void HttpRoutes::HandleTrace(const Exchange& exchange) {
  exchange->Send(ErrorResponse(501, "request tracing does not exist yet"));
}

}  // namespace trireme::server

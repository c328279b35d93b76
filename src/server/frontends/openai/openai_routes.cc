// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/openai/openai_routes.h"

#include <chrono>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "base/status.h"
#include "server/core/json_text.h"
#include "server/error_reply.h"
#include "server/frontends/openai/openai_job.h"

namespace trireme::server {
namespace {

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void SendError(HttpExchange& exchange, int http_status, const Status& status,
               std::string_view param = "") {
  HttpResponse response = OpenAiErrorResponse(status, param);
  response.status = http_status;
  exchange.Send(std::move(response));
}

// True when the method fits; else the exchange is answered.
bool TakesMethod(HttpExchange& exchange, std::string_view method) {
  const std::string& used = exchange.request().method;
  if (used == method || (method == "GET" && used == "HEAD")) return true;
  SendError(exchange, 405, InvalidArgument("this route takes {}, not {}", method, used));
  return false;
}

Json ModelJson(const std::string& name, Generator& generator, int64_t created) {
  return {{"id", name},
          {"object", "model"},
          {"created", created},
          {"owned_by", "trireme"},
          {"max_model_len", generator.executor().Info().max_seq_len}};
}

// Prompts become ids here, so that what is wrong with them is told apart from a full server.
Status EncodePrompts(Generator& generator, OpenAiRequest& request,
                     std::vector<std::string>& echoes) {
  for (GenerateRequest& generation : request.generations) {
    StatusOr<std::vector<TokenId>> ids = generator.Encode(generation);
    if (!ids.ok()) {
      return InvalidArgument("{}", ids.status().message());
    }
    if (ids->empty()) return InvalidArgument("a prompt has no tokens; give at least one");
    std::string echo;
    if (request.echo && generation.prompt) {
      echo = *generation.prompt;
    } else if (request.echo) {
      TRIREME_ASSIGN_OR_RETURN(echo,
                               generator.tokenizer().Decode(*ids, generation.skip_special_tokens));
    }
    echoes.push_back(std::move(echo));
    generation.prompt.reset();
    generation.messages_json.clear();
    generation.prompt_ids = std::move(*ids);
  }
  return OkStatus();
}

}  // namespace

OpenAiRoutes::OpenAiRoutes(ServerCore& core, int64_t max_json_bytes)
    : core_(core),
      max_json_bytes_(max_json_bytes),
      created_(UnixSeconds()),
      random_(std::random_device{}()) {}

bool OpenAiRoutes::Takes(std::string_view path) {
  return path == "/v1" || path.starts_with("/v1/");
}

HttpResponse OpenAiRoutes::LargeBodyReply(int64_t limit_bytes) {
  HttpResponse response =
      OpenAiErrorResponse(InvalidArgument("the body has more than {} bytes", limit_bytes), "");
  response.status = 413;
  return response;
}

uint64_t OpenAiRoutes::RandomBits() {
  MutexLock lock(mutex_);
  return random_();
}

void OpenAiRoutes::Handle(const Exchange& exchange) {
  const std::string& path = exchange->request().path;
  constexpr std::string_view kModel = "/v1/models/";
  if (core_.exiting()) {
    return exchange->Send(OpenAiErrorResponse(Unavailable("the server is shutting down")));
  }
  if (path == "/v1/models") return ListModels(*exchange);
  if (path.starts_with(kModel)) return ShowModel(*exchange, path.substr(kModel.size()));
  if (path == "/v1/chat/completions") return Generate(exchange, OpenAiKind::kChat);
  if (path == "/v1/completions") return Generate(exchange, OpenAiKind::kCompletion);
  SendError(*exchange, 404,
            InvalidArgument("no route '{}'; there are /v1/models, /v1/completions and "
                            "/v1/chat/completions",
                            path));
}

StatusOr<std::shared_ptr<Model>> OpenAiRoutes::FindTextModel(const std::string& name) const {
  StatusOr<std::shared_ptr<Model>> model = core_.FindModel(name, -1);
  if (model.ok() && (*model)->backend().generator() != nullptr) return model;
  if (!model.ok() && model.status().code() == StatusCode::kUnavailable) return model;
  return NotFound(
      "the model '{}' does not exist or generates no text; GET /v1/models lists those "
      "that do",
      name);
}

void OpenAiRoutes::ListModels(HttpExchange& exchange) const {
  if (!TakesMethod(exchange, "GET")) return;
  Json list = Json::array();
  std::set<std::string> names;
  for (const IndexEntry& entry : core_.repository().Index(/*ready_only=*/true)) {
    if (!names.insert(entry.name).second) continue;
    const auto model = FindTextModel(entry.name);
    if (!model.ok()) continue;
    list.push_back(ModelJson(entry.name, *(*model)->backend().generator(), created_));
  }
  exchange.Send(JsonResponse(Json{{"object", "list"}, {"data", std::move(list)}}.dump(
      -1, ' ', false, Json::error_handler_t::replace)));
}

void OpenAiRoutes::ShowModel(HttpExchange& exchange, const std::string& name) const {
  if (!TakesMethod(exchange, "GET")) return;
  const auto model = FindTextModel(name);
  if (!model.ok()) return exchange.Send(OpenAiErrorResponse(model.status(), "model"));
  const Json json = ModelJson(name, *(*model)->backend().generator(), created_);
  exchange.Send(JsonResponse(json.dump(-1, ' ', false, Json::error_handler_t::replace)));
}

void OpenAiRoutes::Generate(const Exchange& exchange, OpenAiKind kind) {
  if (!TakesMethod(*exchange, "POST")) return;
  const auto& headers = exchange->request().headers;
  const auto encoding = headers.find("content-encoding");
  if (encoding != headers.end() && encoding->second != "identity") {
    return SendError(*exchange, 415,
                     InvalidArgument("Content-Encoding '{}' is not taken here; send the body as "
                                     "it is",
                                     encoding->second));
  }
  if (std::cmp_greater(exchange->request().body.size(), max_json_bytes_)) {
    return exchange->Send(LargeBodyReply(max_json_bytes_));
  }
  std::string param;
  StatusOr<OpenAiRequest> request = ParseOpenAiRequest(kind, exchange->request().body, param);
  if (!request.ok()) return exchange->Send(OpenAiErrorResponse(request.status(), param));
  const auto model = FindTextModel(request->model);
  if (!model.ok()) return exchange->Send(OpenAiErrorResponse(model.status(), "model"));
  OpenAiJob::Params params;
  const Status encoded = EncodePrompts(*(*model)->backend().generator(), *request, params.echoes);
  if (!encoded.ok()) {
    const bool chat = kind == OpenAiKind::kChat;
    return exchange->Send(OpenAiErrorResponse(encoded, chat ? "messages" : "prompt"));
  }
  const uint64_t seed = request->seed ? *request->seed : RandomBits();
  for (GenerateRequest& generation : request->generations) generation.sampling.seed = seed;
  params.exchange = exchange;
  params.model = *model;
  params.answer = {
      .kind = kind,
      .id = fmt::format("{}-{:016x}{:016x}", kind == OpenAiKind::kChat ? "chatcmpl" : "cmpl",
                        RandomBits(), RandomBits()),
      .created = UnixSeconds(),
      .model = request->model,
      .log_probs = request->log_probs,
      .include_usage = request->include_usage};
  params.stream = request->stream;
  params.num_top_log_probs = request->num_top_log_probs;
  params.choices_per_prompt = request->choices_per_prompt();
  std::make_shared<OpenAiJob>(std::move(params))->Start(core_, std::move(request->generations));
}

}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
#include "server/frontends/grpc/grpc_server.h"

#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <climits>

#include "base/log.h"
#include "base/status.h"
#include "base/version.h"
#include "grpc_service.grpc.pb.h"
#include "health.grpc.pb.h"
#include "server/core/log_settings.h"
#include "server/frontends/grpc/grpc_convert.h"
#include "server/frontends/grpc/grpc_stream.h"

namespace trireme::server {
namespace {

using Context = grpc::CallbackServerContext;
using Reactor = grpc::ServerUnaryReactor;

Reactor* Answer(Context* context, const Status& status) {
  Reactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpc(status));
  return reactor;
}

class HealthService : public grpc::health::v1::Health::CallbackService {
 public:
  explicit HealthService(ServerCore& core) : core_(core) {}
  Reactor* Check(Context* context, const grpc::health::v1::HealthCheckRequest*,
                 grpc::health::v1::HealthCheckResponse* response) override {
    using Response = grpc::health::v1::HealthCheckResponse;
    response->set_status(core_.repository().Ready() ? Response::SERVING : Response::NOT_SERVING);
    return Answer(context, OkStatus());
  }

 private:
  ServerCore& core_;
};

class InferenceService : public inference::GRPCInferenceService::CallbackService {
 public:
  InferenceService(ServerCore& core, SharedMemory& shared_memory)
      : core_(core), shared_memory_(shared_memory) {}

  Reactor* ModelInfer(Context* context, const inference::ModelInferRequest* request,
                      inference::ModelInferResponse* response) override {
    return StartModelInfer(context, {core_, shared_memory_}, request, response);
  }
  grpc::ServerBidiReactor<inference::ModelInferRequest, inference::ModelStreamInferResponse>*
  ModelStreamInfer(Context* context) override {
    return StartModelStream(context, {core_, shared_memory_});
  }

  Reactor* ServerLive(Context* context, const inference::ServerLiveRequest*,
                      inference::ServerLiveResponse* response) override {
    response->set_live(true);
    return Answer(context, OkStatus());
  }
  Reactor* ServerReady(Context* context, const inference::ServerReadyRequest*,
                       inference::ServerReadyResponse* response) override {
    response->set_ready(core_.repository().Ready());
    return Answer(context, OkStatus());
  }
  Reactor* ServerMetadata(Context* context, const inference::ServerMetadataRequest*,
                          inference::ServerMetadataResponse* response) override {
    response->set_name(core_.id());
    response->set_version(std::string(Version()));
    for (const std::string& name : ServerCore::Extensions()) response->add_extensions(name);
    return Answer(context, OkStatus());
  }

  Reactor* ModelReady(Context* context, const inference::ModelReadyRequest* request,
                      inference::ModelReadyResponse* response) override {
    const StatusOr<int64_t> version = ParseGrpcVersion(request->version());
    if (!version.ok()) return Answer(context, version.status());
    const Status status = core_.ModelReady(request->name(), *version);
    if (status.code() == StatusCode::kNotFound) return Answer(context, status);
    response->set_ready(status.ok());
    return Answer(context, OkStatus());
  }
  Reactor* ModelMetadata(Context* context, const inference::ModelMetadataRequest* request,
                         inference::ModelMetadataResponse* response) override {
    return Answer(context, FillMetadata(*request, *response));
  }
  Reactor* ModelConfig(Context* context, const inference::ModelConfigRequest* request,
                       inference::ModelConfigResponse* response) override {
    const StatusOr<std::shared_ptr<Model>> model = Find(request->name(), request->version());
    if (!model.ok()) return Answer(context, model.status());
    const bool parsed = response->mutable_config()->ParseFromString((*model)->config().wire);
    return Answer(context, parsed ? OkStatus() : Internal("configuration does not parse again"));
  }
  Reactor* ModelStatistics(Context* context, const inference::ModelStatisticsRequest* request,
                           inference::ModelStatisticsResponse* response) override {
    return Answer(context, FillStatistics(*request, *response));
  }

  Reactor* RepositoryIndex(Context* context, const inference::RepositoryIndexRequest* request,
                           inference::RepositoryIndexResponse* response) override {
    for (const IndexEntry& entry : core_.repository().Index(request->ready())) {
      auto& model = *response->add_models();
      model.set_name(entry.name);
      if (entry.version > 0) model.set_version(std::to_string(entry.version));
      model.set_state(entry.state);
      model.set_reason(entry.reason);
    }
    return Answer(context, OkStatus());
  }
  Reactor* RepositoryModelLoad(Context* context,
                               const inference::RepositoryModelLoadRequest* request,
                               inference::RepositoryModelLoadResponse*) override {
    if (!request->repository_name().empty()) return Answer(context, NamedRepository());
    LoadOverrides overrides;
    for (const auto& [key, value] : request->parameters()) {
      if (key == "config" && value.has_string_param()) {
        overrides.config_json = value.string_param();
      } else if (key.starts_with("file:") && value.has_bytes_param()) {
        overrides.files[key.substr(5)] = value.bytes_param();
      } else {
        return Answer(context,
                      InvalidArgument("unknown load parameter '{}' or wrong type; known are "
                                      "config (string) and file:PATH (bytes)",
                                      key));
      }
    }
    Reactor* reactor = context->DefaultReactor();
    core_.repository().Load(request->model_name(), std::move(overrides),
                            [reactor](const Status& status) { reactor->Finish(ToGrpc(status)); });
    return reactor;
  }
  Reactor* RepositoryModelUnload(Context* context,
                                 const inference::RepositoryModelUnloadRequest* request,
                                 inference::RepositoryModelUnloadResponse*) override {
    if (!request->repository_name().empty()) return Answer(context, NamedRepository());
    const auto found = request->parameters().find("unload_dependents");
    const bool dependents = found != request->parameters().end() && found->second.bool_param();
    Reactor* reactor = context->DefaultReactor();
    core_.repository().Unload(request->model_name(), dependents,
                              [reactor](const Status& status) { reactor->Finish(ToGrpc(status)); });
    return reactor;
  }

  Reactor* SystemSharedMemoryStatus(
      Context* context, const inference::SystemSharedMemoryStatusRequest* request,
      inference::SystemSharedMemoryStatusResponse* response) override {
    const auto regions = shared_memory_.List(request->name());
    if (!regions.ok()) return Answer(context, regions.status());
    for (const SharedRegionInfo& region : *regions) {
      auto& to = (*response->mutable_regions())[region.name];
      to.set_name(region.name);
      to.set_key(region.key);
      to.set_offset(region.offset);
      to.set_byte_size(region.byte_size);
    }
    return Answer(context, OkStatus());
  }
  Reactor* SystemSharedMemoryRegister(Context* context,
                                      const inference::SystemSharedMemoryRegisterRequest* request,
                                      inference::SystemSharedMemoryRegisterResponse*) override {
    return Answer(context, shared_memory_.Register({.name = request->name(),
                                                    .key = request->key(),
                                                    .offset = request->offset(),
                                                    .byte_size = request->byte_size()}));
  }
  Reactor* SystemSharedMemoryUnregister(
      Context* context, const inference::SystemSharedMemoryUnregisterRequest* request,
      inference::SystemSharedMemoryUnregisterResponse*) override {
    return Answer(context, shared_memory_.Unregister(request->name()));
  }
  Reactor* CudaSharedMemoryStatus(Context* context, const inference::CudaSharedMemoryStatusRequest*,
                                  inference::CudaSharedMemoryStatusResponse*) override {
    return Answer(context, NoCuda());
  }
  Reactor* CudaSharedMemoryRegister(Context* context,
                                    const inference::CudaSharedMemoryRegisterRequest*,
                                    inference::CudaSharedMemoryRegisterResponse*) override {
    return Answer(context, NoCuda());
  }
  Reactor* CudaSharedMemoryUnregister(Context* context,
                                      const inference::CudaSharedMemoryUnregisterRequest*,
                                      inference::CudaSharedMemoryUnregisterResponse*) override {
    return Answer(context, NoCuda());
  }

  Reactor* TraceSetting(Context* context, const inference::TraceSettingRequest*,
                        inference::TraceSettingResponse*) override {
    return Answer(context, Unimplemented("request tracing does not exist yet"));
  }
  Reactor* LogSettings(Context* context, const inference::LogSettingsRequest* request,
                       inference::LogSettingsResponse* response) override {
    return Answer(context, ChangeLogs(*request, *response));
  }

 private:
  static Status NoCuda() { return Unimplemented("CUDA shared memory does not exist yet"); }
  static Status NamedRepository() {
    return Unimplemented("'repository_name' specification is not supported");
  }

  StatusOr<std::shared_ptr<Model>> Find(const std::string& name, const std::string& version) const {
    TRIREME_ASSIGN_OR_RETURN(const int64_t number, ParseGrpcVersion(version));
    return core_.FindModel(name, number);
  }

  template <typename List>
  static void FillTensors(const server::ModelConfig& config,
                          const std::vector<TensorConfig>& tensors, List* list) {
    for (const TensorConfig& tensor : tensors) {
      auto& to = *list->Add();
      to.set_name(tensor.name);
      to.set_datatype(std::string(DataTypeName(tensor.type)));
      for (const int64_t dim : config.FullDims(tensor)) to.add_shape(dim);
    }
  }

  Status FillMetadata(const inference::ModelMetadataRequest& request,
                      inference::ModelMetadataResponse& response) const {
    TRIREME_ASSIGN_OR_RETURN(const auto model, Find(request.name(), request.version()));
    const server::ModelConfig& config = model->config();
    response.set_name(request.name());
    if (!request.version().empty()) {
      response.add_versions(request.version());
    } else {
      for (const int64_t ready : core_.repository().ReadyVersions(request.name())) {
        response.add_versions(std::to_string(ready));
      }
    }
    response.set_platform(config.platform.empty() ? config.backend : config.platform);
    FillTensors(config, config.inputs, response.mutable_inputs());
    FillTensors(config, config.outputs, response.mutable_outputs());
    return OkStatus();
  }

  Status FillStatistics(const inference::ModelStatisticsRequest& request,
                        inference::ModelStatisticsResponse& response) const {
    TRIREME_ASSIGN_OR_RETURN(const int64_t version, ParseGrpcVersion(request.version()));
    TRIREME_ASSIGN_OR_RETURN(const auto models, core_.ModelsFor(request.name(), version));
    for (const auto& model : models) {
      auto& to = *response.add_model_stats();
      to.set_name(request.name().empty() ? model->config().name : request.name());
      to.set_version(std::to_string(model->version()));
      ToProto(model->Statistics(), to);
    }
    return OkStatus();
  }

  static Status ChangeLogs(const inference::LogSettingsRequest& request,
                           inference::LogSettingsResponse& response) {
    LogSettingMap changes;
    for (const auto& [key, value] : request.settings()) {
      if (value.has_bool_param()) {
        changes[key] = value.bool_param();
      } else if (value.has_uint32_param()) {
        changes[key] = value.uint32_param();
      } else {
        changes[key] = value.string_param();
      }
    }
    if (!changes.empty()) TRIREME_RETURN_IF_ERROR(ChangeLogSettings(changes));
    for (const auto& [key, value] : CurrentLogSettings()) {
      auto& to = (*response.mutable_settings())[key];
      if (const auto* flag = std::get_if<bool>(&value)) {
        to.set_bool_param(*flag);
      } else if (const auto* level = std::get_if<uint32_t>(&value)) {
        to.set_uint32_param(*level);
      } else {
        to.set_string_param(std::get<std::string>(value));
      }
    }
    return OkStatus();
  }

  ServerCore& core_;
  SharedMemory& shared_memory_;
};

class GrpcServerImpl : public GrpcServer {
 public:
  GrpcServerImpl(ServerCore& core, SharedMemory& shared_memory)
      : health_(core), inference_(core, shared_memory) {}
  ~GrpcServerImpl() override { Stop(std::chrono::milliseconds(0)); }

  Status Listen(const GrpcServerConfig& config) {
    grpc::ServerBuilder builder;
    const std::string address = fmt::format("{}:{}", config.address, config.port);
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port_);
    builder.SetMaxReceiveMessageSize(INT_MAX);
    builder.SetMaxSendMessageSize(INT_MAX);
    const std::pair<const char*, int> arguments[] = {
        {GRPC_ARG_ALLOW_REUSEPORT, 0},
        {GRPC_ARG_KEEPALIVE_TIME_MS, config.keepalive_time_ms},
        {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, config.keepalive_timeout_ms},
        {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, config.keepalive_permit_without_calls ? 1 : 0},
        {GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, config.http2_max_pings_without_data},
        {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
         config.http2_min_recv_ping_interval_without_data_ms},
        {GRPC_ARG_HTTP2_MAX_PING_STRIKES, config.http2_max_ping_strikes}};
    for (const auto& [name, value] : arguments) builder.AddChannelArgument(name, value);
    builder.RegisterService(&health_);
    builder.RegisterService(&inference_);
    server_ = builder.BuildAndStart();
    if (server_ != nullptr && port_ > 0) return OkStatus();
    server_ = nullptr;
    return AlreadyExists(
        "cannot listen on {} for gRPC: the port is taken by another program, or the "
        "address is not one of this machine's; choose another with --grpc-port",
        address);
  }

  int port() const override { return port_; }

  void Stop(std::chrono::milliseconds drain) override {
    if (server_ == nullptr) return;
    server_->Shutdown(std::chrono::system_clock::now() + drain);
    server_->Wait();
    server_ = nullptr;
  }

 private:
  HealthService health_;
  InferenceService inference_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

StatusOr<std::unique_ptr<GrpcServer>> GrpcServer::Start(const GrpcServerConfig& config,
                                                        ServerCore& core,
                                                        SharedMemory& shared_memory) {
  if (config.port < 0 || config.port > 65535) {
    return InvalidArgument("port {} does not exist; use 0 to 65535", config.port);
  }
  auto server = std::make_unique<GrpcServerImpl>(core, shared_memory);
  TRIREME_RETURN_IF_ERROR(server->Listen(config));
  LogInfo("Started GRPCInferenceService at {}:{}", config.address, server->port());
  return std::unique_ptr<GrpcServer>(std::move(server));
}

}  // namespace trireme::server

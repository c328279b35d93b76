// SPDX-License-Identifier: Apache-2.0
// The calls of the inference service that run a model: ModelInfer and ModelStreamInfer. Reactors own
// themselves; their methods are called by gRPC's threads and by the models' threads.
#pragma once

#include "server/core/server_core.h"
#include "server/core/shared_memory.h"

// Behind our own headers: gRPC's bring thread annotations with the names of ours, and take what is
// defined already.
#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include "grpc_service.pb.h"

namespace trireme::server {

struct GrpcContext {
  ServerCore& core;
  SharedMemory& shared_memory;
};

// Our codes are gRPC's.
grpc::Status ToGrpc(const Status& status);

grpc::ServerUnaryReactor* StartModelInfer(grpc::CallbackServerContext* context, GrpcContext grpc,
                                          const inference::ModelInferRequest* request,
                                          inference::ModelInferResponse* response);

grpc::ServerBidiReactor<inference::ModelInferRequest, inference::ModelStreamInferResponse>*
StartModelStream(grpc::CallbackServerContext* context, GrpcContext grpc);

}  // namespace trireme::server

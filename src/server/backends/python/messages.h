// SPDX-License-Identifier: Apache-2.0
// The messages between the server and a model process (docs/python_backend.md): those of the process
// are read here and held against every limit; those of the server are written here. Pure functions.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/core/inference.h"
#include "server/core/json_text.h"

namespace trireme::server {

// A tensor's place in the blob of its message.
struct TensorRow {
  std::string name;
  DataType type = DataType::kInvalid;
  Dims shape;
  uint64_t at = 0;
  uint64_t size = 0;
};

struct ProcessMessage {
  enum class Kind {
    kStarted,       // the model is initialised
    kFailed,        // it is not: `text` says why
    kCompleted,     // `text`: the completed configuration
    kBuffer,        // shared memory, with its descriptor: number, size
    kRelease,       // `buffers` of ours that are free again
    kForget,        // `buffers` of its own that are gone
    kResponse,      // to request `number`
    kExecuted,      // batch `number` is over
    kInfer,         // call `number` of another model
    kInferCancel,   // of call `number`
    kIsModelReady,  // question `number`
    kIsReady,       // the answer to question `number`
    kLog,
    kFinalized,
  };
  Kind kind = Kind::kFailed;
  uint64_t number = 0;
  uint64_t size = 0;
  std::vector<uint64_t> buffers;
  std::string text;
  std::string level;               // of a log line
  bool flag = false;               // has_is_ready, ready, decoupled
  InferResponse response;          // without its tensors
  InferRequest request;            // without its tensors
  std::vector<TensorRow> rows;     // of the response or request
  std::optional<uint64_t> buffer;  // where they lie; else in the frame's tail
};

// INVALID_ARGUMENT for what is no message.
StatusOr<ProcessMessage> ReadProcessMessage(std::string_view json);

// The tensors of `rows` in `blob`, which `owner` keeps alive. INVALID_ARGUMENT for a row that does not
// fit in there or is not as long as its shape says.
StatusOr<std::vector<Tensor>> TensorsIn(std::vector<TensorRow> rows, std::string_view blob,
                                        const std::shared_ptr<const void>& owner);

// A message of ours under construction: its JSON and the tensors of its blob.
class OutgoingMessage {
 public:
  explicit OutgoingMessage(const char* type) { json_["type"] = type; }

  Json& json() { return json_; }
  // A row for each, to put into the JSON; their bytes become part of the blob.
  Json AddTensors(std::span<const Tensor> tensors);

  uint64_t blob_bytes() const { return blob_bytes_; }
  void CopyBlob(char* to) const;

 private:
  struct Piece {
    uint64_t at;
    std::string_view data;
    std::shared_ptr<const void> owner;
  };
  Json json_;
  uint64_t blob_bytes_ = 0;
  std::vector<Piece> pieces_;
};

Json ToJson(const Parameters& parameters);
// A request as `execute` messages list it.
Json RequestJson(const InferRequest& request, uint64_t number, const std::vector<std::string>& all,
                 OutgoingMessage& message);

// The numbers of TritonError.
StatusCode StatusCodeOfError(int64_t code);
int ErrorOfStatusCode(StatusCode code);

}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
// trireme inspect: what is inside an engine, a checkpoint or a safetensors file.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "base/status.h"
#include "cli.h"
#include "commands.h"
#include "engine/engine_folder.h"
#include "formats/checkpoint.h"
#include "formats/hf_config.h"
#include "formats/hf_folder.h"
#include "formats/safetensors.h"
#include "models/count_parameters.h"
#include "models/hf_view.h"
#include "tensor/kv_layout.h"

namespace trireme::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr std::string_view kName = "inspect";

struct Flags {
  std::string path;
  bool tensors = false;
  bool plan = false;
  bool json = false;
  bool verify = false;
};

Json TensorsJson(const TensorSource& source, bool list) {
  int64_t bytes = 0;
  std::map<std::string, int64_t> bytes_by_dtype;
  Json tensors = Json::array();
  for (const std::string& name : source.Names()) {
    const StatusOr<TensorView> view = source.Get(name);
    if (!view.ok()) continue;
    bytes += view->num_bytes();
    bytes_by_dtype[std::string(DTypeName(view->dtype))] += view->num_bytes();
    if (list) {
      tensors.push_back({{"name", name},
                         {"dtype", DTypeName(view->dtype)},
                         {"shape", view->shape.ToString()},
                         {"bytes", view->num_bytes()}});
    }
  }
  Json json = {
      {"tensors", source.Names().size()}, {"bytes", bytes}, {"bytes_by_dtype", bytes_by_dtype}};
  if (list) json["list"] = std::move(tensors);
  return json;
}

// Of architectures that are known.
void AddParameters(const ModelConfig& config, Json& json) {
  const StatusOr<int64_t> count = models::CountParameters(config);
  if (count.ok()) json["parameters"] = *count;
}

Json PlanJson(const plan::Plan& plan) {
  Json launches = Json::array();
  for (const plan::Launch& launch : plan.launches) {
    Json json = {{"op", OpKindName(launch.kind)}, {"name", launch.name}};
    for (const plan::TacticChoice& tactic : launch.tactics) {
      json["tactics"].push_back({{"max_rows", tactic.max_rows},
                                 {"layout", tactic.layout},
                                 {"kernel", tactic.kernel},
                                 {"time_us", tactic.time_us}});
    }
    launches.push_back(std::move(json));
  }
  return launches;
}

StatusOr<Json> InspectEngine(const Flags& flags) {
  TRIREME_ASSIGN_OR_RETURN(const engine::LoadedEngine engine, engine::OpenEngine(flags.path));
  if (flags.verify) {
    ThreadPool pool(0, /*pin=*/false);
    TRIREME_RETURN_IF_ERROR(engine::VerifyWeights(engine, pool));
  }
  int64_t stored = 0;
  int64_t synthetic = 0;
  std::map<std::string, int64_t> bytes_by_layout;
  for (const plan::Weight& weight : engine.plan.weights) {
    (weight.synthetic_std > 0 ? synthetic : stored) += weight.num_bytes;
    bytes_by_layout[weight.layout] += weight.num_bytes;
  }
  const plan::MemoryPlan memory =
      plan::PlanMemory(engine.plan.buffers, engine.max_num_tokens, engine.max_batch_size);
  const KvLayout kv{engine.plan.kv_dtype, engine.plan.num_layers, engine.plan.num_kv_heads,
                    engine.plan.head_dim, engine.tokens_per_block};
  Json json = {{"kind", "engine"},
               {"architecture", engine.model.architecture},
               {"device", engine.plan.device},
               {"dtype", DTypeName(engine.plan.dtype)},
               {"kv_dtype", DTypeName(engine.plan.kv_dtype)},
               {"quant_algo", engine.model.quantization.quant_algo},
               {"layers", engine.plan.num_layers},
               {"vocab_size", engine.plan.vocab_size},
               {"max_batch_size", engine.max_batch_size},
               {"max_num_tokens", engine.max_num_tokens},
               {"max_seq_len", engine.max_seq_len},
               {"weights", engine.plan.weights.size()},
               {"weight_bytes", stored},
               {"synthetic_weight_bytes", synthetic},
               {"weight_bytes_by_layout", bytes_by_layout},
               {"kv_bytes_per_token", kv.block_bytes() / kv.block_size},
               {"activation_arena_bytes_at_limits", memory.total_bytes},
               {"launches", engine.plan.launches.size()}};
  AddParameters(engine.model, json);
  if (flags.verify) json["verified"] = "every weight matches its checksum";
  if (flags.tensors) {
    for (const plan::Weight& weight : engine.plan.weights) {
      json["list"].push_back({{"name", weight.name},
                              {"layout", weight.layout},
                              {"dtype", DTypeName(weight.dtype)},
                              {"shape", weight.shape.ToString()},
                              {"bytes", weight.num_bytes}});
    }
  }
  if (flags.plan) json["plan"] = PlanJson(engine.plan);
  return json;
}

StatusOr<Json> InspectCheckpoint(const Flags& flags) {
  TRIREME_ASSIGN_OR_RETURN(const ModelConfig config, LoadCheckpointConfig(flags.path));
  Json json = {{"kind", "checkpoint"},
               {"architecture", config.architecture},
               {"dtype", config.dtype},
               {"quant_algo", config.quantization.quant_algo},
               {"layers", config.num_hidden_layers},
               {"hidden_size", config.hidden_size},
               {"heads", config.num_attention_heads},
               {"kv_heads", config.num_key_value_heads},
               {"vocab_size", config.vocab_size},
               {"tp_size", config.mapping.tp_size},
               {"pp_size", config.mapping.pp_size}};
  AddParameters(config, json);
  for (int rank = 0; rank < config.mapping.world_size; ++rank) {
    TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<TensorSource> source,
                             OpenSafetensors(RankFile(flags.path, rank)));
    json["ranks"].push_back(TensorsJson(*source, flags.tensors));
  }
  return json;
}

StatusOr<Json> Inspect(const Flags& flags) {
  std::error_code error;
  const fs::path path = flags.path;
  if (!fs::exists(path, error)) return NotFound("nothing at '{}'", flags.path);
  const bool is_engine = !fs::is_directory(path, error) ? path.extension() != ".safetensors"
                                                        : fs::exists(path / "rank0.engine", error);
  if (is_engine) return InspectEngine(flags);
  if (flags.verify) {
    return InvalidArgument("--verify takes an engine; the files of '{}' hold no checksums",
                           flags.path);
  }
  if (flags.plan) {
    return InvalidArgument("--plan takes an engine; '{}' has no launches yet", flags.path);
  }
  if (!fs::is_directory(path, error)) {
    TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<TensorSource> source,
                             OpenSafetensors(flags.path));
    Json json = {{"kind", "safetensors"}};
    json.update(TensorsJson(*source, flags.tensors));
    return json;
  }
  if (fs::exists(path / "rank0.safetensors", error)) return InspectCheckpoint(flags);
  TRIREME_ASSIGN_OR_RETURN(const std::unique_ptr<TensorSource> source, OpenHfWeights(flags.path));
  Json json = {{"kind", "hugging_face"}};
  if (const StatusOr<HfConfig> hf = HfConfig::Load(flags.path); hf.ok()) {
    const StatusOr<models::FamilyConfig> family = models::ReadHfConfig(*hf);
    if (family.ok()) AddParameters(family->config, json);
  }
  json.update(TensorsJson(*source, flags.tensors));
  return json;
}

// A launch as rows of a table: one row for each of its tactics.
Json TacticRows(const Json& launch) {
  if (!launch.contains("tactics")) return Json::array({launch});
  Json rows = Json::array();
  for (const Json& tactic : launch["tactics"]) {
    Json row = {{"op", rows.empty() ? launch["op"] : Json("")},
                {"name", rows.empty() ? launch["name"] : Json("")}};
    row.update(tactic);
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string CellText(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.3f}", value.get<double>());
  return value.dump();
}

// Objects of an array as lines of aligned columns, numbers to the right; a column for each name.
void PrintTable(const Json& array, int indent) {
  Json rows = Json::array();
  for (const Json& element : array) {
    for (const Json& row : TacticRows(element)) rows.push_back(row);
  }
  std::vector<std::string> names;
  std::map<std::string, size_t> widths;
  for (const Json& row : rows) {
    for (const auto& [name, value] : row.items()) {
      if (widths.emplace(name, name.size()).second) names.push_back(name);
      widths[name] = std::max(widths[name], CellText(value).size());
    }
  }
  const auto print_line = [&](const auto& cell) {
    std::string text(static_cast<size_t>(indent), ' ');
    for (const std::string& name : names) text += cell(name) + "  ";
    text.erase(text.find_last_not_of(' ') + 1);
    fmt::print("{}\n", text);
  };
  print_line([&](const std::string& name) { return fmt::format("{:<{}}", name, widths[name]); });
  for (const Json& row : rows) {
    print_line([&](const std::string& name) {
      const Json value = row.value(name, Json(""));
      return value.is_number() ? fmt::format("{:>{}}", CellText(value), widths[name])
                               : fmt::format("{:<{}}", CellText(value), widths[name]);
    });
  }
}

void PrintText(const Json& json, int indent = 0) {
  for (const auto& [key, value] : json.items()) {
    const std::string margin(static_cast<size_t>(indent), ' ');
    if (value.is_object()) {
      fmt::print("{}{}:\n", margin, key);
      PrintText(value, indent + 2);
    } else if (value.is_array()) {
      // The ranks of a checkpoint hold lists of their own.
      if (key != "ranks") {
        fmt::print("{}{}:\n", margin, key);
        PrintTable(value, indent + 2);
        continue;
      }
      for (size_t rank = 0; rank < value.size(); ++rank) {
        fmt::print("{}rank {}:\n", margin, rank);
        PrintText(value[rank], indent + 2);
      }
    } else {
      fmt::print("{}{}: {}\n", margin, key, CellText(value));
    }
  }
}

}  // namespace

int RunInspect(std::span<const std::string> arguments) {
  Flags flags;
  CommandLine line(
      kName, "Show what is inside an engine, a checkpoint or a safetensors file.",
      {"trireme inspect engine --plan", "trireme inspect checkpoint --tensors --json"});
  line.AddPositional(
      "path", flags.path,
      "engine or checkpoint directory, Hugging Face folder, .engine or .safetensors");
  line.AddSwitch("--tensors", flags.tensors, "list every tensor");
  line.AddSwitch("--plan", flags.plan, "list the launches of an engine with their tactics");
  line.AddSwitch("--verify", flags.verify, "read every weight of an engine against its checksum");
  line.AddSwitch("--json", flags.json, "print JSON");
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (flags.path.empty()) return FailUsage(kName, InvalidArgument("name a file or folder"));
  const StatusOr<Json> json = Inspect(flags);
  if (!json.ok()) return Fail(kName, json.status());
  if (flags.json) {
    fmt::print("{}\n", json->dump(2));
  } else {
    PrintText(*json);
  }
  return kExitOk;
}

}  // namespace trireme::cli

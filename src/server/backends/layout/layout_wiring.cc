// SPDX-License-Identifier: Apache-2.0
#include "server/backends/layout/layout_wiring.h"

#include <algorithm>

#include "base/status.h"
#include "server/core/model.h"

namespace trireme::server {
namespace {

struct Wire {
  const char* tensor;  // of the ensemble
  const char* name;    // of the step
};

constexpr Wire kPreprocessingInputs[] = {{"text_input", "QUERY"},
                                         {"decoder_text_input", "DECODER_QUERY"},
                                         {"max_tokens", "REQUEST_OUTPUT_LEN"},
                                         {"bad_words", "BAD_WORDS_DICT"},
                                         {"stop_words", "STOP_WORDS_DICT"},
                                         {"embedding_bias_words", "EMBEDDING_BIAS_WORDS"},
                                         {"embedding_bias_weights", "EMBEDDING_BIAS_WEIGHTS"},
                                         {"end_id", "END_ID"},
                                         {"pad_id", "PAD_ID"},
                                         {"prompt_table_extra_id", "PROMPT_TABLE_EXTRA_ID"},
                                         {"image_url_input", "IMAGE_URL"},
                                         {"image_bytes_input", "IMAGE_BYTES"},
                                         {"video_bytes_input", "VIDEO_BYTES"}};

constexpr Wire kPreprocessingOutputs[] = {
    {"_INPUT_ID", "INPUT_ID"},
    {"_REQUEST_INPUT_LEN", "REQUEST_INPUT_LEN"},
    {"_DECODER_INPUT_ID", "DECODER_INPUT_ID"},
    {"_REQUEST_DECODER_INPUT_LEN", "REQUEST_DECODER_INPUT_LEN"},
    {"_REQUEST_OUTPUT_LEN", "REQUEST_OUTPUT_LEN"},
    {"_BAD_WORDS_IDS", "BAD_WORDS_IDS"},
    {"_STOP_WORDS_IDS", "STOP_WORDS_IDS"},
    {"_EMBEDDING_BIAS", "EMBEDDING_BIAS"},
    {"_END_ID", "OUT_END_ID"},
    {"_PAD_ID", "OUT_PAD_ID"},
    {"_PROMPT_TABLE_EXTRA_IDS", "OUT_PROMPT_TABLE_EXTRA_IDS"}};

// Where the names differ; every other input of the text model is fed from the ensemble's of its name.
constexpr Wire kCoreInputs[] = {{"_INPUT_ID", "input_ids"},
                                {"_REQUEST_INPUT_LEN", "input_lengths"},
                                {"_DECODER_INPUT_ID", "decoder_input_ids"},
                                {"_REQUEST_DECODER_INPUT_LEN", "decoder_input_lengths"},
                                {"_REQUEST_OUTPUT_LEN", "request_output_len"},
                                {"_BAD_WORDS_IDS", "bad_words_list"},
                                {"_STOP_WORDS_IDS", "stop_words_list"},
                                {"_EMBEDDING_BIAS", "embedding_bias"},
                                {"_END_ID", "end_id"},
                                {"_PAD_ID", "pad_id"},
                                {"_PROMPT_TABLE_EXTRA_IDS", "prompt_table_extra_ids"},
                                {"top_k", "runtime_top_k"},
                                {"top_p", "runtime_top_p"},
                                {"top_p_min", "runtime_top_p_min"},
                                {"top_p_decay", "runtime_top_p_decay"},
                                {"top_p_reset_ids", "runtime_top_p_reset_ids"},
                                {"length_penalty", "len_penalty"},
                                {"stream", "streaming"}};

constexpr Wire kCoreOutputs[] = {{"_OUTPUT_IDS", "output_ids"},
                                 {"_SEQUENCE_LENGTH", "sequence_length"}};
constexpr Wire kPostprocessingInputs[] = {{"_OUTPUT_IDS", "TOKENS_BATCH"},
                                          {"_SEQUENCE_LENGTH", "SEQUENCE_LENGTH"}};
constexpr Wire kPostprocessingOutputs[] = {{"text_output", "OUTPUT"}};

StatusOr<ModelConfig> ConfigOf(const std::string& name, const ModelCaller& caller) {
  const StatusOr<std::shared_ptr<Model>> model = caller.FindModel(name, -1);
  if (!model.ok())
    return Unavailable("model '{}' is not ready: {}", name, model.status().message());
  return (*model)->config();
}

void ConnectInputs(std::span<const Wire> wires, const ModelConfig& outer, const ModelConfig& inner,
                   EnsembleStep& step) {
  for (const Wire& wire : wires) {
    const bool is_internal = wire.tensor[0] == '_';
    if (inner.FindInput(wire.name) == nullptr) continue;
    if (is_internal || outer.FindInput(wire.tensor) != nullptr) {
      step.input_map[wire.name] = wire.tensor;
    }
  }
}

void ConnectOutputs(std::span<const Wire> wires, const ModelConfig& inner, EnsembleStep& step) {
  for (const Wire& wire : wires) {
    if (inner.FindOutput(wire.name) != nullptr) step.output_map[wire.name] = wire.tensor;
  }
}

// What preprocessing does not give, the text model does without.
void DropUnmade(const EnsembleStep& maker, EnsembleStep& step) {
  std::erase_if(step.input_map, [&](const auto& entry) {
    return entry.second.starts_with("_") &&
           std::ranges::none_of(maker.output_map,
                                [&](const auto& made) { return made.second == entry.second; });
  });
}

}  // namespace

StatusOr<ModelConfig> LayoutEnsemble(const ModelConfig& config, const LayoutModels& models,
                                     const ModelCaller& caller) {
  TRIREME_ASSIGN_OR_RETURN(const ModelConfig before, ConfigOf(models.preprocessing, caller));
  TRIREME_ASSIGN_OR_RETURN(const ModelConfig core, ConfigOf(models.core, caller));
  TRIREME_ASSIGN_OR_RETURN(const ModelConfig after, ConfigOf(models.postprocessing, caller));
  ModelConfig ensemble;
  ensemble.name = config.name;
  ensemble.platform = "ensemble";
  ensemble.max_batch_size = config.max_batch_size;
  for (const ModelConfig* inner : {&before, &core, &after}) {
    if (inner->max_batch_size > 0) {
      ensemble.max_batch_size = std::min(ensemble.max_batch_size, inner->max_batch_size);
    }
  }
  ensemble.inputs = config.inputs;
  ensemble.decoupled = before.decoupled || core.decoupled || after.decoupled;

  EnsembleStep& first = ensemble.ensemble_steps.emplace_back();
  first.model_name = models.preprocessing;
  ConnectInputs(kPreprocessingInputs, config, before, first);
  ConnectOutputs(kPreprocessingOutputs, before, first);

  EnsembleStep second;
  second.model_name = models.core;
  ConnectInputs(kCoreInputs, config, core, second);
  DropUnmade(first, second);
  ConnectOutputs(kCoreOutputs, core, second);
  for (const TensorConfig& input : core.inputs) {
    const bool is_text = std::ranges::any_of(
        kPreprocessingInputs, [&](const Wire& wire) { return input.name == wire.tensor; });
    if (!is_text && config.FindInput(input.name) != nullptr) {
      second.input_map.emplace(input.name, input.name);
    }
  }

  EnsembleStep third;
  third.model_name = models.postprocessing;
  ConnectInputs(kPostprocessingInputs, config, after, third);
  ConnectOutputs(kPostprocessingOutputs, after, third);
  for (const TensorConfig& output : config.outputs) {
    const bool from_core = output.name != "text_output" && core.FindOutput(output.name) != nullptr;
    if (from_core) second.output_map[output.name] = output.name;
    // What nobody makes is declared and never comes, as with the reference.
    if (from_core || output.name == "text_output") ensemble.outputs.push_back(output);
  }
  ensemble.ensemble_steps.push_back(std::move(second));
  ensemble.ensemble_steps.push_back(std::move(third));
  return ensemble;
}

}  // namespace trireme::server

// SPDX-License-Identifier: Apache-2.0
// From what a user names to an engine: an engine as it is; a checkpoint, a Hugging Face folder or an
// org/name of the local Hugging Face cache converted and built into Trireme's own cache first.
#pragma once

#include <string>

#include "trireme/status.h"

namespace trireme::cli {

// Environment and flags that bear on where things are.
struct ModelPlaces {
  std::string huggingface_hub;  // .../huggingface/hub
  std::string engine_cache;     // .../trireme/engines
};
ModelPlaces PlacesFromEnvironment();

struct ResolveOptions {
  // Of an engine built here: cpu, cuda, or cuda where a GPU is found. An engine that is there
  // already must agree with what is not left open.
  std::string device = "auto";
  std::string dtype = "auto";
  std::string weight_only_precision;  // "", "int8", "int4"
};

// What is wrong with the options, whatever the model. Errors name the flag.
Status CheckOptions(const ResolveOptions& options);

// "auto" becomes cuda where this program can use a GPU that is there, else cpu.
std::string ResolveDevice(const std::string& device);

// The path of an engine. Shows progress of what it has to make. NOT_FOUND names the command that
// downloads a model that is not in the cache.
StatusOr<std::string> ResolveEngine(const std::string& model, const ResolveOptions& options,
                                    const ModelPlaces& places);

}  // namespace trireme::cli

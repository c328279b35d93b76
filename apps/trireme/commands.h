// SPDX-License-Identifier: Apache-2.0
// The subcommands: one file each.
#pragma once

#include <span>
#include <string>

namespace trireme::cli {

int RunConvert(std::span<const std::string> arguments);
int RunBench(std::span<const std::string> arguments);
int RunEval(std::span<const std::string> arguments);
int RunFillTemplate(std::span<const std::string> arguments);
int RunBuild(std::span<const std::string> arguments);
int RunLaunch(std::span<const std::string> arguments);
int RunLora(std::span<const std::string> arguments);
int RunInspect(std::span<const std::string> arguments);
int RunQuantize(std::span<const std::string> arguments);
int RunRun(std::span<const std::string> arguments);
int RunServe(std::span<const std::string> arguments);
int RunTokenize(std::span<const std::string> arguments);

}  // namespace trireme::cli

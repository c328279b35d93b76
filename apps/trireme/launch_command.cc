// SPDX-License-Identifier: Apache-2.0
// trireme launch: a server in the background. Replaces launch_triton_server.py.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <thread>

#include "base/status.h"
#include "cli.h"
#include "commands.h"
#include "launched_server.h"

namespace trireme::cli {
namespace {

constexpr std::string_view kName = "launch";
constexpr Bounds kFixedPorts = {1, 65535};

struct Flags {
  std::string model_repo;
  int http_port = 8000;
  int grpc_port = 8001;
  int metrics_port = 8002;
  int exit_timeout = 30;
  bool force = false;
  bool log = false;
  bool stop = false;
  std::string log_file = "triton_log.txt";
};

void AddFlags(CommandLine& line, Flags& f) {
  line.Add("--model_repo,--model_repository,--model_store", f.model_repo, "folder of models");
  line.Add("--http_port", f.http_port, "port of HTTP", kFixedPorts);
  line.Add("--grpc_port", f.grpc_port, "port of gRPC", kFixedPorts);
  line.Add("--metrics_port", f.metrics_port, "port of the metrics", kFixedPorts);
  line.AddSwitch("-f,--force", f.force, "start although a server launched before still runs");
  line.AddSwitch("--log", f.log, "log verbosely, into --log-file");
  line.Add("--log_file", f.log_file, "with --log: file that lines are added to");
  line.Add("--exit_timeout", f.exit_timeout, "seconds running requests may take to end", {0, 1e6});
  line.AddSwitch("--stop", f.stop,
                 "end the server launched before: that of --http-port when several run");
  line.AddRefused("--world_size", "several ranks do not run yet", {"1"});
  line.AddRefused("--trtllm_llmapi_launch", "the llmapi models do not exist yet");
  line.AddNoEffect("--tritonserver", "this program is the server");
  line.AddNoEffect("--tensorrt_llm_model_name", "one process serves every rank of every model");
  line.AddNoEffect("--multi_model", "several models always share one process");
  line.AddNoEffect("--disable_spawn_processes", "one process serves every rank");
  line.AddNoEffect("--no_mpi", "one process serves every rank");
  line.AddNoEffect("--oversubscribe", "one process serves every rank");
  line.AddNoEffect("--multimodal_gpu0_cuda_mem_pool_bytes", "there is no such pool");
}

std::vector<std::string> ServeArguments(const Flags& f) {
  std::vector<std::string> arguments = {"trireme",
                                        "serve",
                                        "--model-repository=" + f.model_repo,
                                        fmt::format("--http-port={}", f.http_port),
                                        fmt::format("--grpc-port={}", f.grpc_port),
                                        fmt::format("--metrics-port={}", f.metrics_port),
                                        fmt::format("--exit-timeout-secs={}", f.exit_timeout)};
  if (f.log) {
    arguments.push_back("--log-verbose=3");
    arguments.push_back("--log-file=" + f.log_file);
  }
  return arguments;
}

// Becomes the server, apart from the terminal, whose signals pass it by.
[[noreturn]] void Become(const std::vector<std::string>& arguments) {
  ::setsid();
  const int null = ::open("/dev/null", O_RDONLY);
  if (null >= 0) ::dup2(null, STDIN_FILENO);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  ::execv("/proc/self/exe", argv.data());
  ::_exit(127);
}

// Waits until the server listens; its own words on stderr say why it did not.
Status WaitUntilListening(pid_t pid, int port) {
  while (!PortAnswers(port)) {
    int status = 0;
    if (::waitpid(pid, &status, WNOHANG) == pid) {
      return Internal("the server ended with {} before it listened on port {}",
                      WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), port);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return OkStatus();
}

Status Launch(const Flags& f) {
  TRIREME_ASSIGN_OR_RETURN(const LaunchRecords records, LaunchRecords::Open());
  if (const auto running = records.Running(); !running.empty() && !f.force) {
    const auto& [port, server] = *running.begin();
    return AlreadyExists(
        "a server launched before still runs: process {}, HTTP port {}; end it with `trireme "
        "launch "
        "--stop`, or start another with --force and other ports",
        server.pid, port);
  }
  if (PortAnswers(f.http_port)) {
    return Unavailable("port {} is taken; choose another with --http_port", f.http_port);
  }
  std::error_code error;
  if (!std::filesystem::is_directory(f.model_repo, error)) {
    return NotFound("model repository {} is not a folder", f.model_repo);
  }
  const std::vector<std::string> arguments = ServeArguments(f);
  const pid_t pid = ::fork();
  if (pid < 0) return ErrnoStatus(errno, "cannot start a process");
  if (pid == 0) Become(arguments);
  TRIREME_RETURN_IF_ERROR(WaitUntilListening(pid, f.http_port));
  TRIREME_RETURN_IF_ERROR(records.Write(f.http_port, pid));
  fmt::print("{}\n", pid);
  return OkStatus();
}

Status Stop(const Flags& f, bool port_given) {
  TRIREME_ASSIGN_OR_RETURN(const LaunchRecords records, LaunchRecords::Open());
  const std::map<int, LaunchedServer> running = records.Running();
  if (running.empty()) return NotFound("no launched server runs");
  auto chosen = running.begin();
  if (port_given || running.size() > 1) chosen = running.find(f.http_port);
  if (chosen == running.end()) {
    std::string ports;
    for (const auto& [port, server] : running) ports += fmt::format(" {}", port);
    return NotFound("no launched server has HTTP port {}; those that run have{}", f.http_port,
                    ports);
  }
  TRIREME_RETURN_IF_ERROR(
      StopServer(chosen->second, std::chrono::seconds(f.exit_timeout) + std::chrono::seconds(30)));
  records.Remove(chosen->first);
  return OkStatus();
}

}  // namespace

int RunLaunch(std::span<const std::string> arguments) {
  Flags flags;
  CommandLine line(kName, "Start a server in the background, and print its process id.",
                   {"trireme launch --model_repo models_dir", "trireme launch --stop"});
  AddFlags(line, flags);
  if (const std::optional<int> code = line.Parse(arguments)) return *code;
  if (!flags.stop && flags.model_repo.empty()) {
    return FailUsage(kName, InvalidArgument("name the folder of models: --model_repo FOLDER"));
  }
  const Status status = flags.stop ? Stop(flags, line.Given("--http_port")) : Launch(flags);
  return status.ok() ? kExitOk : Fail(kName, status);
}

}  // namespace trireme::cli

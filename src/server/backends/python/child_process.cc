// SPDX-License-Identifier: Apache-2.0
#include "server/backends/python/child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "base/status.h"

extern char** environ;

namespace trireme::server {
namespace {

constexpr int kChildSocket = 3;
constexpr size_t kMaxLineBytes = 8192;
// How long a child that has closed its socket may take to end by itself.
constexpr int kEndingMs = 200;

StatusOr<std::pair<Descriptor, Descriptor>> MakePair(bool socket) {
  int fds[2] = {-1, -1};
  const int failed =
      socket ? ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) : ::pipe2(fds, O_CLOEXEC);
  if (failed != 0) return ErrnoStatus(errno, "connecting a model process");
  return std::pair(Descriptor(fds[0]), Descriptor(fds[1]));
}

// Attributes and file actions of a spawn, freed at the end.
struct SpawnPlan {
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_t actions;

  SpawnPlan(int socket, int out, int err) {
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_init(&actions);
    // The server blocks and ignores signals that the child needs.
    sigset_t none;
    sigset_t restored;
    ::sigemptyset(&none);
    ::sigemptyset(&restored);
    for (const int signal : {SIGPIPE, SIGINT, SIGTERM}) ::sigaddset(&restored, signal);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setsigdefault(&attributes, &restored);
    ::posix_spawnattr_setpgroup(&attributes, 0);
    ::posix_spawnattr_setflags(
        &attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions, out, 1);
    ::posix_spawn_file_actions_adddup2(&actions, err, 2);
    ::posix_spawn_file_actions_adddup2(&actions, socket, kChildSocket);
    ::posix_spawn_file_actions_addclosefrom_np(&actions, kChildSocket + 1);
  }
  ~SpawnPlan() {
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&actions);
  }
};

}  // namespace

StatusOr<ChildProcess> ChildProcess::Spawn(const std::vector<std::string>& command) {
  TRIREME_ASSIGN_OR_RETURN(auto socket, MakePair(true));
  TRIREME_ASSIGN_OR_RETURN(auto out, MakePair(false));
  TRIREME_ASSIGN_OR_RETURN(auto err, MakePair(false));
  // Out of the way of the numbers the child gets.
  Descriptor child_socket(::fcntl(socket.second.get(), F_DUPFD_CLOEXEC, 10));
  Descriptor child_out(::fcntl(out.second.get(), F_DUPFD_CLOEXEC, 10));
  Descriptor child_err(::fcntl(err.second.get(), F_DUPFD_CLOEXEC, 10));
  if (!child_socket.valid() || !child_out.valid() || !child_err.valid()) {
    return ErrnoStatus(errno, "connecting a model process");
  }
  SpawnPlan plan(child_socket.get(), child_out.get(), child_err.get());
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  ChildProcess child;
  // The environment is handed on, not read.
  const int failed = ::posix_spawnp(&child.pid_, arguments[0], &plan.actions, &plan.attributes,
                                    arguments.data(), environ);
  if (failed != 0) {
    child.pid_ = -1;
    return ErrnoStatus(failed, fmt::format("starting '{}'", command.front()));
  }
  for (const int fd : {out.first.get(), err.first.get()}) ::fcntl(fd, F_SETFL, O_NONBLOCK);
  child.socket_ = std::move(socket.first);
  child.stdout_ = std::move(out.first);
  child.stderr_ = std::move(err.first);
  return child;
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(other.pid_),
      socket_(std::move(other.socket_)),
      stdout_(std::move(other.stdout_)),
      stderr_(std::move(other.stderr_)) {
  other.pid_ = -1;
}

ChildProcess::~ChildProcess() { Reap(); }

std::string ChildProcess::Reap() {
  if (pid_ <= 0) return "";
  // Not collected yet: as long as it is not, its number stands for it and for its group.
  bool ended = false;
  for (int waited = 0; waited < kEndingMs && !ended; waited += 5) {
    siginfo_t info{};
    ended = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid == pid_;
    if (!ended) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  ::kill(-pid_, SIGKILL);  // also what the model started
  int state = 0;
  while (::waitpid(pid_, &state, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
  if (!ended) return "it did not end and was killed";
  if (WIFSIGNALED(state)) return fmt::format("killed by signal {}", WTERMSIG(state));
  return fmt::format("exit code {}", WEXITSTATUS(state));
}

std::vector<std::string> LineReader::Feed(std::string_view bytes) {
  std::vector<std::string> lines;
  for (const char c : bytes) {
    if (c != '\n') rest_ += c;
    if (c == '\n' || rest_.size() >= kMaxLineBytes) lines.push_back(TakeRest());
  }
  return lines;
}

std::string LineReader::TakeRest() {
  std::string line = std::move(rest_);
  rest_.clear();
  return line;
}

}  // namespace trireme::server

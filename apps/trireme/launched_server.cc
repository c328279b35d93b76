// SPDX-License-Identifier: Apache-2.0
#include "launched_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

#include "base/mapped_file.h"
#include "base/status.h"

namespace trireme::cli {
namespace {

namespace fs = std::filesystem;

// State and start time of a process; empty when there is none. See proc(5): fields 3 and 22, counted
// from behind the name in parentheses, which may hold anything.
std::vector<std::string> StatFields(pid_t pid) {
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const size_t end = text.rfind(')');
  std::vector<std::string> fields;
  if (end == std::string::npos) return fields;
  std::string field;
  for (const char c : text.substr(end + 1)) {
    if (c != ' ') {
      field += c;
    } else if (!field.empty()) {
      fields.push_back(std::move(field));
      field.clear();
    }
  }
  return fields;
}

constexpr size_t kState = 0;
constexpr size_t kStartTime = 19;

std::string StartTimeOf(pid_t pid) {
  const std::vector<std::string> fields = StatFields(pid);
  return fields.size() > kStartTime ? fields[kStartTime] : "";
}

}  // namespace

bool IsRunning(const LaunchedServer& server) {
  const std::vector<std::string> fields = StatFields(server.pid);
  // A process nobody waited for is a zombie: it has ended.
  return fields.size() > kStartTime && fields[kState] != "Z" && fields[kState] != "X" &&
         fields[kStartTime] == server.start_time;
}

StatusOr<LaunchRecords> LaunchRecords::Open() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  std::error_code error;
  const std::string folder =
      runtime != nullptr && *runtime != '\0' && fs::is_directory(runtime, error)
          ? fmt::format("{}/trireme", runtime)
          : fmt::format("{}/trireme-{}", fs::temp_directory_path(error).string(), ::getuid());
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    return ErrnoStatus(errno, "cannot make " + folder);
  }
  struct stat info {};
  if (::lstat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != ::getuid() ||
      (info.st_mode & 0022) != 0) {
    return FailedPrecondition("{} must be a folder that only you can write; remove it", folder);
  }
  return LaunchRecords(folder);
}

std::string LaunchRecords::PathOf(int port) const { return fmt::format("{}/{}", folder_, port); }

std::map<int, LaunchedServer> LaunchRecords::Running() const {
  std::map<int, LaunchedServer> running;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, error)) {
    const std::string name = entry.path().filename();
    int port = 0;
    const auto [end, bad] = std::from_chars(name.data(), name.data() + name.size(), port);
    if (bad != std::errc() || end != name.data() + name.size()) continue;
    LaunchedServer server;
    std::ifstream in(entry.path());
    in >> server.pid >> server.start_time;
    if (server.pid > 0 && IsRunning(server)) {
      running[port] = server;
    } else {
      Remove(port);
    }
  }
  return running;
}

Status LaunchRecords::Write(int port, pid_t pid) const {
  std::ofstream out(PathOf(port), std::ios::trunc);
  out << pid << ' ' << StartTimeOf(pid) << '\n';
  out.close();
  return out ? OkStatus() : Unavailable("cannot write {}", PathOf(port));
}

void LaunchRecords::Remove(int port) const { ::unlink(PathOf(port).c_str()); }

bool PortAnswers(int port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool answers =
      fd >= 0 && ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
  if (fd >= 0) ::close(fd);
  return answers;
}

Status StopServer(const LaunchedServer& server, std::chrono::seconds patience) {
  if (::kill(server.pid, SIGTERM) != 0 && errno != ESRCH) {
    return ErrnoStatus(errno, fmt::format("cannot end process {}", server.pid));
  }
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (IsRunning(server)) {
    if (std::chrono::steady_clock::now() > deadline) {
      return Unavailable("process {} still runs after {} s; it drains its requests, ask again",
                         server.pid, patience.count());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return OkStatus();
}

}  // namespace trireme::cli

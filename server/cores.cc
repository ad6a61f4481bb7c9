#include "server/cores.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_split.h>
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <thread>
#include <vector>

namespace bertrand {
namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

// "max 100000" or "50000 100000".
std::optional<double> ParseCpuMax(const std::string& text) {
  const std::vector<std::string> fields = absl::StrSplit(text, absl::ByAnyChar(" \n"));
  double quota = 0, period = 0;
  if (fields.size() < 2 || !absl::SimpleAtod(fields[0], &quota) ||
      !absl::SimpleAtod(fields[1], &period) || quota <= 0 || period <= 0) {
    return std::nullopt;
  }
  return quota / period;
}

std::optional<double> ReadVersion1(const std::string& folder) {
  double quota = 0, period = 0;
  if (!absl::SimpleAtod(ReadFile(folder + "/cpu.cfs_quota_us"), &quota) ||
      !absl::SimpleAtod(ReadFile(folder + "/cpu.cfs_period_us"), &period) || quota <= 0 ||
      period <= 0) {
    return std::nullopt;
  }
  return quota / period;
}

void TakeSmaller(std::optional<double> cores, std::optional<double>* least) {
  if (cores.has_value()) *least = std::min(least->value_or(*cores), *cores);
}

// The quotas of a group and of all groups above it. A container often sees its own group as the
// root, so the folders may not exist; the root always counts.
template <typename Read>
void VisitUpwards(const std::string& mount, std::string path, Read read,
                  std::optional<double>* least) {
  for (;;) {
    TakeSmaller(read(mount + path), least);
    const size_t slash = path.rfind('/');
    if (path.empty() || slash == std::string::npos) return;
    path.resize(slash);
  }
}

}  // namespace

std::optional<double> CgroupCores(const std::string& root, std::string_view proc_self_cgroup) {
  std::optional<double> least;
  const std::string text(proc_self_cgroup);
  const std::vector<std::string> lines = absl::StrSplit(text, '\n', absl::SkipEmpty());
  for (const std::string& line : lines) {
    const std::vector<std::string> fields = absl::StrSplit(line, absl::MaxSplits(':', 2));
    if (fields.size() != 3) continue;
    if (fields[1].empty()) {
      const auto read = [](const std::string& folder) {
        return ParseCpuMax(ReadFile(folder + "/cpu.max"));
      };
      VisitUpwards(root + "/sys/fs/cgroup", fields[2], read, &least);
      continue;
    }
    const std::vector<std::string> controllers = absl::StrSplit(fields[1], ',');
    if (std::find(controllers.begin(), controllers.end(), "cpu") == controllers.end()) continue;
    for (const char* mount : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"}) {
      VisitUpwards(root + mount, fields[2], ReadVersion1, &least);
    }
  }
  return least;
}

int AvailableCores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = CPU_COUNT(&set);
  if (const auto quota = CgroupCores("", ReadFile("/proc/self/cgroup")); quota.has_value()) {
    cores = std::min(cores, static_cast<int>(std::ceil(*quota)));
  }
  return std::max(cores, 1);
}

void RaiseOpenFilesLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace bertrand

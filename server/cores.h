#pragma once

// How many cores this process may really use: its affinity, cut by the cgroup's CPU quota (versions
// 1 and 2). std::thread::hardware_concurrency knows nothing of the latter, and a container with
// half a core of quota on 64 cores would start 64 threads that throttle one another.

#include <optional>
#include <string>
#include <string_view>

namespace bertrand {

// At least 1.
int AvailableCores();

// The quota in cores, from files under `root` ("" on a real system): cpu.max of the process's
// cgroup and its parents, or cpu.cfs_quota_us. Empty: none. `proc_self_cgroup` is the text of that
// file.
std::optional<double> CgroupCores(const std::string& root, std::string_view proc_self_cgroup);

// Lifts the soft limit on open files to the hard one: each connection is one.
void RaiseOpenFilesLimit();

}  // namespace bertrand

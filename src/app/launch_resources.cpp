// SPDX-License-Identifier: Apache-2.0
#include "app/launch_resources.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/ops/empty.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>
#include <system_error>

#include "app/resume_check.h"
#include "checkpoint/companion_files.h"
#include "checkpoint/unit_files.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "core/message_text.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

fs::path nearest_existing(const fs::path& folder) {
  fs::path path = fs::absolute(folder).lexically_normal();
  std::error_code error;
  while (!fs::exists(path, error) && path.has_relative_path()) path = path.parent_path();
  return path;
}

// Memory is what tmpfs takes, and there is no quota of it.
bool is_in_memory(const fs::path& folder) {
  struct statfs status {};
  return ::statfs(folder.c_str(), &status) == 0 && status.f_type == TMPFS_MAGIC;
}

// Why `num_bytes` cannot be had there; 0 if they can, or if nobody knows.
int try_space(const fs::path& folder, int64_t num_bytes) {
  if (num_bytes <= 0 || is_in_memory(folder)) return 0;
  const int file = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) return errno == EDQUOT ? EDQUOT : 0;
  const int status = ::fallocate(file, FALLOC_FL_KEEP_SIZE, 0, num_bytes);
  const int reason = status == 0 ? 0 : errno;
  ::close(file);
  return reason == ENOSPC || reason == EDQUOT ? reason : 0;
}

std::optional<int64_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  int64_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

// What the strictest of the control groups that hold this process leaves (version 2).
std::optional<int64_t> left_by_groups() {
  std::ifstream own("/proc/self/cgroup");
  std::optional<int64_t> least;
  for (std::string line; std::getline(own, line);) {
    if (!line.starts_with("0::/")) continue;
    const fs::path root = "/sys/fs/cgroup";
    for (fs::path group = root / line.substr(4); group.has_relative_path() && group != root;
         group = group.parent_path()) {
      const auto limit = number_in(group / "memory.max");
      const auto used = number_in(group / "memory.current");
      if (limit && used)
        least = std::min(least.value_or(*limit), std::max<int64_t>(0, *limit - *used));
    }
  }
  return least;
}

std::optional<int64_t> left_by_kernel() {
  std::ifstream info("/proc/meminfo");
  for (std::string line; std::getline(info, line);) {
    std::istringstream fields(line);
    std::string name;
    int64_t kibibytes = 0;
    if (fields >> name >> kibibytes && name == "MemAvailable:") return kibibytes * 1024;
  }
  return std::nullopt;
}

}  // namespace

Storage find_storage(const fs::path& folder) {
  const fs::path path = nearest_existing(folder);
  const auto refuse = [&](const std::string& reason) {
    throw CheckpointError(concat("run.folder ", folder.string(), " cannot be written: ", reason),
                          "set run.folder to a folder that you may write to");
  };
  if (!fs::is_directory(path)) refuse(path.string() + " is no folder");
  if (::access(path.c_str(), W_OK | X_OK) != 0) {
    refuse(concat(path.string(), ": ", std::strerror(errno)));
  }
  struct statvfs status {};
  if (::statvfs(path.c_str(), &status) != 0) {
    refuse(concat(path.string(), ": ", std::strerror(errno)));
  }
  return {.existing = path,
          .free_bytes = static_cast<int64_t>(status.f_bavail * status.f_frsize),
          .free_files = status.f_files == 0 ? -1 : static_cast<int64_t>(status.f_favail)};
}

RunSize run_size(const RunConfig& config, const std::vector<UnitLayout>& trained, DType stored) {
  const CheckpointOptions& options = config.checkpoint;
  const DType dtype = options.model_dtype == "auto"
                          ? stored
                          : dtype_named(options.model_dtype, "checkpoint.model_dtype");
  const int64_t one = checkpoint_bytes(
      trained,
      {dtype, stored_dtype_of(config.optimizer.state_dtype), config.train.ema_decay > 0.0});
  const int64_t final_model = num_elements(trained) * num_bits(dtype) / 8;
  return {.checkpoint = one, .most = (options.keep + 1) * one + final_model};
}

std::vector<Problem> find_space_problems(const RunConfig& config, const Storage& storage,
                                         int64_t most) {
  constexpr int64_t kFewestFiles = 1000;
  const int64_t wanted = most - bytes_of_checkpoints(config.run.folder);
  const char* remedy = "free some space, lower checkpoint.keep, or set run.folder elsewhere";
  std::vector<Problem> problems;
  const auto add = [&](const std::string& what, const char* cure) {
    problems.push_back({.what = what, .remedy = cure, .code = ExitCode::kCheckpoint});
  };
  const std::string place = storage.existing.string();
  const std::string needs = concat("run.folder needs ", readable_bytes(wanted), " more, but ");
  if (storage.free_bytes < wanted) {
    add(concat(needs, place, " has ", readable_bytes(storage.free_bytes)), remedy);
  } else if (const int reason = try_space(storage.existing, wanted)) {
    add(concat(needs, place, " does not give them: ", std::strerror(reason)), remedy);
  }
  if (storage.free_files >= 0 && storage.free_files < kFewestFiles) {
    add(concat(place, " has room for only ", storage.free_files, " more files"),
        "remove files, or set run.folder elsewhere");
  }
  return problems;
}

void require_run_space(const RunConfig& config, int64_t most, const std::string& node) {
  const auto problems = find_space_problems(config, find_storage(config.run.folder), most);
  if (problems.empty()) return;
  throw LaunchError(concat(problems.front().what, " (on ", node, ")"), problems.front().remedy);
}

std::optional<int64_t> available_memory() {
  const auto kernel = left_by_kernel(), groups = left_by_groups();
  if (kernel && groups) return std::min(*kernel, *groups);
  return kernel ? kernel : groups;
}

int64_t available_memory_of(at::Device device) {
  at::empty({1}, at::TensorOptions(device));  // From its first tensor on LibTorch knows a card.
  return static_cast<int64_t>(at::accelerator::getMemoryInfo(device.index()).first);
}

void log_memory_peak(at::Device device) {
  if (device.is_cpu()) return;
  const auto stats = at::accelerator::getDeviceStats(device.index());
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  log_event(concat("device_memory_peak=", readable_bytes(stats.reserved_bytes[kAll].peak),
                   " of_it_tensors=", readable_bytes(stats.allocated_bytes[kAll].peak)));
}

void require_memory(const NodeShare& share, const RunConfig& config, const MemoryFacts& facts,
                    std::optional<int64_t> available) {
  if (!available) return;
  const int64_t wanted = estimate_memory(config, facts).state * share.num_on_node;
  if (wanted <= *available) return;
  const std::string whose =
      share.num_on_node == 1 ? std::string("a rank") : concat(share.num_on_node, " ranks");
  throw LaunchError(
      concat("weights and optimizer state of ", whose, " take ", readable_bytes(wanted), ", but ",
             share.node, " has only ", readable_bytes(*available), " of memory left"),
      share.is_card ? "use more ranks at parallel.stage 3, or four bits: method qlora"
                    : "use more nodes at parallel.stage 3, fewer ranks on each at stages below "
                      "it, or ask Slurm for more memory: --mem=0");
}

}  // namespace temper

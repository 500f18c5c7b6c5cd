// SPDX-License-Identifier: Apache-2.0
#include "io/lock_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <optional>
#include <sstream>

#include "core/clock.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/json.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

constexpr size_t kCountDigits = 12;

bool write_and_close(int file, const std::string& text) {
  if (file < 0) return false;
  const bool is_written = ::write(file, text.data(), text.size()) == std::ssize(text);
  const int reason = errno;
  ::close(file);
  errno = reason;
  return is_written;
}

// Where process numbers mean the same: this boot of this machine, in this container.
std::string process_space() {
  std::string boot;
  std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
  std::error_code ignored;
  return boot + ' ' + fs::read_symlink("/proc/self/ns/pid", ignored).string();
}

// A number that is given again differs in this: the process' start, the 22nd field of its stat.
std::string start_of(int64_t process) {
  std::ifstream stat(concat("/proc/", process, "/stat"));
  std::string text((std::istreambuf_iterator<char>(stat)), std::istreambuf_iterator<char>());
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream fields(text.substr(name_end + 1));
  std::string field;
  for (int i = 3; i <= 22; ++i) fields >> field;
  return field;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  return text;
}

// What a lock file says; nothing if it is gone. One that is being created is empty for a moment.
std::optional<std::string> read_lock(const fs::path& path) {
  std::error_code error;
  if (!fs::exists(path, error)) return {};
  std::ifstream file(path);
  return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
}

std::string value(const Json& json, const char* key) {
  return json.is_object() && json.contains(key) && json[key].is_string()
             ? json[key].get<std::string>()
             : std::string("?");
}

Json parsed(const std::string& text) {
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

bool is_known_dead(const std::string& text) {
  const Json json = parsed(text);
  if (value(json, "process_space") != process_space()) return false;
  const Json& process = json["process"];
  if (!process.is_number_integer()) return false;
  return start_of(process.get<int64_t>()) != value(json, "process_start");
}

[[noreturn]] void refuse(const fs::path& path, const std::string& text) {
  const Json json = parsed(text);
  const std::string process =
      json.is_object() && json.contains("process") ? json["process"].dump() : std::string("?");
  throw LaunchError(
      concat(path.parent_path().string(), " is in use by ", value(json, "owner"), " on ",
             value(json, "host"), ", process ", process, ", since ", value(json, "since")),
      concat("wait until it has ended, or choose another run.folder; ", path.string(),
             " is renewed while it lives"));
}

// Blocks until the owner of `text` has renewed the lock, given it up, or is taken for dead.
void require_dead(const fs::path& path, const std::string& text, LockTimes times) {
  const Stopwatch watch;
  const double patience = std::chrono::duration<double>(times.patience).count();
  while (!is_known_dead(text) && watch.seconds() < patience) {
    std::this_thread::sleep_for(times.renewal / 4);
    const std::optional<std::string> now = read_lock(path);
    if (!now) return;
    if (*now != text && !now->empty()) refuse(path, *now);
  }
}

// Of those who find an owner dead, one moves its file away; a new owner's is not moved.
void remove_dead(const fs::path& path, const std::string& text) {
  const fs::path aside = concat(path.string(), ".dead.", host_name(), '.', ::getpid());
  std::error_code error;
  fs::rename(path, aside, error);
  if (error) return;
  if (read_lock(aside) != text) {
    ::link(aside.c_str(), path.c_str());  // It was renewed after all: back with it.
  }
  fs::remove(aside, error);
}

}  // namespace

LockFile::LockFile(fs::path path, std::string owner, LockTimes times)
    : path_(std::move(path)),
      times_(times),
      identity_{{"owner", std::move(owner)},
                {"host", host_name()},
                {"process", ::getpid()},
                {"process_start", start_of(::getpid())},
                {"process_space", process_space()},
                {"since", utc_now()}} {
  while (!create()) {
    const std::optional<std::string> text = read_lock(path_);
    if (!text) continue;
    require_dead(path_, *text, times_);
    remove_dead(path_, *text);
  }
  renewal_ = std::jthread([this](const std::stop_token& stop) { renew(stop); });
}

LockFile::~LockFile() {
  renewal_.request_stop();
  renewal_.join();
  std::error_code ignored;
  if (!is_lost_ && read_lock(path_) == content()) fs::remove(path_, ignored);
}

// The same length each time, so that it can be written over itself.
std::string LockFile::content() const {
  std::string renewals = std::to_string(num_renewals_);
  renewals.insert(0, kCountDigits - std::min(kCountDigits, renewals.size()), '0');
  Json json = identity_;
  json["renewals"] = renewals;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

bool LockFile::create() {
  const int file = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file < 0 && errno == EEXIST) return false;
  if (write_and_close(file, content())) return true;
  throw CheckpointError(concat("cannot lock ", path_.string(), ": ", std::strerror(errno)),
                        "check the folder, its rights and its space");
}

// Not flushed: others see it all the same, and a flush may wait behind a whole checkpoint. What
// fails is made up by the next renewal; the lock is lost only to one who watched for long.
void LockFile::renew(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  while (!stopped_.wait_for(lock, stop, times_.renewal, [] { return false; }) &&
         !stop.stop_requested()) {
    is_lost_ = read_lock(path_) != content();
    if (is_lost_) return;
    ++num_renewals_;
    write_and_close(::open(path_.c_str(), O_WRONLY | O_CLOEXEC), content());
  }
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "io/lock_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <optional>
#include <random>
#include <sstream>
#include <string_view>

#include "core/clock.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "core/message_text.h"
#include "core/stop_signal.h"
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
constexpr size_t kMostBytes = 65536;  // A lock has some hundred.
constexpr int kMostRounds = 8;        // In which an owner appears and vanishes; arbitrary.
constexpr int kMostAttempts = 5;      // At making the file, where the file system fails.

// 0, or the system's reason. What a network file system could not keep, it may tell at the close.
int write_and_close(int file, const std::string& text) {
  if (file < 0) return errno;
  const ssize_t count = ::write(file, text.data(), text.size());
  const int reason = count < 0 ? errno : count == std::ssize(text) ? 0 : ENOSPC;
  const bool is_closed = ::close(file) == 0;
  return reason == 0 && !is_closed ? errno : reason;
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

// What was seen of a lock file. An unreadable one may be anybody's.
struct Look {
  std::optional<std::string> text;
  int error = 0;  // Why there is no text; ENOENT: no file.

  bool is_gone() const { return error == ENOENT; }
};

// A network file system may fail once and be well at the next look.
bool may_pass(int error) {
  return error == EIO || error == ESTALE || error == EINTR || error == EAGAIN ||
         error == ETIMEDOUT || error == EBUSY || error == EREMOTEIO;
}

// Reads at most kMostBytes. One that is being created is empty for a moment.
Look read_open(int file) {
  std::string text;
  char bytes[4096];
  while (text.size() < kMostBytes) {
    const ssize_t count = ::read(file, bytes, sizeof bytes);
    if (count < 0) return {.text = {}, .error = errno};
    if (count == 0) break;
    text.append(bytes, static_cast<size_t>(count));
  }
  return {.text = std::move(text)};
}

// Throws: CheckpointError if it is a link, a folder or whatever else no lock is.
Look look_at(const fs::path& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return {.text = {}, .error = errno};
  if (!S_ISREG(status.st_mode)) {
    throw CheckpointError(concat("cannot lock ", path.string(), ": it is ",
                                 S_ISLNK(status.st_mode)   ? "a link"
                                 : S_ISDIR(status.st_mode) ? "a folder"
                                                           : "no file"),
                          "remove it: temper makes a file of that name while a job has the run");
  }
  const int file = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (file < 0) return {.text = {}, .error = errno};
  Look look = read_open(file);
  ::close(file);
  return look;
}

std::string value(const Json& json, const char* key) {
  return json.is_object() && json.contains(key) && json[key].is_string()
             ? json[key].get<std::string>()
             : std::string("?");
}

std::string shown_value(const Json& json, const char* key) {
  return quote_if_needed(value(json, key));
}

// Discarded, and so no object, if it is no JSON or nested too deeply to be shown.
Json parsed(const std::string& text) {
  try {
    return parse_json(text, {"lock", FilePurpose::kCheckpoint});
  } catch (const CheckpointError&) {
    return Json(Json::value_t::discarded);
  }
}

bool is_known_dead(const std::string& text) {
  const Json json = parsed(text);
  if (value(json, "process_space") != process_space()) return false;
  const auto process = json.find("process");
  if (process == json.end() || !process->is_number_integer()) return false;
  return start_of(process->get<int64_t>()) != value(json, "process_start");
}

[[noreturn]] void refuse(const fs::path& path, const std::string& text) {
  const Json json = parsed(text);
  const std::string process =
      json.is_object() && json.contains("process") ? shown(json["process"]) : std::string("?");
  throw LaunchError(concat(path.parent_path().string(), " is in use by ",
                           shown_value(json, "owner"), " on ", shown_value(json, "host"),
                           ", process ", process, ", since ", shown_value(json, "since")),
                    concat("wait until it has ended, or choose another run.folder; ", path.string(),
                           " is renewed while it lives"));
}

[[noreturn]] void refuse_file(const fs::path& path, const char* problem, int reason) {
  throw CheckpointError(concat(problem, ' ', path.string(), ": ", std::strerror(reason)),
                        "check the folder, its rights and its space");
}

// Between two looks at a lock that is not ours.
void wait_a_little(const fs::path& path, LockTimes times) {
  std::this_thread::sleep_for(times.renewal / 4);
  end_wait_if_asked(path.string());
}

// Blocks until the owner of a lock has renewed it, given it up, or is taken for dead; what the
// dead one's file says, or nothing if it is given up. Only a file that can be read at the end of
// the patience has shown that its owner does not renew it.
std::optional<std::string> await_dead(const fs::path& path, LockTimes times) {
  const double patience = std::chrono::duration<double>(times.patience).count();
  Look first = look_at(path), last = first;
  const auto is_dead = [&first] { return first.text && is_known_dead(*first.text); };
  if (!is_dead()) log_event(concat("lock waits_for=", path.string(), " seconds=", patience));
  for (Stopwatch watch; watch.seconds() < patience;) {
    if (is_dead()) return first.text;
    wait_a_little(path, times);
    last = look_at(path);
    if (last.is_gone()) return std::nullopt;
    if (!last.text) continue;
    if (!first.text) {
      first = last;
      watch.restart();
    }
    if (!last.text->empty() && last.text != first.text) refuse(path, *last.text);
  }
  if (!first.text || !last.text) refuse_file(path, "cannot read the lock", last.error);
  return first.text;
}

// Of those who find an owner dead, one moves its file away; a new owner's is not moved.
void remove_dead(const fs::path& path, const std::string& text) {
  const fs::path aside = concat(path.string(), ".dead.", host_name(), '.', ::getpid());
  if (::rename(path.c_str(), aside.c_str()) != 0) {
    if (errno == ENOENT || may_pass(errno)) return;
    refuse_file(path, "cannot remove the lock of a job that has ended,", errno);
  }
  if (look_at(aside).text != text) {
    ::link(aside.c_str(), path.c_str());  // It was renewed after all: back with it.
  }
  std::error_code ignored;
  fs::remove(aside, ignored);
}

std::string random_id() {
  std::random_device random;
  return concat(random(), '-', random());
}

}  // namespace

LockFile::LockFile(fs::path path, std::string owner, LockTimes times)
    : path_(std::move(path)),
      times_(times),
      identity_{{"id", random_id()},
                {"owner", std::move(owner)},
                {"host", host_name()},
                {"process", ::getpid()},
                {"process_start", start_of(::getpid())},
                {"process_space", process_space()},
                {"since", utc_now()}} {
  acquire();
  renewal_ = std::jthread([this](const std::stop_token& stop) { renew(stop); });
}

LockFile::~LockFile() {
  renewal_.request_stop();
  renewal_.join();
  try {
    std::error_code ignored;
    if (!is_lost_ && whose(look_at(path_).text) == Owner::kSelf) fs::remove(path_, ignored);
  } catch (const CheckpointError&) {
    // It was replaced by something that is no file, and so is not ours to remove.
  }
}

// The number of rounds is bounded: each of them ends, and a file system that says that the file is
// there and then that it is not must not hold the job for ever.
void LockFile::acquire() {
  for (int round = 0; round < kMostRounds; ++round) {
    if (create()) return;
    if (whose(look_at(path_).text) == Owner::kSelf) return;  // The failure was in the answer only.
    if (const auto text = await_dead(path_, times_)) remove_dead(path_, *text);
  }
  refuse_file(path_, "cannot lock", EBUSY);
}

LockFile::Owner LockFile::whose(const std::optional<std::string>& text) const {
  const Json json = parsed(text.value_or(""));
  if (!json.is_object()) return Owner::kUnknown;
  return value(json, "id") == identity_["id"].get<std::string>() ? Owner::kSelf : Owner::kAnother;
}

// The same length each time, so that it can be written over itself.
std::string LockFile::content() const {
  std::string renewals = std::to_string(num_renewals_);
  renewals.insert(0, kCountDigits - std::min(kCountDigits, renewals.size()), '0');
  Json json = identity_;
  json["renewals"] = renewals;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

// Makes the file, if there is none; nothing is left of one that could not be written.
int LockFile::try_to_create() const {
  const int file = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  const int reason = write_and_close(file, content());
  if (file >= 0 && reason != 0) ::unlink(path_.c_str());
  return reason;
}

bool LockFile::create() const {
  int reason = try_to_create();
  for (int attempt = 1; may_pass(reason) && attempt < kMostAttempts; ++attempt) {
    wait_a_little(path_, times_);
    reason = try_to_create();
  }
  if (reason != 0 && reason != EEXIST) refuse_file(path_, "cannot lock", reason);
  return reason == 0;
}

void LockFile::renew(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  Stopwatch since_renewal;
  int num_failures = 0;  // In a row.
  while (!stopped_.wait_for(lock, stop, times_.renewal, [] { return false; }) &&
         !stop.stop_requested()) {
    const Renewal result = try_to_renew(since_renewal.seconds(), num_failures);
    is_lost_ = result.is_lost;
    if (is_lost_) return;
    if (result.error == 0) {
      since_renewal.restart();
      num_failures = 0;
    } else if (num_failures++ == 0) {
      log_event(concat("warning=\"cannot renew ", path_.string(), ": ", std::strerror(result.error),
                       "\" retry_seconds=", std::chrono::duration<double>(times_.renewal).count()));
    }
  }
}

// Only a file that can be read and names somebody else says that the lock is lost, or one that is
// gone where another job had time enough to take it, and to give it up again. Not flushed: others
// see it all the same, and a flush may wait behind a whole checkpoint.
LockFile::Renewal LockFile::try_to_renew(double seconds_since_renewal, int num_failures) {
  Look look;
  try {
    look = look_at(path_);
  } catch (const CheckpointError&) {
    return {.error = EEXIST};  // No other job makes anything but a file.
  }
  const Owner owner = whose(look.text);
  if (owner == Owner::kAnother) return {.is_lost = true};
  if (look.is_gone()) {
    const bool may_have_been_taken =
        seconds_since_renewal > std::chrono::duration<double>(times_.patience).count();
    return {.is_lost = may_have_been_taken, .error = may_have_been_taken ? 0 : try_to_create()};
  }
  if (!look.text) return {.error = look.error};
  // What says nothing may be what a new owner is just about to fill, and is looked at twice.
  if (owner == Owner::kUnknown && num_failures == 0) return {.error = EBADMSG};
  ++num_renewals_;
  return {.error =
              write_and_close(::open(path_.c_str(), O_WRONLY | O_NOFOLLOW | O_CLOEXEC), content())};
}

}  // namespace temper

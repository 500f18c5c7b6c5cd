// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/background_writer.h"

#include <sys/resource.h>
#include <unistd.h>

#include <stdexcept>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

// Linux gives each thread a niceness of its own. With 15 it takes 3 % of a core that computes, and
// all of one that waits: a step beside a save loses as little. Refused or not, the save goes on.
void give_way() {
  constexpr int kNiceness = 15;
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNiceness);
}

}  // namespace

void BackgroundWriter::start(std::vector<FileJob> jobs, Haste haste) {
  if (is_active()) throw std::logic_error("BackgroundWriter: something is under way");
  jobs_ = std::move(jobs);
  digests_.clear();
  error_ = nullptr;
  is_over_ = false;
  num_written_ = 0;
  thread_ = std::jthread([this, haste](const std::stop_token& stop) {
    if (haste == Haste::kGivesWay) give_way();
    write_all(stop);
  });
}

void BackgroundWriter::write_all(const std::stop_token& stop) {
  try {
    for (const FileJob& job : jobs_) {
      if (stop.stop_requested()) break;
      digests_.push_back(write_parts(job, stop));
      ++num_written_;
    }
  } catch (const Error&) {
    error_ = std::current_exception();
  } catch (const std::exception& error) {
    error_ = std::make_exception_ptr(CheckpointError(
        concat("writing a checkpoint failed: ", error.what()), "look at memory and storage"));
  }
  is_over_ = true;
}

bool BackgroundWriter::is_done() const {
  if (!is_over_) return false;
  if (error_) std::rethrow_exception(error_);
  return true;
}

std::vector<std::vector<Digest>> BackgroundWriter::take_digests() {
  if (thread_.joinable()) thread_.join();
  jobs_.clear();
  if (error_) std::rethrow_exception(error_);
  return std::move(digests_);
}

void BackgroundWriter::stop() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  jobs_.clear();
}

}  // namespace temper

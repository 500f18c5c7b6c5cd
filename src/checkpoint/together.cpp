// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/together.h"

#include <algorithm>
#include <exception>
#include <span>
#include <thread>

#include "checkpoint/manifest.h"
#include "comm/agree.h"
#include "comm/bytes.h"
#include "core/concat.h"
#include "core/log.h"
#include "io/storage_error.h"

namespace temper {
namespace {

constexpr size_t kTextBytes = 4096;  // A longer problem or remedy is cut.

// What one rank tells the others; plain bytes, so that one gather moves it.
struct Outcome {
  int code = 0;           // 0: no error.
  bool may_pass = false;  // A StorageError: another try may succeed.
  bool is_newer = false;  // A NewerFormatError.
  char problem[kTextBytes] = {};
  char remedy[kTextBytes] = {};
};

[[noreturn]] void throw_as(const Outcome& outcome, int rank) {
  const std::string problem = concat("rank ", rank, ": ", outcome.problem);
  const std::string remedy = outcome.remedy;
  const auto code = static_cast<ExitCode>(outcome.code);
  if (outcome.may_pass) throw StorageError(problem, remedy);
  if (outcome.is_newer) throw NewerFormatError(problem, remedy);
  if (code == ExitCode::kConfiguration) throw ConfigError(problem, remedy);
  if (code == ExitCode::kData) throw DataError(problem, remedy);
  if (code == ExitCode::kModel) throw ModelError(problem, remedy);
  if (code == ExitCode::kRefused) throw LaunchError(problem, remedy);
  throw CheckpointError(problem, remedy);
}

}  // namespace

void do_together(Communicator& ranks, const std::function<void()>& work) {
  Outcome own;
  std::exception_ptr error;
  try {
    work();
  } catch (const Error& thrown) {
    error = std::current_exception();
    own.code = static_cast<int>(thrown.code());
    own.may_pass = dynamic_cast<const StorageError*>(&thrown) != nullptr;
    own.is_newer = dynamic_cast<const NewerFormatError*>(&thrown) != nullptr;
    thrown.problem().copy(own.problem, kTextBytes - 1);
    thrown.remedy().copy(own.remedy, kTextBytes - 1);
  }
  if (all_of(ranks, !error)) return;
  std::vector<Outcome> all(static_cast<size_t>(ranks.world_size()));
  gather_bytes(ranks, std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)));
  const bool may_pass =
      std::ranges::all_of(all, [](const Outcome& one) { return one.code == 0 || one.may_pass; });
  if (error && own.may_pass == may_pass) std::rethrow_exception(error);
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const Outcome& outcome = all[rank];
    if (outcome.code != 0 && outcome.may_pass == may_pass)
      throw_as(outcome, static_cast<int>(rank));
  }
}

Pauses default_pauses() {
  using std::chrono::seconds;
  return {seconds(1), seconds(2), seconds(4), seconds(8), seconds(16), seconds(32)};
}

void try_again(const Pauses& pauses, const std::function<void()>& work) {
  for (const std::chrono::milliseconds pause : pauses) {
    try {
      return work();
    } catch (const StorageError& error) {
      log_event(concat("storage problem=\"", error.problem(),
                       "\" next_try_in=", static_cast<double>(pause.count()) / 1000.0));
    }
    std::this_thread::sleep_for(pause);
  }
  work();
}

void do_on_rank_0(Communicator& ranks, const std::function<void()>& work) {
  do_together(ranks, [&] {
    if (ranks.rank() == 0) work();
  });
}

std::string broadcast_text(Communicator& ranks, const std::string& text) {
  size_t size = text.size();
  broadcast_bytes(ranks, std::as_writable_bytes(std::span(&size, 1)));
  std::string shared = text;
  shared.resize(size);
  broadcast_bytes(ranks, std::as_writable_bytes(std::span(shared)));
  return shared;
}

}  // namespace temper

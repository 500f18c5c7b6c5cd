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
#include "core/stop_signal.h"
#include "io/file.h"

namespace temper {
namespace {

constexpr size_t kTextBytes = 4096;  // A longer problem or remedy is cut.

// Which Error it is, where its code does not say so.
enum class Kind { kAsCodeSays, kStorage, kNewerFormat };

Kind kind_of(const Error& error) {
  if (dynamic_cast<const StorageError*>(&error) != nullptr) return Kind::kStorage;
  if (dynamic_cast<const NewerFormatError*>(&error) != nullptr) return Kind::kNewerFormat;
  return Kind::kAsCodeSays;
}

// What one rank tells the others; plain bytes, so that one gather moves it.
struct Outcome {
  int code = 0;  // 0: no error.
  Kind kind = Kind::kAsCodeSays;
  char problem[kTextBytes] = {};
  char remedy[kTextBytes] = {};
};

[[noreturn]] void throw_as(const Outcome& outcome, int rank) {
  const std::string problem = concat("rank ", rank, ": ", outcome.problem);
  const std::string remedy = outcome.remedy;
  const auto code = static_cast<ExitCode>(outcome.code);
  if (outcome.kind == Kind::kStorage) throw StorageError(problem, remedy);
  if (outcome.kind == Kind::kNewerFormat) throw NewerFormatError(problem, remedy);
  if (code == ExitCode::kConfiguration) throw ConfigError(problem, remedy);
  if (code == ExitCode::kData) throw DataError(problem, remedy);
  if (code == ExitCode::kModel) throw ModelError(problem, remedy);
  if (code == ExitCode::kRefused) throw LaunchError(problem, remedy);
  if (code == ExitCode::kResume) throw StopRequest(problem, remedy);
  throw CheckpointError(problem, remedy);
}

// Looks at every rank's signals now and then; each rank does so as often as the others.
void wait_together(Communicator& ranks, std::chrono::milliseconds pause) {
  constexpr std::chrono::milliseconds kLook{100};
  for (auto left = pause; left.count() > 0; left -= kLook) {
    std::this_thread::sleep_for(std::min(left, kLook));
    if (any_of(ranks, stop_signal() != 0)) end_wait("storage");
  }
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
    own.kind = kind_of(thrown);
    thrown.problem().copy(own.problem, kTextBytes - 1);
    thrown.remedy().copy(own.remedy, kTextBytes - 1);
  }
  if (all_of(ranks, !error)) return;
  std::vector<Outcome> all(static_cast<size_t>(ranks.world_size()));
  gather_bytes(ranks, std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)));
  const auto may_pass = [](const Outcome& one) { return one.kind == Kind::kStorage; };
  const bool may_all_pass =
      std::ranges::all_of(all, [&](const Outcome& one) { return one.code == 0 || may_pass(one); });
  if (error && may_pass(own) == may_all_pass) std::rethrow_exception(error);
  for (size_t rank = 0; rank < all.size(); ++rank) {
    const Outcome& outcome = all[rank];
    if (outcome.code == 0 || may_pass(outcome) != may_all_pass) continue;
    throw_as(outcome, static_cast<int>(rank));
  }
}

Pauses default_pauses() {
  using std::chrono::seconds;
  return {seconds(1), seconds(2), seconds(4), seconds(8), seconds(16), seconds(32)};
}

void try_again(Communicator& ranks, const Pauses& pauses, const std::function<void()>& work) {
  for (const std::chrono::milliseconds pause : pauses) {
    try {
      return work();
    } catch (const StorageError& error) {
      log_event(concat("storage problem=\"", error.problem(),
                       "\" next_try_in=", static_cast<double>(pause.count()) / 1000.0));
    }
    wait_together(ranks, pause);
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

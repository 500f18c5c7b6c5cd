// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/together.h"

#include <exception>
#include <span>
#include <vector>

#include "comm/agree.h"
#include "comm/bytes.h"
#include "core/concat.h"

namespace temper {
namespace {

constexpr size_t kTextBytes = 4096;  // A longer problem or remedy is cut.

// What one rank tells the others; plain bytes, so that one gather moves it.
struct Outcome {
  int code = 0;  // 0: no error.
  char problem[kTextBytes] = {};
  char remedy[kTextBytes] = {};
};

[[noreturn]] void throw_as(const Outcome& outcome, int rank) {
  const std::string problem = concat("rank ", rank, ": ", outcome.problem);
  const std::string remedy = outcome.remedy;
  const auto code = static_cast<ExitCode>(outcome.code);
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
    thrown.problem().copy(own.problem, kTextBytes - 1);
    thrown.remedy().copy(own.remedy, kTextBytes - 1);
  }
  if (all_of(ranks, !error)) return;
  std::vector<Outcome> all(static_cast<size_t>(ranks.world_size()));
  gather_bytes(ranks, std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)));
  if (error) std::rethrow_exception(error);
  for (size_t rank = 0; rank < all.size(); ++rank) {
    if (all[rank].code != 0) throw_as(all[rank], static_cast<int>(rank));
  }
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

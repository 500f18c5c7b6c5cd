// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/together.h"

#include <algorithm>
#include <exception>
#include <span>
#include <string_view>
#include <vector>

#include "comm/agree.h"
#include "comm/bytes.h"
#include "core/concat.h"

namespace temper {
namespace {

constexpr size_t kTextBytes = 4096;             // Longer messages are cut.
constexpr std::string_view kTry = "\n  try: ";  // As Error joins problem and remedy.

// What one rank tells the others; plain bytes, so that one gather moves it.
struct Outcome {
  int code = 0;  // 0: no error.
  char text[kTextBytes] = {};
};

[[noreturn]] void throw_as(const Outcome& outcome, int rank) {
  const std::string_view text = outcome.text;
  const size_t cut = std::min(text.find(kTry), text.size());
  const std::string problem = concat("rank ", rank, ": ", text.substr(0, cut));
  const std::string remedy(text.substr(std::min(cut + kTry.size(), text.size())));
  const auto code = static_cast<ExitCode>(outcome.code);
  if (code == ExitCode::kConfiguration) throw ConfigError(problem, remedy);
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
    std::string_view(thrown.what()).copy(own.text, kTextBytes - 1);
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

std::string problem_of(const Error& error) {
  const std::string_view text = error.what();
  return std::string(text.substr(0, text.find(kTry)));
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/checkpoint_list.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>
#include <system_error>

#include "core/concat.h"
#include "core/log.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "step-";

// The step in a name that checkpoint_name gives, followed by `suffix`.
std::optional<int64_t> step_of(std::string_view name, std::string_view suffix) {
  if (!name.starts_with(kPrefix) || !name.ends_with(suffix)) return {};
  const std::string_view digits =
      name.substr(kPrefix.size(), name.size() - kPrefix.size() - suffix.size());
  int64_t step = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  const bool is_number = error == std::errc() && end == digits.data() + digits.size() && step >= 0;
  if (!is_number || checkpoint_name(step) + std::string(suffix) != name) return {};
  return step;
}

}  // namespace

fs::path checkpoints_of(const fs::path& run) { return run / "checkpoints"; }

std::string checkpoint_name(int64_t step) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "step-%08lld", static_cast<long long>(step));
  return name.data();
}

bool is_checkpoint_name(std::string_view name) { return step_of(name, "").has_value(); }

std::vector<FoundCheckpoint> list_checkpoints(const fs::path& folder, std::string_view suffix) {
  std::vector<FoundCheckpoint> found;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  if (error == std::errc::no_such_file_or_directory) return found;
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const auto step = step_of(entry->path().filename().string(), suffix);
    if (step) found.push_back({*step, entry->path()});
  }
  std::ranges::sort(found, std::greater(), &FoundCheckpoint::step);
  if (!error) return found;
  const std::string problem =
      concat("cannot read the folder ", folder.string(), ": ", error.message());
  const char* remedy = "check that it exists and its rights";
  if (is_absence(error)) throw CheckpointError(problem, remedy);
  throw StorageError(problem, remedy);
}

ResolvedCheckpoint resolve_checkpoint(const fs::path& path, const CheckpointCheck& check) {
  std::error_code ignored;
  if (fs::exists(path / Manifest::kFileName, ignored)) return {path, check(path)};
  std::string passed_over;
  for (const FoundCheckpoint& found : list_checkpoints(checkpoints_of(path))) {
    try {
      return {found.path, check(found.path)};
    } catch (const UnjudgedError&) {
      throw;
    } catch (const CheckpointError& error) {
      log_event(concat("checkpoint passed_over=", found.path.string(), " reason=\"",
                       error.problem(), '"'));
      passed_over += "\n  " + error.problem();
    }
  }
  if (!passed_over.empty()) {
    throw CheckpointError(concat("no checkpoint of ", path.string(), " is whole:", passed_over),
                          "restore one of them");
  }
  throw CheckpointError(path.string() + " is no checkpoint, and no run that has one",
                        "give a folder such as RUN/checkpoints/step-00001000, or RUN itself");
}

}  // namespace temper

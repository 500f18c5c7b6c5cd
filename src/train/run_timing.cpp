// SPDX-License-Identifier: Apache-2.0
#include "train/run_timing.h"

#include <algorithm>
#include <system_error>

#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "io/file.h"
#include "io/json.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr const char* kFileName = "timing.json";
constexpr int64_t kMostBytes = 4096;  // Of a file that has five numbers.

// What a node gets from a busy file server. Arbitrary, and rather slow: a guess that is too short
// costs the job's last steps, one that is too long only some of its time.
constexpr double kSlowBytesPerSecond = 100e6;
constexpr double kSlowStart = 2.0;  // Seconds, for folders and flushes.

// How much longer fewer of something take; more of it need not be faster.
double stretch(int64_t then, int64_t now) {
  return std::max(1.0, static_cast<double>(then) / static_cast<double>(now));
}

}  // namespace

std::string to_json(const RunTiming& timing) {
  const Json json = {{"num_nodes", timing.shape.num_nodes},
                     {"num_ranks", timing.shape.num_ranks},
                     {"checkpoint_bytes", timing.checkpoint_bytes},
                     {"save_seconds", timing.save_seconds},
                     {"step_seconds", timing.step_seconds}};
  return json.dump(2) + '\n';
}

std::optional<RunTiming> parse_run_timing(std::string_view text) {
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto number = [&](const char* key) {
    return json.is_object() && json.contains(key) && json[key].is_number() ? json[key].get<double>()
                                                                           : -1.0;
  };
  const auto count = [&](const char* key) {
    return number(key) > 0.0 && json[key].is_number_integer() ? json[key].get<int64_t>() : -1;
  };
  const RunTiming timing{{count("num_nodes"), count("num_ranks")},
                         count("checkpoint_bytes"),
                         number("save_seconds"),
                         number("step_seconds")};
  const bool is_possible = timing.shape.num_nodes > 0 && timing.shape.num_ranks > 0 &&
                           timing.checkpoint_bytes > 0 && timing.save_seconds > 0.0 &&
                           timing.step_seconds >= 0.0;
  return is_possible ? std::optional(timing) : std::nullopt;
}

std::string read_run_timing(const fs::path& run) {
  std::error_code ignored;
  if (!fs::exists(run / kFileName, ignored)) return {};
  try {
    return read_file(run / kFileName, FilePurpose::kCheckpoint, kMostBytes);
  } catch (const CheckpointError& error) {
    log_event(concat("timing warning=\"", error.problem(), '"'));
    return {};
  }
}

void write_run_timing(const fs::path& run, const RunTiming& timing) {
  try {
    write_file_atomically(run / kFileName, to_json(timing));
  } catch (const CheckpointError& error) {
    log_event(concat("timing warning=\"", error.problem(), '"'));
  }
}

ExpectedTiming expect_timing(int64_t checkpoint_bytes, const JobShape& shape,
                             const std::optional<RunTiming>& past) {
  const auto bytes = static_cast<double>(checkpoint_bytes);
  if (!past) {
    return {.save_seconds =
                kSlowStart + bytes / (kSlowBytesPerSecond * static_cast<double>(shape.num_nodes))};
  }
  const double size = bytes / static_cast<double>(past->checkpoint_bytes);
  return {
      .save_seconds = past->save_seconds * size * stretch(past->shape.num_nodes, shape.num_nodes),
      .step_seconds = past->step_seconds * stretch(past->shape.num_ranks, shape.num_ranks),
      .is_measured = true};
}

}  // namespace temper

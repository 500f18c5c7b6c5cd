// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/run_state.h"

#include <vector>

#include "checkpoint/json_keys.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"

namespace temper {
namespace {

constexpr Range kCounts{0, INT64_MAX};

Json to_json(const Origin& origin) {
  return {{"checkpoint", origin.checkpoint},
          {"trajectory", origin.trajectory},
          {"step", origin.step},
          {"schedule_step", origin.schedule_step},
          {"data_step", origin.data_step},
          {"data_micro_batch", origin.data_micro_batch},
          {"changes", origin.changes}};
}

Origin parse_origin(const JsonKeys& keys) {
  Origin origin;
  origin.checkpoint = keys.text("checkpoint");
  origin.trajectory = keys.text("trajectory");
  origin.step = keys.integer("step", kCounts);
  origin.schedule_step = keys.integer("schedule_step", kCounts);
  origin.data_step = keys.integer("data_step", kCounts);
  origin.data_micro_batch = keys.integer("data_micro_batch", kCounts);
  origin.changes = keys.text("changes");
  return origin;
}

}  // namespace

std::string to_json(const RunState& state) {
  Json json = {{"step", state.step},
               {"num_updates", state.num_updates},
               {"num_target_tokens", state.num_target_tokens},
               {"next_micro_batch", state.next_micro_batch},
               {"num_skipped", state.num_skipped},
               {"num_skipped_in_a_row", state.num_skipped_in_a_row},
               {"num_without_target_in_a_row", state.num_without_target_in_a_row},
               {"trajectory", state.trajectory},
               {"decided_by", state.decided_by},
               {"config_yaml", state.config_yaml}};
  if (!state.origin.trajectory.empty()) json["origin"] = to_json(state.origin);
  for (const SourceUse& use : state.mixture) {
    json["mixture"].push_back({{"path", use.path},
                               {"fingerprint", use.fingerprint},
                               {"share", use.share},
                               {"num_tokens", use.num_tokens},
                               {"epochs", use.epochs}});
  }
  // The configuration may name a path that is not UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + '\n';
}

RunState parse_run_state(std::string_view text, const std::string& name) {
  const Json json = parse_json(text, {name, FilePurpose::kCheckpoint});
  std::vector<std::string> problems;
  const JsonKeys keys(json, "", problems);
  RunState state;
  state.step = keys.integer("step", kCounts);
  state.num_updates = keys.integer("num_updates", kCounts);
  state.num_target_tokens = keys.integer("num_target_tokens", kCounts);
  state.next_micro_batch = keys.integer("next_micro_batch", kCounts);
  state.num_skipped = keys.integer("num_skipped", kCounts);
  state.num_skipped_in_a_row = keys.integer("num_skipped_in_a_row", kCounts);
  state.num_without_target_in_a_row =
      keys.integer("num_without_target_in_a_row", kCounts, /*fallback=*/0);
  state.trajectory = keys.text("trajectory");
  if (keys.has("decided_by")) state.decided_by = keys.text("decided_by");
  if (keys.has("origin")) state.origin = parse_origin(keys.below("origin"));
  state.config_yaml = keys.text("config_yaml");
  if (problems.empty()) return state;
  throw CheckpointError(concat(name, ": ", problems.front()), "use another checkpoint");
}

RunState read_run_state(const std::filesystem::path& checkpoint) {
  const std::filesystem::path path = checkpoint / "state.json";
  return parse_run_state(read_file(path, FilePurpose::kCheckpoint), path.string());
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "app/chosen_weights.h"

#include <filesystem>
#include <optional>
#include <utility>

#include "checkpoint/peft/adapter_config.h"
#include "checkpoint/together.h"
#include "checkpoint/verification.h"
#include "comm/agree.h"
#include "core/concat.h"
#include "core/error.h"
#include "io/file.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr const char* kAdapterConfig = "adapter_config.json";

// Rank 0's answer, since others need not see the same on a network file system yet.
bool rank_0_sees(const fs::path& path, Communicator& ranks) {
  return any_of(ranks, ranks.rank() == 0 && is_there(path));
}

// Options of the adapter that lies there, if the configuration is of the same method.
MethodOptions method_of(const fs::path& adapter, const MethodOptions& wanted) {
  const fs::path path = adapter / kAdapterConfig;
  MethodOptions found =
      parse_adapter_config(read_file(path, FilePurpose::kCheckpoint), path.string());
  const bool is_same = found.kind == wanted.kind || (found.is_lora() && wanted.is_lora());
  if (!is_same) {
    throw ConfigError(concat(adapter.string(), " is an adapter of method ", name_of(found.kind),
                             ", and method is ", name_of(wanted.kind)),
                      "set method to that of the run, or choose --weights base");
  }
  found.kind = wanted.kind;  // A peft folder is the same with and without a base in four bits.
  found.start = adapter.string();
  return found;
}

ChosenWeights use_folder(RunConfig config, const fs::path& folder, const std::string& name,
                         Communicator& ranks) {
  const bool is_adapter = rank_0_sees(folder / kAdapterConfig, ranks);
  if (is_adapter) {
    do_together(ranks, [&] { config.method = method_of(folder, config.method); });
  } else if (config.method.has_adapter()) {
    throw ConfigError(concat(folder.string(), " is a model, and method is ",
                             name_of(config.method.kind), ", which saves an adapter"),
                      "set method to that of the run, or choose --weights base");
  } else {
    config.model.path = folder.string();
  }
  return {std::move(config), concat("weights=", name, " path=", folder.string())};
}

std::optional<ChosenWeights> use_newest(const RunConfig& config, Communicator& ranks) {
  const auto checkpoint = find_newest_whole(config.run.folder, ranks);
  if (!checkpoint) return std::nullopt;
  const bool is_adapter = rank_0_sees(checkpoint->folder() / "adapter", ranks);
  return use_folder(config, checkpoint->folder() / (is_adapter ? "adapter" : "model"),
                    concat("newest step=", checkpoint->manifest().step), ranks);
}

std::optional<ChosenWeights> use_final(const RunConfig& config, Communicator& ranks) {
  const fs::path folder = fs::path(config.run.folder) / "final";
  if (!rank_0_sees(folder, ranks)) return std::nullopt;
  return use_folder(config, folder, "final", ranks);
}

ChosenWeights use_base(const RunConfig& config) {
  const std::string& start = config.method.start;
  return {config, concat("weights=base path=", config.model.path,
                         start.empty() ? "" : concat(" adapter=", start))};
}

}  // namespace

ChosenWeights choose_weights(const RunConfig& config, WeightsChoice choice, Communicator& ranks) {
  std::optional<ChosenWeights> chosen;
  const bool is_auto = choice == WeightsChoice::kAuto;
  if (is_auto || choice == WeightsChoice::kNewest) chosen = use_newest(config, ranks);
  if (!chosen && (is_auto || choice == WeightsChoice::kFinal)) chosen = use_final(config, ranks);
  if (chosen) return std::move(*chosen);
  if (is_auto || choice == WeightsChoice::kBase) return use_base(config);
  throw CheckpointError(concat(config.run.folder, " has no ",
                               choice == WeightsChoice::kFinal ? "final/" : "checkpoint"),
                        "check run.folder, train first, or choose --weights base");
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "app/commands.h"
#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/mixed_model.h"
#include "checkpoint/new_folder.h"
#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

void require_paths(const MergeArguments& arguments) {
  const bool is_short = arguments.undoes || !arguments.adapters.empty();
  const size_t num_wanted = !arguments.models.empty() ? 1 : is_short ? 2 : 3;
  if (arguments.paths.size() == num_wanted) return;
  throw ConfigError(
      concat("temper merge got ", arguments.paths.size(), " paths, wanted ", num_wanted),
      "write temper merge BASE ADAPTER DESTINATION, or temper merge --adapter A --weight 0.7 "
      "--adapter B --weight 0.3 BASE DESTINATION, or the same with --model and DESTINATION alone, "
      "or temper merge --undo MERGED DESTINATION");
}

// An option that means nothing here.
void refuse_if(bool is_given, const char* option, const std::string& reason) {
  if (!is_given) return;
  throw ConfigError(concat(option, " has no effect: ", reason), "leave it out");
}

void refuse_combination(const MergeArguments& arguments, const std::string& reason) {
  refuse_if(arguments.kind.has_value(), "--combine", reason);
  refuse_if(arguments.density.has_value(), "--density", reason);
  refuse_if(arguments.majority.has_value(), "--majority", reason);
  refuse_if(arguments.seed.has_value(), "--seed", reason);
  refuse_if(arguments.writes_adapter, "--as-adapter", reason);
}

// `what` is what has weights: "adapter" or "model".
void require_weights(const std::vector<double>& weights, size_t wanted, const std::string& what) {
  if (weights.size() != wanted) {
    throw ConfigError(
        concat("temper merge got ", weights.size(), " weights for ", wanted, ' ', what, 's'),
        concat("write --", what, " FOLDER --weight NUMBER for each"));
  }
  if (std::ranges::all_of(weights, [](double weight) { return std::isfinite(weight); })) return;
  throw ConfigError("a --weight is not finite", concat("give each ", what, " a finite weight"));
}

CombineOptions combination_of(const MergeArguments& arguments) {
  CombineOptions options;
  options.kind = arguments.kind.value_or(options.kind);
  options.density = arguments.density.value_or(options.density);
  options.majority = arguments.majority.value_or(options.majority);
  options.seed = arguments.seed.value_or(options.seed);
  const std::string reason = concat("adapters are combined by ", name_of(options.kind));
  refuse_if(arguments.density && !options.has_density(), "--density", reason);
  refuse_if(arguments.majority && !options.has_majority(), "--majority", reason);
  refuse_if(arguments.seed && !options.is_random(), "--seed", reason);
  refuse_if(arguments.writes_adapter && arguments.base, "--base", "no base is merged");
  const bool is_density = options.density > 0.0 && options.density <= 1.0;
  if (options.has_density() && (!arguments.density || !is_density)) {
    throw ConfigError(concat("--combine ", name_of(options.kind), " wants a density in (0, 1]",
                             arguments.density ? concat(", not ", *arguments.density) : ""),
                      "write --density 0.5 to keep half of the numbers of each adapter");
  }
  return options;
}

std::string list_of(const std::vector<std::string>& parts, const std::vector<double>& weights) {
  std::string list;
  for (size_t i = 0; i < parts.size(); ++i) {
    list += concat(i == 0 ? "" : ",", parts[i], '*', weights[i]);
  }
  return list;
}

// As a report of a merge tells it.
std::string form_of(const std::optional<QuantisationOptions>& quantisation) {
  return quantisation ? concat("dequantised quantised=\"", describe(*quantisation), '"') : "dense";
}

// An adapter as it is.
int merge_one(const MergeArguments& arguments) {
  const auto& paths = arguments.paths;
  const ModelFolder base(paths[0], WeightForms::kAny);
  const AdapterFolder adapter(paths[1], base);
  const auto quantisation =
      merge_adapters(base, {.adapters = {{&adapter}}, .base = arguments.base}, paths[2]);
  std::printf("merged=%s adapter=%s base=%s to=%s\n", paths[0].c_str(), paths[1].c_str(),
              form_of(quantisation).c_str(), paths[2].c_str());
  return 0;
}

int merge_several(const MergeArguments& arguments) {
  require_weights(arguments.weights, arguments.adapters.size(), "adapter");
  const CombineOptions combination = combination_of(arguments);
  const ModelFolder base(arguments.paths[0], WeightForms::kAny);
  std::vector<AdapterFolder> adapters;
  for (const std::string& path : arguments.adapters) adapters.emplace_back(path, base);
  MergeRequest request{.adapters = {}, .combination = combination, .base = arguments.base};
  for (size_t i = 0; i < adapters.size(); ++i) {
    request.adapters.push_back({&adapters[i], arguments.weights[i]});
  }
  std::string form = "none";
  if (arguments.writes_adapter) {
    combine_adapters(base, request, arguments.paths[1]);
  } else {
    form = form_of(merge_adapters(base, request, arguments.paths[1]));
  }
  std::printf("merged=%s adapters=%s combined=%s base=%s to=%s\n", arguments.paths[0].c_str(),
              list_of(arguments.adapters, arguments.weights).c_str(),
              name_of(combination.kind).c_str(), form.c_str(), arguments.paths[1].c_str());
  return 0;
}

int mix(const MergeArguments& arguments) {
  require_weights(arguments.weights, arguments.models.size(), "model");
  std::vector<WeightedModel> models;
  for (size_t i = 0; i < arguments.models.size(); ++i) {
    models.push_back({arguments.models[i], arguments.weights[i]});
  }
  mix_models(models, arguments.paths[0]);
  std::printf("mixed=%s to=%s\n", list_of(arguments.models, arguments.weights).c_str(),
              arguments.paths[0].c_str());
  return 0;
}

}  // namespace

int run_merge(const MergeArguments& arguments) {
  require_paths(arguments);
  require_new_folder(arguments.paths.back());
  if (arguments.undoes) {
    refuse_if(!arguments.adapters.empty(), "--adapter", "--undo needs none");
    refuse_if(arguments.base.has_value(), "--base", "--undo restores the base as it was");
    refuse_if(!arguments.models.empty(), "--model", "--undo needs none");
    refuse_if(!arguments.weights.empty(), "--weight", "--undo combines nothing");
    refuse_combination(arguments, "--undo combines nothing");
    restore_base(arguments.paths[0], arguments.paths[1]);
    std::printf("restored base of=%s to=%s\n", arguments.paths[0].c_str(),
                arguments.paths[1].c_str());
    return 0;
  }
  if (!arguments.models.empty()) {
    refuse_if(!arguments.adapters.empty(), "--adapter", "--model mixes whole models");
    refuse_if(arguments.base.has_value(), "--base", "--model mixes whole models");
    refuse_combination(arguments, "--model mixes whole models");
    return mix(arguments);
  }
  if (!arguments.adapters.empty()) return merge_several(arguments);
  refuse_if(!arguments.weights.empty(), "--weight", "no --adapter is named");
  refuse_combination(arguments, "no --adapter is named");
  return merge_one(arguments);
}

}  // namespace temper

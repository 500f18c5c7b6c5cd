// SPDX-License-Identifier: Apache-2.0
#include "model/family.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace {

std::string known_families() {
  std::string list;
  for (const Family& family : families()) {
    if (!list.empty()) list += ", ";
    list += family.model_type;
  }
  return list;
}

const Family* find_family(std::string_view model_type) {
  const std::span<const Family> all = families();
  const auto family = std::ranges::find(all, model_type, &Family::model_type);
  return family == all.end() ? nullptr : &*family;
}

void check_sizes(const ModelConfig& config, std::vector<std::string>& problems) {
  const auto positive = [&](const char* name, int64_t value) {
    if (value < 1) problems.push_back(concat(name, " is ", value, ", wanted at least 1"));
  };
  positive("vocab_size", config.vocab_size);
  positive("hidden_size", config.hidden_size);
  positive("intermediate_size", config.intermediate_size);
  positive("num_layers", config.num_layers);
  positive("num_heads", config.num_heads);
  positive("num_key_value_heads", config.num_key_value_heads);
  positive("head_dim", config.head_dim);
  const Family* family = find_family(config.model_type);
  const bool is_rotated = family == nullptr || !family->has_learned_positions();
  if (is_rotated && config.rope.num_rotated == 0 && config.head_dim % 2 != 0) {
    problems.push_back(concat("head_dim is ", config.head_dim, ", wanted an even number"));
  }
  if (config.num_key_value_heads > 0 && config.num_heads % config.num_key_value_heads != 0) {
    problems.push_back(concat("num_heads is ", config.num_heads, ", no multiple of the ",
                              config.num_key_value_heads, " num_key_value_heads"));
  }
}

}  // namespace

std::span<const Family> families() {
  static const std::vector<Family> kAll = [] {
    std::vector<Family> all;
    for (const auto part : {llama_families(), older_families(), families_with_experts()}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }();
  return kAll;
}

const Family& family_of(std::string_view model_type) {
  const Family* family = find_family(model_type);
  if (family != nullptr) return *family;
  throw ModelError(concat("model_type is \"", model_type, "\", which is not computed here"),
                   concat("choose a model of one of these: ", known_families()));
}

void validate(const ModelConfig& config) {
  std::vector<std::string> problems;
  if (find_family(config.model_type) == nullptr) {
    problems.push_back(
        concat("model_type is \"", config.model_type, "\", known are ", known_families()));
  }
  check_sizes(config, problems);
  if (config.rope.num_rotated % 2 != 0 || config.rope.num_rotated > config.head_dim) {
    problems.push_back(concat("a head of ", config.head_dim, " has ", config.rope.num_rotated,
                              " rotated numbers, wanted an even number of them"));
  }
  if (!config.positions.empty() && std::ssize(config.positions) != config.num_layers) {
    problems.push_back(concat("positions has ", config.positions.size(), " entries for ",
                              config.num_layers, " layers"));
  }
  if (static_cast<int64_t>(config.windows.size()) != config.num_layers) {
    problems.push_back(concat("windows has ", config.windows.size(), " entries for ",
                              config.num_layers, " layers"));
  }
  for (const int64_t window : config.windows) {
    if (window < 0) problems.push_back(concat("a window is ", window, ", wanted 0 or more"));
  }
  if (!(config.norm_epsilon > 0.0)) {
    problems.push_back(concat("norm_epsilon is ", config.norm_epsilon, ", wanted more than 0"));
  }
  if (!(config.rope.theta > 0.0)) {
    problems.push_back(concat("rope theta is ", config.rope.theta, ", wanted more than 0"));
  }
  if (problems.empty()) return;
  std::string list = "the model cannot be computed:";
  for (const std::string& problem : problems) list += "\n  " + problem;
  throw ModelError(list, "mend config.json, or choose another model");
}

}  // namespace temper

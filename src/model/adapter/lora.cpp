// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/lora.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <span>
#include <string_view>
#include <utility>

#include "core/concat.h"
#include "core/error.h"
#include "core/message_text.h"
#include "model/adapter/module_pattern.h"
#include "model/adapter/option_error.h"
#include "model/family.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

constexpr const char* kAllLinear = "all-linear";

// As peft matches a list: the whole path, or its end after a dot.
bool is_meant(const LoraModule& module, const std::string& target,
              const std::vector<LinearModule>& common) {
  if (target == kAllLinear) {
    return std::ranges::any_of(
        common, [&](const LinearModule& one) { return one.name == module.module.name; });
  }
  return module.path == target || module.path.ends_with("." + target);
}

// As peft matches rank_pattern: the whole path, or its end after a dot. Patterns are read once.
template <typename Pattern>
class PatternList {
 public:
  PatternList(const std::vector<Pattern>& patterns, const char* option) : patterns_(patterns) {
    for (const Pattern& pattern : patterns) read_.emplace_back(pattern.module, option);
  }

  // The first one that fits, or null.
  const Pattern* find(const std::string& path) const {
    for (size_t i = 0; i < read_.size(); ++i) {
      if (read_[i].fits_end_of(path)) return &patterns_[i];
    }
    return nullptr;
  }

  // Whether it fits one of the modules, be it the first that does or not.
  bool has_match(size_t i, const std::vector<LoraModule>& modules) const {
    return std::ranges::any_of(
        modules, [&](const LoraModule& module) { return read_[i].fits_end_of(module.path); });
  }

 private:
  const std::vector<Pattern>& patterns_;
  std::vector<ModulePattern> read_;
};

constexpr const char* kRankPattern = "lora.rank_pattern";
constexpr const char* kAlphaPattern = "lora.alpha_pattern";

// A misspelt pattern would silently change nothing, and of two alike the second would.
template <typename Pattern>
void require_matches(const std::vector<Pattern>& patterns, const char* option,
                     const std::vector<LoraModule>& modules) {
  const PatternList list(patterns, option);
  std::set<std::string> seen;
  for (size_t i = 0; i < patterns.size(); ++i) {
    const std::string name = quote(patterns[i].module);
    if (!seen.insert(patterns[i].module).second) {
      throw OptionError(option, concat("has ", name, " twice"), "keep one of them");
    }
    if (list.has_match(i, modules)) continue;
    throw OptionError(option, concat("has ", name, ", which fits no module that is adapted"),
                      concat("compare it with paths such as ", modules[0].path, ", or remove it"));
  }
}

template <typename Pattern>
void remove_idle(std::vector<Pattern>& patterns, const char* option,
                 const std::vector<LoraModule>& modules, std::vector<std::string>& removed) {
  std::vector<Pattern> kept;
  const PatternList list(patterns, option);
  for (size_t i = 0; i < patterns.size(); ++i) {
    if (list.has_match(i, modules)) {
      kept.push_back(patterns[i]);
    } else {
      removed.push_back(patterns[i].module);
    }
  }
  patterns = std::move(kept);
}

bool is_principal(const LoraOptions& options) {
  return options.init == LoraOptions::Init::kPrincipal;
}

// All modules of the model, with the rank and scale that they would have.
std::vector<LoraModule> possible_modules(const LoraOptions& options, const ModelConfig& config) {
  const PatternList ranks(options.rank_pattern, kRankPattern);
  const PatternList alphas(options.alpha_pattern, kAlphaPattern);
  std::vector<LoraModule> all;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const LinearModule& module : linear_modules(config, layer)) {
      const std::string path =
          concat(block_name(config, layer, NameKind::kModule), '.', module.module_name());
      const auto* rank_of = ranks.find(path);
      const auto* alpha_of = alphas.find(path);
      const int64_t rank = rank_of == nullptr ? options.rank : rank_of->rank;
      const double alpha = alpha_of == nullptr ? options.alpha : alpha_of->alpha;
      const auto width = static_cast<double>(rank);
      all.push_back({path, layer, module, rank,
                     alpha / (options.uses_rslora ? std::sqrt(width) : width),
                     concat(block_name(config, layer), '.', module.name, ".weight")});
    }
  }
  return all;
}

void require_layers(const LoraOptions& options, const ModelConfig& config) {
  if (!options.layers.empty() && !options.target_pattern.empty()) {
    throw OptionError("lora.layers", "has no place beside a pattern for whole paths, as in peft",
                      "write the blocks into the pattern, as in model\\.layers\\.[01]\\..*");
  }
  for (const int64_t layer : options.layers) {
    if (layer < config.num_layers) continue;
    throw OptionError(
        "lora.layers",
        concat("names block ", layer, ", but the model has ", config.num_layers, " blocks"),
        concat("take numbers from 0 to ", config.num_layers - 1));
  }
}

// Of experts whose matrices are no modules of their own.
void require_apart(const std::string& target, const ModelConfig& config,
                   const std::string& known_names) {
  constexpr std::string_view kEnd = ".weight";
  const ExpertNames& names = family_of(config.model_type).experts.names;
  const auto is_meant = [&](std::string_view path) {
    return !path.empty() && concat('.', path).ends_with("." + target);
  };
  for (std::string_view tensor : {names.all_gate_up, names.all_down}) {
    if (tensor.ends_with(kEnd)) tensor.remove_suffix(kEnd.size());
    if (!is_meant(tensor) && !is_meant(tensor.substr(0, tensor.rfind('.')))) continue;
    throw OptionError("lora.targets",
                      concat("names ", quote(target), ", but a ", config.model_type,
                             " model has the matrices of all experts in one tensor (", tensor,
                             "), to which LoRA adds nothing here"),
                      "take some of: " + known_names);
  }
}

// A misspelt target would silently train less than was meant.
void require_targets(const LoraOptions& options, const ModelConfig& config,
                     const std::vector<LoraModule>& all) {
  const std::vector<LinearModule> common = common_modules(config);
  std::string names = kAllLinear;
  std::set<std::string> named;
  for (const LinearModule& module : all_modules(config)) {
    const std::string name = last_part(module.module_name());
    if (named.insert(name).second) names += ", " + name;
  }
  for (const std::string& target : options.targets) {
    const bool is_known = std::ranges::any_of(
        all, [&](const LoraModule& module) { return is_meant(module, target, common); });
    if (is_known || !options.target_pattern.empty()) continue;
    require_apart(target, config, names);
    throw OptionError("lora.targets",
                      concat("names ", quote(target), ", which is no linear module of this ",
                             config.model_type, " model"),
                      "take some of: " + names);
  }
}

void require_ranks(const LoraOptions& options, const std::vector<LoraModule>& modules) {
  for (const LoraModule& module : modules) {
    const int64_t most = std::min(module.module.in, module.module.out);
    if (!is_principal(options) || module.rank <= most) continue;
    throw OptionError(
        "lora.init",
        concat("is pissa, but ", module.path, " has no ", module.rank, " principal parts: it is ",
               module.module.out, " by ", module.module.in),
        concat("lower its rank to ", most));
  }
}

InitialValues principal_values(const LoraOptions& options, const LoraModule& module,
                               InitialValues::Distribution part) {
  return {part, module.scale, {}, module.matrix, options.pissa_iterations};
}

InitialValues initial_down(const LoraOptions& options, const LoraModule& module) {
  using Distribution = InitialValues::Distribution;
  if (is_principal(options)) {
    return principal_values(options, module, Distribution::kPrincipalDown);
  }
  if (options.init == LoraOptions::Init::kGaussian) {
    return {Distribution::kNormal, 1.0 / static_cast<double>(module.rank)};
  }
  return {Distribution::kUniform, 1.0 / std::sqrt(static_cast<double>(module.module.in))};
}

InitialValues initial_up(const LoraOptions& options, const LoraModule& module) {
  if (!is_principal(options)) return {};
  return principal_values(options, module, InitialValues::Distribution::kPrincipalUp);
}

LowRank& addition_to(const LinearModule& module, int64_t num_experts, BlockAddition& block) {
  if (module.expert != LinearModule::kNoExpert) {
    block.experts.resize(static_cast<size_t>(num_experts));
    BlockAddition::Expert& own = block.experts[static_cast<size_t>(module.expert)];
    return module.product == Product::kGateUp ? own.gate_up : own.down;
  }
  switch (module.product) {
    case Product::kQueriesKeysValues: return block.queries_keys_values;
    case Product::kOutput: return block.output;
    case Product::kGateUp: return block.gate_up;
    case Product::kDown: break;
  }
  return block.down;
}

std::vector<int64_t> down_shape(const LoraModule& module) {
  return {module.rank, module.module.in};
}

std::vector<int64_t> up_shape(const LoraModule& module) { return {module.module.out, module.rank}; }

// What takes off the matrix what A and B begin with: A, then B with the other sign.
void add_base_change(const LoraModule& module, const LoraOptions& options,
                     std::vector<AdapterTensor>& tensors) {
  using Distribution = InitialValues::Distribution;
  const auto add = [&](const char* part, std::vector<int64_t> shape, Distribution values) {
    tensors.push_back({{.name = base_change_name(tensor_name(module, part)), .shape = shape},
                       principal_values(options, module, values),
                       module.layer,
                       UnitLayout::Use::kBaseChange});
  };
  add(kLoraDown, down_shape(module), Distribution::kPrincipalDown);
  add(kLoraUp, up_shape(module), Distribution::kLessPrincipalUp);
}

// The tensors of modules that share a product: their A lie next to each other, so that one product
// projects for all of them.
void add_tensors(std::span<const LoraModule> group, const LoraOptions& options,
                 std::vector<AdapterTensor>& tensors) {
  for (const LoraModule& module : group) {
    tensors.push_back({{.name = tensor_name(module, kLoraDown), .shape = down_shape(module)},
                       initial_down(options, module),
                       module.layer});
  }
  for (const LoraModule& module : group) {
    tensors.push_back({{.name = tensor_name(module, kLoraUp),
                        .shape = up_shape(module),
                        .rate_ratio = options.plus_ratio},
                       initial_up(options, module),
                       module.layer});
    if (is_principal(options)) add_base_change(module, options, tensors);
  }
  if (!options.uses_dora) return;
  for (const LoraModule& module : group) {
    tensors.push_back({{.name = tensor_name(module, kLoraMagnitude), .shape = {module.module.out}},
                       {InitialValues::Distribution::kRowNorms, 0.0, {}, module.matrix},
                       module.layer});
  }
}

// Where the tensors of one such group are used.
void attach(std::span<const LoraModule> group, int64_t num_experts, Adapter& adapter) {
  const LoraModule& first = group.front();
  const int user = Adapter::block_user(first.layer);
  LowRank& low_rank =
      addition_to(first.module, num_experts, adapter.blocks[static_cast<size_t>(first.layer)]);
  int64_t num_rows = 0;
  for (const LoraModule& module : group) {
    const auto weight = [&](const char* part) {
      return adapter.use(tensor_name(module, part), user);
    };
    low_rank.parts.push_back({weight(kLoraUp), num_rows, module.module.first_column, module.scale,
                              weight(kLoraMagnitude)});
    num_rows += module.rank;
  }
  const std::string down = tensor_name(first, kLoraDown);
  low_rank.down = adapter.use(down, user, {num_rows, first.module.in});
  low_rank.dropout = adapter.dropout;
  low_rank.place = static_cast<uint64_t>(adapter.file.find(down)->offset);
}

// What reads the matrices themselves.
void require_readable(const LoraOptions& options, const ModelConfig& config) {
  if (!family_of(config.model_type).is_transposed) return;
  const bool is_dora = options.uses_dora;
  if (!is_dora && !is_principal(options)) return;
  throw OptionError(is_dora ? "lora.dora" : "lora.init",
                    concat("is ", is_dora ? "true" : "pissa", ", but a ", config.model_type,
                           " model stores its matrices transposed, which is not computed with it"),
                    is_dora ? "set it to false" : "set it to kaiming or gaussian");
}

// The modules that are adapted, whether or not each pattern for ranks and alphas fits one of them.
std::vector<LoraModule> targeted_modules(const LoraOptions& options, const ModelConfig& config) {
  require_layers(options, config);
  require_readable(options, config);
  std::vector<LoraModule> modules = possible_modules(options, config);
  require_targets(options, config, modules);
  const std::vector<LinearModule> common = common_modules(config);
  const bool has_pattern = !options.target_pattern.empty();
  const ModulePattern pattern(options.target_pattern, "lora.target_pattern");
  std::erase_if(modules, [&](const LoraModule& module) {
    const bool is_target =
        has_pattern ? pattern.fits(module.path)
                    : std::ranges::any_of(options.targets, [&](const std::string& target) {
                        return is_meant(module, target, common);
                      });
    const auto& layers = options.layers;
    return !is_target ||
           (!layers.empty() && std::ranges::find(layers, module.layer) == layers.end());
  });
  require_ranks(options, modules);
  if (!modules.empty()) return modules;
  throw ConfigError("the options under lora mean no module of the model: nothing would be trained",
                    "compare them with paths such as " + possible_modules(options, config)[0].path);
}

std::vector<std::span<const LoraModule>> groups_of(const std::vector<LoraModule>& modules) {
  std::vector<std::span<const LoraModule>> groups;
  for (size_t i = 0; i < modules.size();) {
    size_t end = i;
    while (end < modules.size() && modules[end].layer == modules[i].layer &&
           modules[end].module.product == modules[i].module.product &&
           modules[end].module.expert == modules[i].module.expert) {
      ++end;
    }
    groups.emplace_back(modules.data() + i, end - i);
    i = end;
  }
  return groups;
}

}  // namespace

std::string tensor_name(const LoraModule& module, const char* part) {
  return concat("base_model.model.", module.path, '.', part);
}

const char* name_of(LoraOptions::Init init) {
  switch (init) {
    case LoraOptions::Init::kKaiming: return "kaiming";
    case LoraOptions::Init::kGaussian: return "gaussian";
    case LoraOptions::Init::kPrincipal: break;
  }
  return "pissa";
}

std::vector<LoraModule> lora_modules(const LoraOptions& options, const ModelConfig& config) {
  const std::vector<LoraModule> modules = targeted_modules(options, config);
  require_matches(options.rank_pattern, kRankPattern, modules);
  require_matches(options.alpha_pattern, kAlphaPattern, modules);
  return modules;
}

std::vector<std::string> remove_idle_patterns(LoraOptions& options, const ModelConfig& config) {
  const std::vector<LoraModule> modules = targeted_modules(options, config);
  std::vector<std::string> removed;
  remove_idle(options.rank_pattern, kRankPattern, modules, removed);
  remove_idle(options.alpha_pattern, kAlphaPattern, modules, removed);
  return removed;
}

Adapter make_lora(const LoraOptions& options, uint64_t seed, const ModelConfig& config) {
  const std::vector<LoraModule> modules = lora_modules(options, config);
  std::vector<AdapterTensor> tensors;
  for (const auto group : groups_of(modules)) add_tensors(group, options, tensors);
  add_saved(options.saved, config, tensors);
  Adapter adapter(tensors, std::make_shared<Dropout>(options.dropout, seed), config.num_layers);
  for (const auto group : groups_of(modules)) attach(group, config.experts.count, adapter);
  attach_saved(options.saved, config, adapter);
  return adapter;
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "model/trained_parameters.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "core/concat.h"
#include "core/message_text.h"
#include "model/adapter/option_error.h"
#include "model/parameter_pattern.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

constexpr const char* kOnly = "train.only";
constexpr const char* kFreeze = "train.freeze";

// All parameters by their names; a tied head has both of them.
std::vector<std::string> parameter_names(const ModelConfig& model) {
  std::vector<std::string> names;
  for (const UnitLayout& unit : decoder_units(model)) {
    for (const TensorSlot& slot : unit.slots()) names.push_back(slot.name);
  }
  if (model.has_tied_head) names.push_back(head_weight(model));
  return names;
}

// What one option lists, each pattern read once.
class Patterns {
 public:
  Patterns(const std::vector<std::string>& texts, const ModelConfig& model,
           const std::string& option)
      : option_(option), texts_(texts) {
    for (const std::string& text : texts) patterns_.emplace_back(text, model, option);
  }

  const std::string& option() const { return option_; }

  bool fits(const std::string& parameter) const {
    return std::ranges::any_of(patterns_, [&](const auto& one) { return one.fits(parameter); });
  }

  // A misspelt pattern would silently change nothing.
  void require_matches(const std::vector<std::string>& parameters) const {
    for (size_t i = 0; i < patterns_.size(); ++i) {
      const auto is_meant = [&](const std::string& name) { return patterns_[i].fits(name); };
      if (std::ranges::any_of(parameters, is_meant)) continue;
      throw OptionError(option_,
                        concat("has ", quote(texts_[i]), ", which fits no parameter of the model"),
                        concat("compare it with names such as ", parameters[1],
                               ", or write embedding, head, norms, biases or layers.0-3"));
    }
  }

 private:
  std::string option_;
  std::vector<std::string> texts_;
  std::vector<ParameterPattern> patterns_;
};

// `a` and `b` say what becomes of the embedding and of the head, which a tied one cannot have.
[[noreturn]] void refuse_half_of_tied(const std::string& option, const std::string& embedding,
                                      const std::string& head) {
  throw OptionError(option,
                    concat("treats the embedding (", embedding, ") and the head (", head,
                           ") apart, but the model has one matrix for both"),
                    "name both, embedding and head, or neither");
}

class Selection {
 public:
  Selection(const ParameterOptions& options, const ModelConfig& model)
      : names_(parameter_names(model)),
        embedding_(embedding_weight(model)),
        head_(head_weight(model)),
        only_(options.trained.only, model, kOnly),
        freeze_(options.trained.freeze, model, kFreeze) {
    only_.require_matches(names_);
    freeze_.require_matches(names_);
    for (size_t i = 0; i < options.groups.size(); ++i) {
      groups_.emplace_back(options.groups[i].match, model,
                           concat("optimizer.groups[", i, "].match"));
      groups_.back().require_matches(names_);
    }
    has_only_ = !options.trained.only.empty();
    require_something_trained();
    if (model.has_tied_head) require_tied_alike();
  }

  bool is_trained(const std::string& name) const {
    return (!has_only_ || only_.fits(name)) && !freeze_.fits(name);
  }

  // The first one that means it.
  std::optional<size_t> group_of(const std::string& name) const {
    const auto group =
        std::ranges::find_if(groups_, [&](const auto& one) { return one.fits(name); });
    if (group == groups_.end()) return std::nullopt;
    return static_cast<size_t>(group - groups_.begin());
  }

  void require_members(size_t group, size_t count) const {
    if (count > 0) return;
    throw OptionError(groups_[group].option(),
                      "means no parameter that is trained and in no group before it",
                      "remove the group, put it before the others, or train what it means");
  }

 private:
  void require_something_trained() const {
    if (std::ranges::any_of(names_, [&](const auto& name) { return is_trained(name); })) return;
    throw OptionError(kFreeze,
                      concat("means ", has_only_ ? "all that train.only means" : "all of the model",
                             ": nothing is left to train"),
                      "take something off it");
  }

  void require_tied_alike() const {
    const auto word = [&](const std::string& name) {
      return is_trained(name) ? "trained" : "frozen";
    };
    if (is_trained(embedding_) != is_trained(head_)) {
      const bool is_by_freezing = freeze_.fits(embedding_) != freeze_.fits(head_);
      refuse_half_of_tied(is_by_freezing ? kFreeze : kOnly, word(embedding_), word(head_));
    }
    const auto place = [&](const std::optional<size_t>& group) {
      return group ? concat("group ", *group) : std::string("in no group");
    };
    const auto embedding = group_of(embedding_), head = group_of(head_);
    if (embedding == head || !is_trained(embedding_)) return;
    const size_t first =
        std::min(embedding.value_or(groups_.size()), head.value_or(groups_.size()));
    refuse_half_of_tied(groups_[first].option(), place(embedding), place(head));
  }

  std::vector<std::string> names_;
  std::string embedding_, head_;  // Their matrices.
  Patterns only_, freeze_;
  std::vector<Patterns> groups_;
  bool has_only_ = false;
};

}  // namespace

double ParameterGroup::rate_ratio(double learning_rate_of_all) const {
  if (learning_rate > 0.0) return learning_rate / learning_rate_of_all;
  return learning_rate_ratio > 0.0 ? learning_rate_ratio : 1.0;
}

TrainedParameters trained_parameters(const ParameterOptions& options, const ModelConfig& model) {
  const Selection selection(options, model);
  TrainedParameters result;
  result.groups.resize(options.groups.size());
  std::vector<UnitLayout> parts;  // Of units that are trained in part.
  std::vector<int> users;
  const DecoderUnits all = undivided(decoder_units(model));
  for (size_t unit = 0; unit < all.layouts.size(); ++unit) {
    const UnitLayout& whole = all.layouts[unit];
    std::vector<TensorSlot> frozen, trained;
    const int64_t depth = model.num_layers + 1 - all.users[unit];  // Below the head.
    const double ratio = std::pow(options.layer_decay, static_cast<double>(depth));
    for (TensorSlot slot : whole.slots()) {
      if (!selection.is_trained(slot.name)) {
        frozen.push_back(std::move(slot));
        continue;
      }
      slot.rate_ratio = ratio;
      if (const auto group = selection.group_of(slot.name)) {
        const ParameterGroup& own = options.groups[*group];
        if (own.has_rate()) slot.rate_ratio = own.rate_ratio(options.learning_rate);
        slot.weight_decay = own.weight_decay;
        result.groups[*group].push_back(slot);
      }
      trained.push_back(std::move(slot));
    }
    if (!frozen.empty() && !trained.empty()) {
      users.push_back(all.users[unit]);
      parts.emplace_back(whole.name() + ".trained", std::move(trained), UnitLayout::Use::kPublished,
                         whole.expert_group());
      trained.clear();
    }
    const bool is_frozen = !frozen.empty();
    result.units.layouts.emplace_back(
        whole.name(), is_frozen ? std::move(frozen) : std::move(trained),
        is_frozen ? UnitLayout::Use::kFrozen : UnitLayout::Use::kPublished, whole.expert_group());
  }
  for (size_t group = 0; group < result.groups.size(); ++group) {
    selection.require_members(group, result.groups[group].size());
  }
  DecoderUnits units = undivided(std::move(result.units.layouts));
  units.layouts.insert(units.layouts.end(), parts.begin(), parts.end());
  units.users.insert(units.users.end(), users.begin(), users.end());
  result.units = std::move(units);
  return result;
}

int64_t num_trained(const std::vector<UnitLayout>& units) {
  int64_t sum = 0;
  for (const UnitLayout& unit : units) sum += unit.is_trained() ? unit.num_elements() : 0;
  return sum;
}

}  // namespace temper

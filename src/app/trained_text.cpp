// SPDX-License-Identifier: Apache-2.0
#include "app/trained_text.h"

#include <cmath>

#include "core/concat.h"
#include "core/message_text.h"

namespace temper {

std::string describe_trained(const DecoderUnits& units) {
  const auto lowest = static_cast<size_t>(units.lowest_trained());
  return concat(readable_count(num_trained(units.layouts)), " of ",
                readable_count(num_elements(units.layouts)), " parameters, from ",
                units.layouts[lowest].name(), " on");
}

std::string describe_depths(const RunConfig& config, const ModelConfig& model) {
  const double rate = config.optimizer.learning_rate, decay = config.train.layer_decay;
  return concat("learning_rate ", rate, " at the head, ", rate * decay, " in layers.",
                model.num_layers - 1, " and so on down to ",
                rate * std::pow(decay, static_cast<double>(model.num_layers + 1)),
                " at the embedding");
}

std::vector<std::string> describe_groups(const RunConfig& config,
                                         const TrainedParameters& parameters) {
  std::vector<std::string> texts;
  for (size_t i = 0; i < parameters.groups.size(); ++i) {
    const ParameterGroup& group = config.groups[i];
    int64_t count = 0;
    for (const TensorSlot& slot : parameters.groups[i]) count += slot.num_elements();
    const double rate = config.optimizer.learning_rate;
    const bool is_by_depth = config.train.layer_decay != 1.0 && !group.has_rate();
    std::string text =
        concat(joined(group.match), ": ", parameters.groups[i].size(), " tensor",
               parameters.groups[i].size() == 1 ? ", " : "s, ", readable_count(count),
               " parameters, learning_rate ",
               is_by_depth ? std::string("by depth") : concat(group.rate_ratio(rate) * rate));
    if (group.weight_decay) text += concat(", weight_decay ", *group.weight_decay);
    texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace temper

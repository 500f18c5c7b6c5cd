// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/layer_config.h"

#include <algorithm>
#include <string>

#include "core/concat.h"
#include "core/message_text.h"
#include "io/json.h"

namespace temper {
namespace {

// By `layer_types`, which is there.
void read_layer_types(const JsonKeys& keys, int64_t window, ModelConfig& config) {
  const Json& types = keys["layer_types"];
  const auto num_layers = static_cast<size_t>(config.num_layers);
  if (!types.is_array() || types.size() != num_layers) {
    return keys.refuse("layer_types", concat("is not a list of ", num_layers, " layers"));
  }
  for (size_t layer = 0; layer < num_layers; ++layer) {
    if (types[layer] == "full_attention") continue;
    if (types[layer] != "sliding_attention") {
      return keys.refuse("layer_types", concat("has ", shown(types[layer]), " at layer ", layer,
                                               "; computed are full_attention and "
                                               "sliding_attention"));
    }
    if (window == 0) {
      return keys.refuse("layer_types", concat("has sliding_attention at layer ", layer,
                                               ", but use_sliding_window is false, or there is no "
                                               "sliding_window"));
    }
    config.windows[layer] = window;
  }
}

// Whether a layer has the family's window where no `layer_types` says so.
template <typename Function>
void fill_windows(ModelConfig& config, int64_t window, Function has_window) {
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (has_window(layer)) config.windows[static_cast<size_t>(layer)] = window;
  }
}

// After the positions, which some windows depend on.
void read_windows(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  using Windows = Family::Windows;
  const Windows rule = family.windows;
  config.windows.assign(static_cast<size_t>(config.num_layers), 0);
  if (rule == Windows::kNone) return;
  const bool is_every = rule == Windows::kEveryLayer || rule == Windows::kEveryLayerIfUsed;
  if (is_every && keys.has("layer_types")) {
    return keys.refuse("layer_types", concat("is no key of the family ", family.model_type));
  }
  const bool is_always_on =
      rule == Windows::kEveryLayer || rule == Windows::kByPattern || rule == Windows::kByLayerTypes;
  const bool is_on = is_always_on || keys.flag("use_sliding_window", false);
  // A null is not an absent key: it says that there is no window.
  const bool has_window = is_on && !keys.is_null("sliding_window") &&
                          (family.default_window > 0 || keys.has("sliding_window"));
  const int64_t window =
      has_window ? keys.integer("sliding_window", kPositions, family.default_window) : 0;
  const bool has_border = rule == Windows::kAboveLayer || rule == Windows::kEvenBelowLayer;
  const int64_t first =
      has_border ? keys.integer("max_window_layers", Range{0, kLayers.end}, 28) : 0;
  const std::string pattern_key(family.pattern_key);
  const bool has_pattern = !pattern_key.empty() && keys.has(pattern_key.c_str());
  if (keys.has("layer_types")) return read_layer_types(keys, window, config);
  const int64_t pattern = has_pattern ? keys.integer(pattern_key.c_str(), kLayers, 1)
                                      : std::max<int64_t>(1, family.default_pattern);
  fill_windows(config, window, [&](int64_t layer) {
    switch (rule) {
      case Windows::kAboveLayer: return layer >= first;
      case Windows::kEvenBelowLayer: return layer < first && layer % 2 == 0;
      case Windows::kByPattern: return (layer + 1) % pattern != 0;
      case Windows::kWithoutRope: return config.positions_of(layer) == LayerPositions::kNone;
      default: return true;
    }
  });
}

// Whose ones rotate.
void read_rotated_layers(const JsonKeys& keys, ModelConfig& config) {
  const int64_t interval = keys.integer("no_rope_layer_interval", kLayers, 4);
  const bool has_list = keys.has("no_rope_layers");
  const Json& list = has_list ? keys["no_rope_layers"] : Json();
  if (has_list && (!list.is_array() || std::ssize(list) != config.num_layers)) {
    return keys.refuse("no_rope_layers", concat("is not a list of ", config.num_layers, " layers"));
  }
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const bool rotates =
        has_list ? list[static_cast<size_t>(layer)] == 1 : (layer + 1) % interval != 0;
    config.positions.push_back(rotates ? LayerPositions::kRope : LayerPositions::kNone);
  }
}

// By the layers' windows.
void read_positions_by_window(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  const bool has_two = family.rotated == Family::Rotated::kTwoTables;
  if (!has_two && keys.is_null("sliding_window")) {
    if (config.residual == Residual::kSequential) return;  // Then all layers rotate.
    return keys.refuse("sliding_window", "is null, which is not computed for this family");
  }
  for (const int64_t window : config.windows) {
    const LayerPositions full = has_two ? LayerPositions::kRope : LayerPositions::kNone;
    const LayerPositions windowed = has_two ? LayerPositions::kWindowRope : LayerPositions::kRope;
    config.positions.push_back(window > 0 ? windowed : full);
  }
}

}  // namespace

void read_layers(const JsonKeys& keys, const Family& family, ModelConfig& config) {
  using Rotated = Family::Rotated;
  if (family.rotated == Rotated::kByList) read_rotated_layers(keys, config);
  if (family.rotated == Rotated::kNoLayer) {
    config.positions.assign(static_cast<size_t>(config.num_layers), LayerPositions::kNone);
  }
  read_windows(keys, family, config);
  if (family.rotated == Rotated::kWindowLayers || family.rotated == Rotated::kTwoTables) {
    read_positions_by_window(keys, family, config);
  }
}

}  // namespace temper

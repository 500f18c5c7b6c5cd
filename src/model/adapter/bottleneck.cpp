// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/bottleneck.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/concat.h"
#include "model/tensor_names.h"

namespace temper {
namespace {

constexpr double kDeviation = 0.02;  // As in BERT.

// Where one network's tensors are: the start of their names.
std::string place_name(const BottleneckOptions& options, const std::string& block,
                       const char* sublayer) {
  return concat(block, '.', sublayer, "_adapters.adapters.", options.name, '.');
}

std::vector<AdapterTensor> network_tensors(const std::string& place, int64_t size, int64_t hidden,
                                           int64_t layer) {
  const std::string down = place + "adapter_down.0.", up = place + "adapter_up.";
  const InitialValues normal{InitialValues::Distribution::kNormal, kDeviation};
  return {{{.name = down + "weight", .shape = {size, hidden}}, normal, layer},
          {{.name = down + "bias", .shape = {size}, .decays = false}, {}, layer},
          {{.name = up + "weight", .shape = {hidden, size}}, normal, layer},
          {{.name = up + "bias", .shape = {hidden}, .decays = false}, {}, layer}};
}

BottleneckWeights network(const std::string& place, const BottleneckOptions& options, int user,
                          Adapter& adapter) {
  const auto weight = [&](const char* name) { return adapter.use(place + name, user); };
  return {weight("adapter_down.0.weight"),
          weight("adapter_down.0.bias"),
          weight("adapter_up.weight"),
          weight("adapter_up.bias"),
          options.function(),
          !options.is_houlsby()};
}

}  // namespace

ActivationFunction BottleneckOptions::function() const {
  return activation.value_or(is_houlsby() ? ActivationFunction::kSwish : ActivationFunction::kRelu);
}

// As Python's //, by which adapters divides.
int64_t BottleneckOptions::size(const ModelConfig& config) const {
  const auto hidden = static_cast<double>(config.hidden_size);
  const double whole = hidden - std::fmod(hidden, reduction_factor);
  return std::max<int64_t>(1, std::llround(whole / reduction_factor));
}

Adapter make_bottleneck(const BottleneckOptions& options, const ModelConfig& config) {
  std::vector<AdapterTensor> tensors;
  const int64_t size = options.size(config);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const auto add = [&](const char* sublayer) {
      const std::string place =
          place_name(options, block_name(config, layer, NameKind::kModule), sublayer);
      const auto network = network_tensors(place, size, config.hidden_size, layer);
      tensors.insert(tensors.end(), network.begin(), network.end());
    };
    if (options.is_houlsby()) add("attention");
    add("output");
  }
  Adapter adapter(tensors, std::make_shared<Dropout>(0.0, 0), config.num_layers);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    BlockAddition& block = adapter.blocks[static_cast<size_t>(layer)];
    const std::string path = block_name(config, layer, NameKind::kModule);
    const int user = Adapter::block_user(layer);
    if (options.is_houlsby()) {
      block.after_attention =
          network(place_name(options, path, "attention"), options, user, adapter);
    }
    block.after_mlp = network(place_name(options, path, "output"), options, user, adapter);
  }
  return adapter;
}

bool is_same_bottleneck(const BottleneckOptions& a, const BottleneckOptions& b,
                        const ModelConfig& config) {
  return a.name == b.name && a.placement == b.placement && a.function() == b.function() &&
         a.size(config) == b.size(config);
}

}  // namespace temper

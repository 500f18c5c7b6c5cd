// SPDX-License-Identifier: Apache-2.0
#include "model/whole_decoder.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>
#include <stdexcept>

#include "core/random.h"
#include "core/targets.h"

namespace temper::testing {

WholeDecoder::WholeDecoder(const ModelConfig& config, at::ScalarType dtype, at::Device device)
    : decoder_(config) {
  const auto options = at::TensorOptions(device).dtype(dtype);
  for (int unit = 0; unit < decoder_.num_units(); ++unit) {
    const int64_t size = decoder_.units()[static_cast<size_t>(unit)].num_elements();
    weights_.push_back(at::empty({size}, options));
    gradients_.push_back(at::full({size}, std::numeric_limits<double>::quiet_NaN(), options));
    decoder_.buffers(unit) = {weights_.back(), gradients_.back()};
  }
}

void WholeDecoder::fill_weights() {
  uint64_t key = 0;
  for (const std::string& name : names()) {
    const at::Tensor tensor = weight(name);
    const at::Tensor values = at::empty(tensor.sizes(), at::kFloat);
    float* numbers = values.mutable_data_ptr<float>();
    const double width =
        tensor.dim() == 2 ? std::sqrt(3.0 / static_cast<double>(tensor.size(1))) : 0.2;
    for (int64_t i = 0; i < values.numel(); ++i) {
      const double uniform = 2.0 * random_uniform(key, static_cast<uint64_t>(i)) - 1.0;
      numbers[i] = static_cast<float>(width * uniform + (tensor.dim() == 2 ? 0.0 : 1.0));
    }
    tensor.copy_(values);
    ++key;
  }
}

std::vector<std::string> WholeDecoder::names() const {
  std::vector<std::string> names;
  for (const UnitLayout& unit : decoder_.units()) {
    for (const TensorSlot& slot : unit.slots()) names.push_back(slot.name);
  }
  return names;
}

at::Tensor WholeDecoder::find(const std::vector<at::Tensor>& buffers, const std::string& name) {
  for (size_t unit = 0; unit < buffers.size(); ++unit) {
    const TensorSlot* slot = decoder_.units()[unit].find(name);
    if (slot == nullptr) continue;
    return buffers[unit].narrow(0, slot->offset, slot->num_elements()).view(slot->shape);
  }
  throw std::invalid_argument("no tensor " + name);
}

WholeDecoder::Pass WholeDecoder::forward_backward(const PackedBatch& batch) {
  const auto num_layers = static_cast<int>(decoder_.config().num_layers);
  at::Tensor hidden = decoder_.embed(batch);
  std::vector<BlockPass> passes;
  for (int layer = 0; layer < num_layers; ++layer) {
    passes.push_back(decoder_.block_with_graph(layer, hidden, batch));
    hidden = passes.back().output.detach();
  }
  const HeadResult head = decoder_.head_loss_and_gradient(hidden, batch.targets);
  at::Tensor gradient = head.hidden_gradient;
  for (int layer = num_layers - 1; layer >= 0; --layer) {
    gradient = decoder_.block_backward(std::move(passes.back()), gradient);
    passes.pop_back();
  }
  if (!decoder_.config().has_tied_head) gradients_[0].zero_();
  decoder_.embed_backward(gradient, batch);
  return {head.loss_sum, hidden, gradient};
}

WholeDecoder::Pass WholeDecoder::forward(const PackedBatch& batch) {
  at::Tensor hidden = decoder_.embed(batch);
  for (int layer = 0; layer < static_cast<int>(decoder_.config().num_layers); ++layer) {
    hidden = decoder_.block(layer, hidden, batch);
  }
  return {decoder_.head_loss(hidden, batch.targets).loss_sum, hidden, {}};
}

PackedBatch make_batch(const ModelConfig& config, const std::vector<int64_t>& lengths) {
  std::vector<int64_t> tokens, positions, targets, begins{0};
  for (const int64_t length : lengths) {
    for (int64_t position = 0; position < length; ++position) {
      const auto place = static_cast<uint64_t>(tokens.size());
      tokens.push_back(static_cast<int64_t>(random_word(7, place) >> 1) % config.vocab_size);
      positions.push_back(position);
    }
    begins.push_back(static_cast<int64_t>(tokens.size()));
  }
  for (size_t t = 0; t < tokens.size(); ++t) {
    const bool has_next = t + 1 < tokens.size() && positions[t + 1] != 0;
    targets.push_back(has_next ? tokens[t + 1] : kNoTarget);
  }
  return {at::tensor(tokens, at::kLong), at::tensor(positions, at::kLong),
          at::tensor(targets, at::kLong), begins};
}

}  // namespace temper::testing

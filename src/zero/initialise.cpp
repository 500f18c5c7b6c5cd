// SPDX-License-Identifier: Apache-2.0
#include "zero/initialise.h"

#include <ATen/ATen.h>

namespace temper {
namespace {

std::span<float> numbers_of(const at::Tensor& tensor) {
  return {tensor.mutable_data_ptr<float>(), static_cast<size_t>(tensor.numel())};
}

at::Tensor embeddings(const std::vector<int64_t>& tokens, int64_t hidden_size,
                      const ReadEmbedding& read_embedding) {
  const at::Tensor rows = at::empty({static_cast<int64_t>(tokens.size()), hidden_size}, at::kFloat);
  for (size_t i = 0; i < tokens.size(); ++i) {
    read_embedding(tokens[i], numbers_of(rows[static_cast<int64_t>(i)]));
  }
  return rows.flatten();
}

}  // namespace

void initialise(const Adapter& adapter, uint64_t seed, const ReadEmbedding& read_embedding,
                UnitStore& store) {
  const UnitState& state = store.state(0);
  for (size_t i = 0; i < adapter.initial.size(); ++i) {
    const InitialValues& initial = adapter.initial[i];
    const TensorSlot& slot = state.unit.slots()[i];
    const Range kept = intersection(slot.range(), state.kept);
    if (kept.is_empty()) continue;
    const Range elements{kept.begin - slot.offset, kept.end - slot.offset};
    at::Tensor values = at::empty({kept.size()}, at::kFloat);
    if (initial.tokens.empty()) {
      fill_initial_values(initial, seed, slot.name, elements, numbers_of(values));
    } else {
      values = embeddings(initial.tokens, slot.shape[1], read_embedding)
                   .narrow(0, elements.begin, elements.size());
    }
    state.loaded_weights().narrow(0, kept.begin - state.kept.begin, kept.size()).copy_(values);
  }
}

}  // namespace temper

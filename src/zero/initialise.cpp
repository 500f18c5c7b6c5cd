// SPDX-License-Identifier: Apache-2.0
#include "zero/initialise.h"

#include <ATen/ATen.h>

#include <span>

namespace temper {

void initialise(const Adapter& adapter, uint64_t seed, UnitStore& store) {
  const UnitState& state = store.state(0);
  for (size_t i = 0; i < adapter.initial.size(); ++i) {
    const TensorSlot& slot = state.unit.slots()[i];
    const Range kept = intersection(slot.range(), state.kept);
    if (kept.is_empty()) continue;
    const at::Tensor values = at::empty({kept.size()}, at::kFloat);
    fill_initial_values(adapter.initial[i], seed, slot.name,
                        {kept.begin - slot.offset, kept.end - slot.offset},
                        {values.mutable_data_ptr<float>(), static_cast<size_t>(kept.size())});
    state.master.narrow(0, kept.begin - state.kept.begin, kept.size()).copy_(values);
  }
  store.publish_weights();
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "zero/projected_unit.h"

#include <ATen/ATen.h>

namespace temper {
namespace {

int values_unit(const UnitStore& store) { return store.num_units() - 2; }
int projection_unit(const UnitStore& store) { return store.num_units() - 1; }

// Copies the part that this rank keeps of a whole unit.
void copy_kept(const UnitState& state, const at::Tensor& whole, at::Tensor kept) {
  const Range real = intersection(state.kept, {0, state.unit.num_elements()});
  if (real.is_empty()) return;
  kept.narrow(0, real.begin - state.kept.begin, real.size())
      .copy_(whole.narrow(0, real.begin, real.size()));
}

}  // namespace

void project_unit(const Adapter& adapter, UnitStore& store) {
  if (!adapter.projection) return;
  const int unit = values_unit(store), projection = projection_unit(store);
  const at::Tensor values = adapter.projection->values(store.gather(projection));
  store.release(projection);
  const UnitState& state = store.state(unit);
  copy_kept(state, values, state.loaded_weights());
  store.publish(unit);
}

void pull_back_gradient(const Adapter& adapter, Communicator& ranks, UnitStore& store) {
  if (!adapter.projection) return;
  const int unit = values_unit(store), projection = projection_unit(store);
  const UnitState& values = store.state(unit);
  at::Tensor whole = store.kept_gradient(unit);
  if (whole.numel() < values.shards.padded_size()) {
    const at::Tensor own = whole;
    whole = at::empty({values.shards.padded_size()}, own.options());
    ranks.all_gather(own, whole).wait();
  }
  const at::Tensor gradient = adapter.projection->backward(
      store.gather(projection), whole.narrow(0, 0, values.unit.num_elements()));
  store.release(projection);
  copy_kept(store.state(projection), gradient, store.kept_gradient(projection));
  store.kept_gradient(unit).zero_();
}

}  // namespace temper

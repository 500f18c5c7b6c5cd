// SPDX-License-Identifier: Apache-2.0
#include "zero/projected_unit.h"

#include <ATen/ATen.h>

namespace temper {
namespace {

constexpr int kValues = 0, kProjection = 1;

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
  const at::Tensor values = adapter.projection->values(store.gather(kProjection));
  store.release(kProjection);
  const UnitState& state = store.state(kValues);
  copy_kept(state, values, state.loaded_weights());
  store.publish_weights();
}

void pull_back_gradient(const Adapter& adapter, Communicator& ranks, UnitStore& store) {
  if (!adapter.projection) return;
  UnitState& values = store.state(kValues);
  at::Tensor whole = store.kept_gradient(kValues);
  if (whole.numel() < values.shards.padded_size()) {
    const at::Tensor own = whole;
    whole = at::empty({values.shards.padded_size()}, own.options());
    ranks.all_gather(own, whole).wait();
  }
  const at::Tensor gradient = adapter.projection->backward(
      store.gather(kProjection), whole.narrow(0, 0, values.unit.num_elements()));
  store.release(kProjection);
  copy_kept(store.state(kProjection), gradient, store.kept_gradient(kProjection));
  store.kept_gradient(kValues).zero_();
}

}  // namespace temper

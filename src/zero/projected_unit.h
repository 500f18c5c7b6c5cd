// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "comm/communicator.h"
#include "model/adapter/adapter.h"
#include "zero/unit_store.h"

namespace temper {

/// An adapter whose one unit is computed from another, which alone is trained: once a step, all
/// ranks compute the same from gathered tensors. They are the last two of the store. Without a
/// projection these do nothing.
///
/// Computes the first of both and publishes it: after each change of the second. Collective.
void project_unit(const Adapter& adapter, UnitStore& store);

/// Turns the step's gradient of the first into that of the second: after
/// UnitStore::finish_gradients. Collective.
void pull_back_gradient(const Adapter& adapter, Communicator& ranks, UnitStore& store);

}  // namespace temper

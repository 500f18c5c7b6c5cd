// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "model/adapter/adapter.h"
#include "zero/unit_store.h"

namespace temper {

/// Fills the store of an adapter with its initial values, the same on any number of ranks, then
/// publishes them.
/// Collective: all ranks.
void initialise(const Adapter& adapter, uint64_t seed, UnitStore& store);

}  // namespace temper

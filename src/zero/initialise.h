// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "comm/communicator.h"
#include "model/adapter/adapter.h"
#include "zero/unit_store.h"

namespace temper {

/// Fills the units of an adapter, which come last in a store, with their initial values, the same
/// on any number of ranks, publishes them, and changes the base: after the units of the model have
/// been loaded. Collective. Throws: CommError.
void initialise(const Adapter& adapter, uint64_t seed, Communicator& ranks, UnitStore& store);

/// Adds to the base's matrices what an adapter changes them by, each sum rounded once to the dtype
/// that is computed with: once after both have been loaded. Without such units it does nothing.
/// Has the same bits on any number of ranks. Collective.
void change_base(const Adapter& adapter, UnitStore& store);

}  // namespace temper

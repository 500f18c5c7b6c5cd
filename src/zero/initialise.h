// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "comm/communicator.h"
#include "model/adapter/adapter.h"
#include "zero/unit_store.h"

namespace temper {

/// Fills the units of an adapter, which come last in a store, with their initial values, the same
/// on any number of ranks, and publishes them: after those of the model have been loaded.
/// Collective. Throws: CommError.
void initialise(const Adapter& adapter, uint64_t seed, Communicator& ranks, UnitStore& store);

}  // namespace temper

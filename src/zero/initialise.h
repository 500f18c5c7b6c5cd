// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "comm/communicator.h"
#include "model/adapter/adapter.h"
#include "zero/base_tensors.h"
#include "zero/unit_store.h"

namespace temper {

/// Fills the store of an adapter with its initial values, the same on any number of ranks, and
/// publishes them. Collective. Throws: CommError.
void initialise(const Adapter& adapter, uint64_t seed, BaseTensors& base, Communicator& ranks,
                UnitStore& store);

}  // namespace temper

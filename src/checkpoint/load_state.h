// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint/model_folder.h"
#include "checkpoint/run_state.h"
#include "checkpoint/verification.h"
#include "comm/communicator.h"
#include "zero/unit_store.h"

namespace temper {

/// Fills the weights of a model's own units, which come first in a store, from its files, then
/// publishes them. Each rank reads only what it keeps, beside a small buffer; nothing is broadcast.
/// For units in four bits a dense model is quantised while it is read; what is quantised already is
/// taken as it is.
///
/// Collective: all ranks; all throw or none does.
/// Throws: ModelError if a file cannot be read or a weight is not finite.
void load_weights(const ModelFolder& folder, UnitStore& store, Communicator& ranks);

/// The same for the units of an adapter, which come last: `num_units` of them.
void load_adapter(const SafetensorsFolder& weights, int num_units, UnitStore& store,
                  Communicator& ranks);

/// Fills master weights and moments of what is trained from a checkpoint that any number of ranks
/// wrote at any stage, then publishes the weights. Each rank reads only what it keeps, beside a
/// small buffer.
///
/// Collective: all ranks; all throw or none does.
/// Throws: CheckpointError, also if the checkpoint is one of another model.
RunState load_checkpoint(const VerifiedCheckpoint& checkpoint, UnitStore& store,
                         Communicator& ranks);

}  // namespace temper

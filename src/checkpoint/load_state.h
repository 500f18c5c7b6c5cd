// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint/model_folder.h"
#include "checkpoint/run_state.h"
#include "checkpoint/verification.h"
#include "comm/communicator.h"
#include "zero/quantised_units.h"
#include "zero/unit_store.h"

namespace temper {

/// Fills a store's weights from the files of a model or an adapter, which have its tensors, then
/// publishes them. Each rank reads only what it keeps, beside a small buffer; nothing is broadcast.
///
/// Collective: all ranks; all throw or none does.
/// Throws: ModelError if a file cannot be read or a weight is not finite.
void load_weights(const SafetensorsFolder& weights, UnitStore& store, Communicator& ranks);

/// The same for units in four bits: a dense model is quantised while it is read; what is quantised
/// already is taken as it is.
void load_weights(const ModelFolder& folder, QuantisedUnits& units, Communicator& ranks);

/// Fills master weights and moments from a checkpoint that any number of ranks wrote at any stage,
/// then publishes the weights. Each rank reads only what it keeps, beside a small buffer. A frozen
/// store takes the master weights alone.
///
/// Collective: all ranks; all throw or none does.
/// Throws: CheckpointError, also if the checkpoint is one of another model.
RunState load_checkpoint(const VerifiedCheckpoint& checkpoint, UnitStore& store,
                         Communicator& ranks);

}  // namespace temper

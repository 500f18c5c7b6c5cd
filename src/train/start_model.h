// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "model/decoder.h"
#include "model/kl_options.h"
#include "train/engine.h"
#include "zero/unit_store.h"

namespace temper {

/// The model that a run began with, frozen, beside the one that is trained from it and kept near
/// it.
///
/// Of a model that is trained itself it has a second, sharded store, whose units are gathered like
/// all others; with an adapter it computes with the same units without the adapter.
class StartModel {
 public:
  /// `trained` computes with the units of `store`. Its distributions are kept near those of this
  /// from now on. Both must outlive this, and `ranks`, too. Collective.
  StartModel(Engine& trained, UnitStore& store, Communicator& ranks, const KlOptions& kl);

  /// Null where it computes with the units of the trained model; else its weights are to be loaded.
  UnitStore* own_store() { return own_store_ ? &*own_store_ : nullptr; }
  const UnitStore* own_store() const { return own_store_ ? &*own_store_ : nullptr; }

 private:
  Decoder decoder_;
  std::optional<UnitStore> own_store_;
  Engine engine_;
};

/// The units of such a second store; none with an adapter. `dtype` is what is computed with.
std::vector<StoredUnit> start_units(const ModelConfig& model, bool has_adapter,
                                    at::ScalarType dtype);

}  // namespace temper

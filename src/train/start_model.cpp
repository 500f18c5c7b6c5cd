// SPDX-License-Identifier: Apache-2.0
#include "train/start_model.h"

#include "model/decoder_units.h"

namespace temper {
namespace {

std::optional<UnitStore> make_store(const Engine& trained, const UnitStore& store,
                                    Communicator& ranks) {
  const std::vector<StoredUnit> units = start_units(
      trained.decoder().config(), trained.adapter() != nullptr, store.state(0).form.dtype);
  if (units.empty()) return std::nullopt;
  const StoreOptions options{.zero = store.options().zero, .device = store.options().device};
  return std::optional<UnitStore>(std::in_place, units, ranks, options);
}

}  // namespace

std::vector<StoredUnit> start_units(const ModelConfig& model, bool has_adapter,
                                    at::ScalarType dtype) {
  if (has_adapter) return {};
  return in_form(decoder_units(model), {.dtype = dtype, .is_trained = false});
}

StartModel::StartModel(Engine& trained, UnitStore& store, Communicator& ranks, const KlOptions& kl)
    : decoder_(trained.decoder().config()),
      own_store_(make_store(trained, store, ranks)),
      engine_(decoder_, own_store_ ? *own_store_ : store, Activations::kKept) {
  trained.keep_near(engine_, kl);
}

}  // namespace temper

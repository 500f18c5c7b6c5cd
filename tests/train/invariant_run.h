// SPDX-License-Identifier: Apache-2.0
// A short training of a tiny model, whose result may not depend on how it is done.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <boost/test/unit_test.hpp>
#include <optional>
#include <vector>

#include "comm/mpi_communicator.h"
#include "model/adapter/method.h"
#include "support/tiny_model.h"
#include "train/trainer.h"
#include "zero/initialise.h"

namespace temper::testing {

constexpr int kMicroBatches = 12;  // Per step: 1, 2, 3 and 4 ranks divide it.

struct Variant {
  int stage = 3;
  bool prefetches = true;
  Activations activations = Activations::kKept;
  at::ScalarType dtype = at::kFloat;
  int threads = 1;
  bool has_tied_head = true;
  MethodOptions method = {};
  int num_steps = 4;

  ZeroOptions zero() const { return {stage, Reduction::kExact, prefetches}; }
};

struct Curve {
  std::vector<double> losses, norms;
  std::vector<at::Tensor> weights;  // [unit], whole
};

// Clipping binds at every step, and the rate changes at every step.
inline Curve run_steps(Engine& engine, UnitStore& trained, Communicator& ranks, int num_steps) {
  Trainer trainer(engine, trained, ranks, Schedule({.warmup_steps = 2}, num_steps),
                  {{.learning_rate = 0.01, .weight_decay = 0.1}, 0.5});
  Curve curve;
  RunState state;
  for (int step = 0; step < num_steps; ++step) {
    std::vector<PackedBatch> batch;
    for (int j = ranks.rank(); j < kMicroBatches; j += ranks.world_size()) {
      batch.push_back(tiny_batch(engine.decoder().config(), step * kMicroBatches + j));
    }
    const StepResult result = trainer.train_step(batch, state);
    curve.losses.push_back(result.loss);
    curve.norms.push_back(result.grad_norm);
  }
  for (int unit = 0; unit < trained.num_units(); ++unit) {
    curve.weights.push_back(
        trained.gather(unit).narrow(0, 0, trained.state(unit).unit.num_elements()).clone());
    trained.release(unit);
  }
  return curve;
}

// Attaches the adapter of the method, if it has one, and trains.
inline Curve train(Engine& engine, UnitWeights& weights, Communicator& ranks,
                   const Variant& variant) {
  const std::optional<Adapter> adapter = make_adapter(variant.method, engine.decoder().config());
  if (!adapter)
    return run_steps(engine, dynamic_cast<UnitStore&>(weights), ranks, variant.num_steps);
  UnitStore adapter_store(adapter->units(), ranks, {.zero = variant.zero()});
  BaseTensors base(engine.decoder().units(), weights);
  initialise(*adapter, /*seed=*/3, base, ranks, adapter_store);
  engine.attach(*adapter, adapter_store);
  return run_steps(engine, adapter_store, ranks, variant.num_steps);
}

inline Curve train_quantised(Decoder& decoder, Communicator& ranks, const Variant& variant) {
  QuantisedUnits units(decoder.units(), ranks,
                       {variant.zero(), StorePurpose::kFrozen, variant.dtype}, {});
  fill_weights(units);
  Engine engine(decoder, units, variant.activations);
  return train(engine, units, ranks, variant);
}

inline Curve train(Communicator& ranks, const Variant& variant) {
  at::set_num_threads(variant.threads);
  Decoder decoder(tiny_config(variant.has_tied_head));
  Curve curve;
  if (variant.method.kind == MethodOptions::Kind::kQlora) {
    curve = train_quantised(decoder, ranks, variant);
  } else {
    const bool is_full = variant.method.kind == MethodOptions::Kind::kFull;
    UnitStore store(
        decoder.units(), ranks,
        {variant.zero(), is_full ? StorePurpose::kTraining : StorePurpose::kFrozen, variant.dtype});
    fill_weights(store);
    Engine engine(decoder, store, variant.activations);
    curve = train(engine, store, ranks, variant);
  }
  at::set_num_threads(1);
  return curve;
}

inline void check_equal(const Curve& a, const Curve& b) {
  BOOST_TEST(a.losses == b.losses, boost::test_tools::per_element());
  BOOST_TEST(a.norms == b.norms, boost::test_tools::per_element());
  for (size_t unit = 0; unit < a.weights.size(); ++unit) {
    BOOST_TEST(at::equal(a.weights[unit], b.weights[unit]), "weights of unit " << unit);
  }
}

struct RanksFixture {
  MpiCommunicator world{MPI_COMM_WORLD};
  MpiCommunicator self{MPI_COMM_SELF};
};

}  // namespace temper::testing

// SPDX-License-Identifier: Apache-2.0
// A short training of a tiny model, whose result may not depend on how it is done.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "comm/mpi_communicator.h"
#include "model/adapter/method.h"
#include "model/trained_parameters.h"
#include "support/tiny_model.h"
#include "train/start_model.h"
#include "train/trainer.h"
#include "zero/initialise.h"

namespace temper::testing {

constexpr int kMicroBatches = 7;  // Per step: 2, 3 and 4 ranks do not divide it.

struct Variant {
  int stage = 3;
  bool prefetches = true;
  Activations activations = Activations::kKept;
  at::ScalarType dtype = at::kFloat;
  int threads = 1;
  bool has_tied_head = true;
  int64_t head_dim = 12;  // A multiple of 8 is what fused attention takes.
  MethodOptions method = {};
  int num_steps = 4;
  MomentDtype moment_dtype = MomentDtype::kFloat32;
  std::filesystem::path offload = {};
  ParameterOptions parameters = {};
  double l2_sp = 0.0, ema_decay = 0.0;
  KlOptions kl = {};
  bool has_experts = false;

  ZeroOptions zero() const { return {stage, Reduction::kExact, prefetches}; }
};

struct Curve {
  std::vector<double> losses, norms, kls;
  std::vector<at::Tensor> weights;  // [trained unit], whole, on the host, and then their means
};

// Of what is trained, as it is computed with now.
inline void add_weights(UnitStore& store, std::vector<at::Tensor>& weights) {
  for (const int unit : store.trained()) {
    weights.push_back(store.gather(unit)
                          .narrow(0, 0, store.state(unit).unit.num_elements())
                          .to(at::kCPU, /*non_blocking=*/false, /*copy=*/true));
    store.release(unit);
  }
}

// Clipping binds at every step, and the rate changes at every step.
inline Curve run_steps(Engine& engine, UnitStore& store, Communicator& ranks, int num_steps) {
  Trainer trainer(engine, store, ranks, Schedule({.warmup_steps = 2}, num_steps),
                  {{.learning_rate = 0.01, .weight_decay = 0.1}, 0.5});
  Curve curve;
  RunState state;
  for (int step = 0; step < num_steps; ++step) {
    std::vector<PackedBatch> batch;
    for (int j = ranks.rank(); j < kMicroBatches; j += ranks.world_size()) {
      batch.push_back(
          tiny_batch(engine.decoder().config(), step * kMicroBatches + j, ranks.device()));
    }
    const StepResult result = trainer.train_step(batch, kMicroBatches, state);
    curve.losses.push_back(result.loss);
    curve.norms.push_back(result.grad_norm);
    if (result.kl) curve.kls.push_back(*result.kl);
  }
  add_weights(store, curve.weights);
  if (!store.options().has_means()) return curve;
  store.swap_means();
  add_weights(store, curve.weights);
  store.swap_means();
  return curve;
}

/// What use(engine, store) makes of a variant's model before its first step.
template <typename Use>
auto with_model(Communicator& ranks, const Variant& variant, Use use) {
  at::set_num_threads(variant.threads);
  ModelConfig model =
      variant.has_experts ? tiny_config_with_experts() : tiny_config(variant.has_tied_head);
  model.head_dim = variant.head_dim;
  Decoder decoder(model, trained_parameters(variant.parameters, model).units);
  const std::optional<Adapter> adapter = make_adapter(variant.method, decoder.config());
  UnitForm form{.dtype = variant.dtype};
  if (variant.method.kind == MethodOptions::Kind::kQlora) form.four_bit = QuantisationOptions{};
  UnitStore store(stored_units(decoder.units(), layouts_of(adapter), form), ranks,
                  {.zero = variant.zero(),
                   .device = ranks.device(),
                   .moment_dtype = variant.moment_dtype,
                   .rounding_seed = 5,
                   .offload = variant.offload,
                   .l2_sp = variant.l2_sp,
                   .ema_decay = variant.ema_decay});
  fill_weights(store, decoder.num_units());
  if (adapter) initialise(*adapter, /*seed=*/3, ranks, store);
  store.remember_start();
  Engine engine(decoder, store, variant.activations, adapter ? &*adapter : nullptr);
  std::optional<StartModel> start;
  if (variant.kl.is_on()) start.emplace(engine, store, ranks, variant.kl);
  if (start && start->own_store() != nullptr) fill_weights(*start->own_store());
  const auto result = use(engine, store);
  at::set_num_threads(1);
  return result;
}

inline Curve train(Communicator& ranks, const Variant& variant) {
  return with_model(ranks, variant, [&](Engine& engine, UnitStore& store) {
    return run_steps(engine, store, ranks, variant.num_steps);
  });
}

/// What one rank makes of a variant at stage 0, trained once for each name, dtype, head, moments.
inline const Curve& alone(Communicator& self, const std::string& name, Variant variant) {
  static std::map<std::string, Curve> known;
  const std::string key = name + at::toString(variant.dtype) + (variant.has_tied_head ? "+" : "-") +
                          std::to_string(static_cast<int>(variant.moment_dtype));
  const auto found = known.find(key);
  if (found != known.end()) return found->second;
  variant.stage = 0;
  return known[key] = train(self, variant);
}

inline void check_equal(const Curve& a, const Curve& b) {
  BOOST_TEST(a.losses == b.losses, boost::test_tools::per_element());
  BOOST_TEST(a.norms == b.norms, boost::test_tools::per_element());
  BOOST_TEST(a.kls == b.kls, boost::test_tools::per_element());
  for (size_t unit = 0; unit < a.weights.size(); ++unit) {
    BOOST_TEST(at::equal(a.weights[unit], b.weights[unit]), "weights of unit " << unit);
  }
}

/// The ranks of `world` make of a variant what one does, at whatever stage.
inline void check_stage(Communicator& world, Communicator& self, const std::string& name,
                        const Variant& variant) {
  const Curve& expected = alone(self, name, variant);
  const Curve curve = train(world, variant);
  check_equal(curve, expected);
  BOOST_TEST(curve.losses.front() != curve.losses.back());
}

/// How the ranks of `world` compute it does not matter, as long as the stage is the same.
inline void check_other_ways(Communicator& world, Variant variant, const Curve& expected) {
  variant.prefetches = false;
  check_equal(train(world, variant), expected);
  variant.activations = Activations::kRecomputed;
  check_equal(train(world, variant), expected);
  variant.threads = 3;
  check_equal(train(world, variant), expected);
}

struct RanksFixture {
  MpiCommunicator world{MPI_COMM_WORLD};
  MpiCommunicator self{MPI_COMM_SELF};
};

}  // namespace temper::testing

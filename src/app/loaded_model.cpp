// SPDX-License-Identifier: Apache-2.0
#include "app/loaded_model.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>

#include <optional>
#include <utility>

#include "app/launch_check.h"
#include "app/launch_resources.h"
#include "app/processors.h"
#include "app/rank_threads.h"
#include "checkpoint/load_state.h"
#include "checkpoint/together.h"
#include "comm/agree.h"
#include "comm/make_communicator.h"
#include "core/concat.h"
#include "core/log.h"
#include "zero/initialise.h"

namespace temper {
namespace {

ComputeDtype agreed_dtype(const MpiSession& session, Communicator& ranks, const RunConfig& config) {
  const Processor own = own_processor(config.model, find_gpu_kind(ranks.device()));
  return agree_on_dtype(ranks, session.host_names(), config, own);
}

OpenedModel open_locally(const RunConfig& config, const ModelOpening& opening) {
  Findings findings;
  std::optional<OpenedModel> model = open_model(config, opening, findings);
  findings.throw_if_any();
  return std::move(model).value();
}

// Rank 0 comes first: what it finds in the weights, no other rank reads them for.
OpenedModel open_together(Communicator& ranks, const RunConfig& config, ModelOpening::Use use) {
  std::optional<OpenedModel> model;
  do_on_rank_0(ranks, [&] { model = open_locally(config, {.use = use}); });
  const bool has_own_head = any_of(ranks, model && model->folder.has_own_head());
  do_together(ranks, [&] {
    if (ranks.rank() == 0) return;
    model =
        open_locally(config, {.use = use, .samples_weights = false, .has_own_head = has_own_head});
  });
  return std::move(model).value();
}

}  // namespace

std::unique_ptr<Communicator> open_ranks(const MpiSession& session, const RunConfig& config) {
  set_log_rank(session.rank(), session.world_size());
  auto ranks = make_communicator(session, device_of(config.model));
  require_same_program(session, *ranks, config);
  return ranks;
}

LoadedModel::LoadedModel(const MpiSession& session, std::unique_ptr<Communicator> all_ranks,
                         const RunConfig& config, ModelOpening::Use use)
    : ranks(std::move(all_ranks)),
      compute_dtype(agreed_dtype(session, *ranks, config)),
      num_threads(choose_num_threads(session, *ranks, config.train.threads)),
      opened(open_together(*ranks, config, use)),
      method(config.method),
      decoder(folder().config(), opened.parameters.units) {
  at::set_num_threads(num_threads);
  if (use != ModelOpening::Use::kGeneration) {
    choose_positions(method.num_virtual_tokens() + config.data.sequence_length);
  }
  const bool is_trained = use == ModelOpening::Use::kTraining;
  require_same_model({session.local_rank(), session.host_names()}, *ranks, folder());
  if (is_trained) {
    const std::string& node = session.host_names().at(static_cast<size_t>(session.rank()));
    const at::Device device = ranks->device();
    if (device.is_cpu()) {
      require_memory({session.local_size(), node}, config, memory_facts(), available_memory());
    } else {
      require_memory({.node = concat("device ", device, " of ", node), .is_card = true}, config,
                     memory_facts(), available_memory_of(device));
    }
  }
  do_together(*ranks, [&] {
    store.emplace(units(is_trained), *ranks,
                  StoreOptions{.zero = config.parallel,
                               .device = ranks->device(),
                               .moment_dtype = config.optimizer.state_dtype,
                               .rounding_seed = static_cast<uint64_t>(config.data.seed),
                               .offload = is_trained ? config.optimizer.offload : "",
                               .l2_sp = is_trained ? config.train.l2_sp : 0.0,
                               .ema_decay = is_trained ? config.train.ema_decay : 0.0});
  });
  engine.emplace(decoder, *store,
                 config.train.recomputes ? Activations::kRecomputed : Activations::kKept,
                 adapter() ? &*adapter() : nullptr);
  if (is_trained && config.train.kl.is_on())
    start.emplace(*engine, *store, *ranks, config.train.kl);
}

void LoadedModel::choose_positions(int64_t longest_context) {
  const std::optional<bool> is_long = decoder.choose_positions(longest_context);
  if (!is_long) return;
  log_event(
      concat("positions=", *is_long ? "long" : "short", " longest_context=", longest_context));
}

std::vector<StoredUnit> LoadedModel::units(bool is_trained) const {
  return opened.units(scalar_type_of(compute_dtype), is_trained);
}

MemoryFacts LoadedModel::memory_facts() const {
  return {.model = folder().config(),
          .units = units(/*is_trained=*/true),
          .users = opened.parameters.units.users,
          .num_ranks = ranks->world_size(),
          .num_threads = num_threads};
}

void LoadedModel::load_start() {
  load_weights(folder(), *store, *ranks);
  if (!adapter()) return;
  if (opened.start) {
    const auto num_units = static_cast<int>(adapter()->units.size());
    load_adapter(opened.start->weights(), num_units, *store, *ranks);
    return;
  }
  initialise(*adapter(), static_cast<uint64_t>(method.seed), *ranks, *store);
}

void LoadedModel::remember_start() {
  store->remember_start();
  if (start && start->own_store() != nullptr) load_weights(folder(), *start->own_store(), *ranks);
}

at::Device device_of(const ModelOptions& options) {
  if (options.device == ModelOptions::Device::kCpu) return at::kCPU;
  return at::getAccelerator().value_or(at::kCUDA);
}

at::ScalarType scalar_type_of(ComputeDtype dtype) {
  return dtype == ComputeDtype::kBfloat16 ? at::kBFloat16 : at::kFloat;
}

}  // namespace temper

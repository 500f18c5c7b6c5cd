// SPDX-License-Identifier: Apache-2.0
#include "app/loaded_model.h"

#include <ATen/Parallel.h>

#include <utility>

#include "app/launch_check.h"
#include "app/launch_resources.h"
#include "app/processors.h"
#include "app/rank_threads.h"
#include "checkpoint/load_state.h"
#include "checkpoint/together.h"
#include "comm/agree.h"
#include "comm/make_communicator.h"
#include "core/log.h"
#include "zero/initialise.h"

namespace temper {
namespace {

StorePurpose purpose_of(ModelOpening::Use use) {
  return use == ModelOpening::Use::kTraining ? StorePurpose::kTraining : StorePurpose::kFrozen;
}

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
      decoder(folder().config()) {
  at::set_num_threads(num_threads);
  const StorePurpose purpose = purpose_of(use);
  require_same_model({session.local_rank(), session.host_names()}, *ranks, folder());
  if (purpose == StorePurpose::kTraining) {
    const std::string& node = session.host_names().at(static_cast<size_t>(session.rank()));
    require_memory({session.local_size(), node}, config, memory_facts(), available_memory());
  }
  const StoreOptions options{config.parallel, adapter() ? StorePurpose::kFrozen : purpose,
                             scalar_type_of(compute_dtype), ranks->device()};
  const auto activations = config.train.recomputes ? Activations::kRecomputed : Activations::kKept;
  if (opened.quantisation) {
    quantised.emplace(decoder.units(), *ranks, options, *opened.quantisation);
    engine.emplace(decoder, *quantised, activations);
  } else {
    store.emplace(decoder.units(), *ranks, options);
    engine.emplace(decoder, *store, activations);
  }
  if (!adapter()) return;
  adapter_store.emplace(adapter()->units(), *ranks,
                        StoreOptions{config.parallel, purpose, at::kFloat, ranks->device()});
  engine->attach(*adapter(), *adapter_store);
}

MemoryFacts LoadedModel::memory_facts() const {
  return {.model = folder().config(),
          .units = decoder.units(),
          .adapter = units_of(adapter()),
          .num_ranks = ranks->world_size(),
          .num_threads = num_threads,
          .compute_dtype = compute_dtype};
}

int64_t LoadedModel::state_bytes() const {
  return (store ? store->state_bytes() : quantised->state_bytes()) +
         (adapter_store ? adapter_store->state_bytes() : 0);
}

void LoadedModel::load_base() {
  if (store) {
    load_weights(folder().weights(), *store, *ranks);
  } else {
    load_weights(folder(), *quantised, *ranks);
  }
}

void LoadedModel::load_start() {
  load_base();
  if (!adapter()) return;
  if (opened.start) {
    load_weights(opened.start->weights(), *adapter_store, *ranks);
    return;
  }
  UnitWeights& weights = store ? static_cast<UnitWeights&>(*store) : *quantised;
  BaseTensors base(decoder.units(), weights);
  initialise(*adapter(), static_cast<uint64_t>(method.seed), base, *ranks, *adapter_store);
}

at::Device device_of(const ModelOptions& options) {
  return options.device == ModelOptions::Device::kCpu ? at::kCPU : at::kCUDA;
}

at::ScalarType scalar_type_of(ComputeDtype dtype) {
  return dtype == ComputeDtype::kBfloat16 ? at::kBFloat16 : at::kFloat;
}

}  // namespace temper

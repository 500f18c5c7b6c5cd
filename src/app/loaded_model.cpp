// SPDX-License-Identifier: Apache-2.0
#include "app/loaded_model.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <utility>

#include "app/launch_check.h"
#include "app/launch_resources.h"
#include "app/rank_threads.h"
#include "checkpoint/four_bit/stored_format.h"
#include "checkpoint/load_state.h"
#include "checkpoint/together.h"
#include "comm/make_communicator.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/log.h"
#include "data/evaluation_rows.h"
#include "data/shard_checks.h"
#include "zero/initialise.h"

namespace temper {
namespace {

std::unique_ptr<Communicator> open_ranks(const MpiSession& session, const RunConfig& config) {
  set_log_rank(session.rank(), session.world_size());
  auto ranks = make_communicator(session, device_of(config.model));
  require_same_program(session, *ranks, config);
  return ranks;
}

StoreOptions store_options(const RunConfig& config, StorePurpose purpose, at::Device device) {
  return {config.parallel, config.method.has_adapter() ? StorePurpose::kFrozen : purpose,
          scalar_type_of(compute_dtype_of(config.model)), device};
}

WeightForms accepted_forms(const RunConfig& config, StorePurpose purpose) {
  return config.method.kind == MethodOptions::Kind::kQlora || purpose == StorePurpose::kFrozen
             ? WeightForms::kAny
             : WeightForms::kDense;
}

}  // namespace

LoadedModel::LoadedModel(const MpiSession& session, const RunConfig& config, StorePurpose purpose)
    : ranks(open_ranks(session, config)),
      num_threads(choose_num_threads(session, *ranks, config.train.threads)),
      folder(config.model.path, accepted_forms(config, purpose)),
      method(config.method),
      decoder(folder.config()) {
  at::set_num_threads(num_threads);
  adapter = make_adapter(method, folder.config());
  if (purpose == StorePurpose::kTraining) {
    const std::string& node = session.host_names().at(static_cast<size_t>(session.rank()));
    require_memory({session.local_size(), node}, config, memory_facts(config), available_memory());
  }
  const StoreOptions options = store_options(config, purpose, ranks->device());
  const auto activations = config.train.recomputes ? Activations::kRecomputed : Activations::kKept;
  if (const auto quantisation = quantisation_of(config, folder)) {
    quantised.emplace(decoder.units(), *ranks, options, *quantisation);
    engine.emplace(decoder, *quantised, activations);
  } else {
    store.emplace(decoder.units(), *ranks, options);
    engine.emplace(decoder, *store, activations);
  }
  if (!adapter) return;
  adapter_store.emplace(adapter->units(), *ranks,
                        StoreOptions{config.parallel, purpose, at::kFloat, ranks->device()});
  engine->attach(*adapter, *adapter_store);
}

MemoryFacts LoadedModel::memory_facts(const RunConfig& config) const {
  return {.model = folder.config(),
          .units = decoder.units(),
          .adapter = units_of(adapter),
          .num_ranks = ranks->world_size(),
          .num_threads = num_threads,
          .compute_dtype = compute_dtype_of(config.model)};
}

int64_t LoadedModel::state_bytes() const {
  return (store ? store->state_bytes() : quantised->state_bytes()) +
         (adapter_store ? adapter_store->state_bytes() : 0);
}

void LoadedModel::load_base() {
  if (store) {
    load_weights(folder.weights(), *store, *ranks);
  } else {
    load_weights(folder, *quantised, *ranks);
  }
}

void LoadedModel::load_start() {
  load_base();
  if (!adapter) return;
  std::optional<AdapterFolder> start;
  do_together(*ranks, [&] { start = open_start(method, folder); });
  if (start) {
    do_on_rank_0(*ranks, [&] { require_same_base(start->path(), folder); });
    load_weights(start->weights(), *adapter_store, *ranks);
    return;
  }
  UnitWeights& weights = store ? static_cast<UnitWeights&>(*store) : *quantised;
  BaseTensors base(decoder.units(), weights);
  initialise(*adapter, static_cast<uint64_t>(method.seed), base, *ranks, *adapter_store);
}

std::optional<QuantisationOptions> quantisation_of(const RunConfig& config,
                                                   const ModelFolder& folder) {
  const bool is_qlora = config.method.kind == MethodOptions::Kind::kQlora;
  if (!folder.quantisation()) return is_qlora ? std::optional(config.quantise) : std::nullopt;
  const QuantisationOptions& stored = *folder.quantisation();
  if (is_qlora && config.quantise != stored) {
    throw ConfigError(concat("quantise is ", describe(config.quantise), ", but the weights in ",
                             folder.path().string(), " are ", describe(stored)),
                      concat("set quantise: {type: ", name_of(stored.kind),
                             ", double: ", stored.is_double ? "true" : "false", "}"));
  }
  return stored;
}

std::optional<AdapterFolder> open_start(const MethodOptions& method, const ModelFolder& base) {
  if (method.start.empty()) return std::nullopt;
  std::optional<AdapterFolder> start(std::in_place, method.start, base);
  if (is_same_adapter(start->options(), method, base.config())) return start;
  throw ConfigError(
      concat("the adapter in ", method.start, " is one of method ", name_of(start->options().kind),
             ", or has other tensors or scales than the configuration says"),
      "set method and its options to those of the adapter's adapter_config.json");
}

at::Device device_of(const ModelOptions& options) {
  return options.device == ModelOptions::Device::kCpu ? at::kCPU : at::kCUDA;
}

at::ScalarType scalar_type_of(ComputeDtype dtype) {
  return dtype == ComputeDtype::kBfloat16 ? at::kBFloat16 : at::kFloat;
}

std::vector<HoldOut> open_holdouts(const RunConfig& config, const ModelFolder& folder) {
  const ModelFacts facts{folder.config().vocab_size, folder.tokenizer_sha256()};
  std::vector<HoldOut> holdouts;
  for (const HoldOutOptions& options : config.holdouts) {
    const auto rows = std::make_shared<EvaluationRows>(options.path, config.data.sequence_length,
                                                       config.data.micro_batch_rows);
    require_fits(rows->shard(), facts);
    int64_t num_micro_batches = rows->num_micro_batches();
    if (options.max_rows > 0) {
      const int64_t wanted =
          (options.max_rows + config.data.micro_batch_rows - 1) / config.data.micro_batch_rows;
      num_micro_batches = std::min(num_micro_batches, wanted);
    }
    holdouts.push_back({options.name, num_micro_batches,
                        [rows](int64_t index) { return rows->micro_batch(index); }});
  }
  return holdouts;
}

}  // namespace temper

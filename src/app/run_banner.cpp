// SPDX-License-Identifier: Apache-2.0
#include "app/run_banner.h"

#include <array>

#include "app/memory_estimate.h"
#include "app/trained_text.h"
#include "core/concat.h"
#include "core/message_text.h"

namespace temper {
namespace {

const char* sharded_at(int stage) {
  constexpr std::array kSharded = {"nothing", "moments", "moments,gradients",
                                   "moments,gradients,weights"};
  return kSharded.at(static_cast<size_t>(stage));
}

// That this rank keeps.
int64_t state_bytes(const LoadedModel& loaded) {
  const UnitStore* own = loaded.start ? loaded.start->own_store() : nullptr;
  return loaded.store->state_bytes() + (own != nullptr ? own->state_bytes() : 0);
}

}  // namespace

std::vector<std::string> banner_of(const RunToBegin& run) {
  std::vector<std::string> lines;
  const ModelConfig& model = run.model.folder().config();
  const int64_t num_parameters = num_elements(run.model.decoder.units());
  const auto& adapter = run.model.adapter();
  const int64_t trained = num_trained(adapter ? adapter->layouts() : run.model.decoder.units());
  lines.push_back(concat(
      "temper model=", run.config.model.path, " family=", model.model_type,
      " parameters=", readable_count(num_parameters), " dtype=", name_of(run.model.compute_dtype),
      " method=", name_of(run.config.method.kind), " trained=", readable_count(trained)));
  for (const std::string& group : describe_groups(run.config, run.model.opened.parameters)) {
    lines.push_back(concat("group=\"", group, '"'));
  }
  const MemoryEstimate memory = estimate_memory(run.config, run.model.memory_facts());
  lines.push_back(
      concat("ranks=", run.shape.num_ranks, " nodes=", run.shape.num_nodes,
             " threads_per_rank=", run.model.num_threads, " stage=", run.config.parallel.stage,
             " sharded=", sharded_at(run.config.parallel.stage),
             " reduction=", run.config.parallel.reduction == Reduction::kExact ? "exact" : "fast",
             " memory_per_rank=", readable_bytes(memory.total()),
             " of_it_state=", readable_bytes(state_bytes(run.model)),
             memory.offloaded == 0 ? std::string()
                                   : concat(" offloaded=", readable_bytes(memory.offloaded))));
  lines.push_back(concat(
      "steps=", run.plan.num_steps, " rows_per_step=", run.config.data.global_batch_rows,
      " rows_per_micro_batch=", run.config.data.micro_batch_rows,
      " tokens_per_row=", run.config.data.sequence_length,
      " rows_per_epoch=", run.plan.mixture.rows_per_epoch(), " folder=", run.config.run.folder));
  for (const auto& source : run.plan.mixture.sources()) {
    lines.push_back(concat("source=", source->corpus().name(),
                           " files=", source->corpus().parts().size(), " rows=", source->num_rows(),
                           " tokens=", source->num_tokens(), " truncated=", source->num_truncated(),
                           " without_target=", source->num_without_target()));
  }
  for (const SourceUse& use : run.mixture) {
    lines.push_back(concat("mixture=", use.path, " share=", use.share, " tokens=", use.num_tokens,
                           " epochs=", use.epochs));
  }
  return lines;
}

}  // namespace temper

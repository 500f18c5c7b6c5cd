// SPDX-License-Identifier: Apache-2.0
#include "config/run_config.h"

#include "config/data_keys.h"
#include "config/method_keys.h"
#include "config/run_config_keys.h"
#include "config/training_keys.h"

namespace temper {
namespace {

// Every key there is. The visitor reads (Section), writes (SectionWriter) or tells (KeyCollector).
template <typename Visitor>
void visit(Visitor& root, RunConfig& config) {
  using namespace keys;
  visit_run_and_model(root, config);
  visit_method(root, config.method);
  root.section("quantise", {"How method qlora keeps the frozen matrices in four bits."},
               [&](auto& section) { visit_quantise(section, config.quantise); });
  root.section("data", {"What is read, and in which portions."},
               [&](auto& section) { visit_data(section, config); });
  root.section("train", {"How long the run is, and what a step does."},
               [&](auto& section) { visit_train(section, config); });
  root.section("early_stop", {"Ends the run when a hold-out no longer gains."},
               [&](auto& section) { visit_early_stop(section, config.train.early_stop); });
  root.section("optimizer", {"AdamW."}, [&](auto& section) { visit_optimizer(section, config); });
  root.section("schedule", {"The learning rate from step to step."},
               [&](auto& section) { visit_schedule(section, config.schedule); });
  root.section("parallel", {"How ranks share the work."},
               [&](auto& section) { visit_parallel(section, config.parallel); });
  root.section("checkpoint", {"When the run is saved, and what stays."},
               [&](auto& section) { visit_checkpoint(section, config.checkpoint); });
  visit_endings(root, config);
}

}  // namespace

void visit_keys(Section& root, RunConfig& config) { visit(root, config); }

void visit_keys(SectionWriter& root, RunConfig& config) { visit(root, config); }

void visit_keys(KeyCollector& root, RunConfig& config) { visit(root, config); }

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config/key_table.h"
#include "config/run_config.h"
#include "config/section.h"
#include "config/section_writer.h"

namespace temper {

/// Every key that a configuration has: one list, which is read, written and told.
void visit_keys(Section& root, RunConfig& config);
void visit_keys(SectionWriter& root, RunConfig& config);
void visit_keys(KeyCollector& root, RunConfig& config);

}  // namespace temper

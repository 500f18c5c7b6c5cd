// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config/run_config.h"
#include "config/section.h"
#include "config/section_writer.h"

namespace temper {

/// Every key that a configuration has: one list, which is read and written.
void visit_keys(Section& root, RunConfig& config);
void visit_keys(SectionWriter& root, RunConfig& config);

}  // namespace temper

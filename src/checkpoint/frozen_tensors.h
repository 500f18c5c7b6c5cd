// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "checkpoint/file_part.h"
#include "checkpoint/model_folder.h"
#include "io/safetensors_folder.h"
#include "model/unit_layout.h"

namespace temper {

/// Elements `range` of a frozen unit as its base has them: what is computed with may be rounded.
/// They are read when they are written, so that no copy of them is held.
///
/// `base` must outlive the result, whose `read` throws CheckpointError if the base cannot be read.
NumberSource frozen_numbers(const SafetensorsFolder& base, const UnitLayout& unit, Range range);

/// Bytes `range` of what a checkpoint passes on: those of the base's tensors, end to end.
///
/// As above.
ByteSource passed_bytes(const SafetensorsFolder& base, const UnitLayout& unit, Range range);

/// What a resumed run computes with beside the checkpoint is its base: compares the beginning of
/// each frozen tensor of `units` with what the checkpoint has published.
/// Throws: ModelError if the base has others; CheckpointError if the checkpoint cannot be read.
void require_same_frozen(const std::filesystem::path& checkpoint, const ModelFolder& base,
                         const std::vector<UnitLayout>& units);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint/json_keys.h"
#include "core/range.h"
#include "model/family.h"

namespace temper {

inline constexpr Range kLayers{1, 10001};                ///< How many a model may have,
inline constexpr Range kPositions{1, int64_t{1} << 40};  ///< and how many positions.

/// Reads in what the layers of a config.json differ, whose sizes `config` has by now: their windows
/// and whether they rotate. Notes problems.
void read_layers(const JsonKeys& keys, const Family& family, ModelConfig& config);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

namespace temper {

/// Whether a map has negative numbers, too, for half of its codes.
enum class MapSign { kSigned, kUnsigned };

/// The value of each 8-bit code, ascending, from -1 or 0 to 1: seven magnitudes, each with twice as
/// many values as the one below.
/// Source: Dettmers, "8-bit approximations for parallelism in deep learning", 2015; in the last bit
///   as create_dynamic_map of bitsandbytes.
const std::array<float, 256>& dynamic_map(MapSign sign);

}  // namespace temper

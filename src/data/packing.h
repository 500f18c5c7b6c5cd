// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace temper {

/// Packs documents into rows of at most `capacity` tokens: the longest first, each into the row
/// with the least room that still fits it. Ties go to the lower document, and to the row that has
/// had this room for longest.
///
/// Returns the documents of each row. O(n log n).
/// Shapes: lengths [num_documents], each in [1, capacity].
/// Throws: std::invalid_argument for a length out of range.
/// Source: best fit decreasing, as trl.data_utils.pack_dataset(strategy="bfd").
std::vector<std::vector<int64_t>> pack_best_fit(std::span<const int64_t> lengths, int64_t capacity);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace temper {

/// Documents of a packed batch that fork: each is a trunk and branches behind it, and a branch
/// reads the trunk and itself, as if it followed the trunk alone.
///
/// All but attention computes row by row, so that a trunk is computed once. For attention each
/// branch is a document of its own with a copy of the trunk's rows: it has the bits of trunk and
/// branch in a batch of their own.
class Branches {
 public:
  /// `document_begins` [D + 1] are those of the batch; `branch_begins` [document][branch] its rows
  /// with which branches begin, at least one a document. A document ends with its last branch.
  Branches(std::vector<int64_t> document_begins, std::vector<std::vector<int64_t>> branch_begins);

  /// Where each branch begins, its copy of the trunk first. Shape: [branches + 1].
  const std::vector<int64_t>& document_begins() const { return apart_begins_; }

  /// Each branch behind its own copy of the trunk. Shapes: rows [T, n]; returns
  /// [document_begins().back(), n].
  at::Tensor apart(const at::Tensor& rows) const;

  /// The rows of the batch again, a trunk's from its first copy. Shapes: as above.
  at::Tensor together(const at::Tensor& copies) const;

  /// The same if each document begins with `count` more rows.
  Branches after(int64_t count) const;

 private:
  std::vector<int64_t> begins_;
  std::vector<std::vector<int64_t>> branch_begins_;
  std::vector<int64_t> apart_begins_;
  std::vector<int64_t> row_of_copy_;  // [copies]
  std::vector<int64_t> copy_of_row_;  // [T]
};

}  // namespace temper

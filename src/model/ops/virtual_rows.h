// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace temper {

/// Rows of a packed batch in which each document begins with the same `count` virtual rows: those
/// of a trained prefix or prompt.
class VirtualRows {
 public:
  /// `document_begins` [D + 1] without the virtual rows, from 0 to T.
  VirtualRows(std::vector<int64_t> document_begins, int64_t count)
      : begins_(std::move(document_begins)), count_(count) {}

  /// [D + 1], from 0 to T + D * count.
  std::vector<int64_t> document_begins() const;

  /// Shapes: rows_before [count, n], rows [T, n]; returns [T + D * count, n].
  at::Tensor insert(const at::Tensor& rows_before, const at::Tensor& rows) const;

  /// The documents' own rows. Shapes: all [T + D * count, n]; returns [T, n].
  at::Tensor real(const at::Tensor& all) const;

  /// The virtual rows, added up over the documents in their order. Returns [count, n] fp32.
  at::Tensor sum_virtual(const at::Tensor& all) const;

 private:
  int64_t num_documents() const { return static_cast<int64_t>(begins_.size()) - 1; }

  std::vector<int64_t> begins_;
  int64_t count_;
};

}  // namespace temper

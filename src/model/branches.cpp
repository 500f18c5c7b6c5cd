// SPDX-License-Identifier: Apache-2.0
#include "model/branches.h"

#include <ATen/ATen.h>

#include <utility>

#include "core/range.h"
#include "model/on_device.h"

namespace temper {

Branches::Branches(std::vector<int64_t> document_begins,
                   std::vector<std::vector<int64_t>> branch_begins)
    : begins_(std::move(document_begins)),
      branch_begins_(std::move(branch_begins)),
      apart_begins_{0} {
  copy_of_row_.resize(static_cast<size_t>(begins_.back()));
  const auto copy = [&](Range rows) {
    for (int64_t row = rows.begin; row < rows.end; ++row) row_of_copy_.push_back(row);
  };
  const auto copy_first = [&](Range rows) {
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      copy_of_row_[static_cast<size_t>(row)] = static_cast<int64_t>(row_of_copy_.size());
      row_of_copy_.push_back(row);
    }
  };
  for (size_t document = 0; document < branch_begins_.size(); ++document) {
    const std::vector<int64_t>& branches = branch_begins_[document];
    const Range trunk{begins_[document], branches.front()};
    for (size_t k = 0; k < branches.size(); ++k) {
      const bool is_last = k + 1 == branches.size();
      if (k == 0) copy_first(trunk);
      if (k > 0) copy(trunk);
      copy_first({branches[k], is_last ? begins_[document + 1] : branches[k + 1]});
      apart_begins_.push_back(static_cast<int64_t>(row_of_copy_.size()));
    }
  }
}

at::Tensor Branches::apart(const at::Tensor& rows) const {
  return rows.index_select(0, on_device(row_of_copy_, rows.device()));
}

at::Tensor Branches::together(const at::Tensor& copies) const {
  return copies.index_select(0, on_device(copy_of_row_, copies.device()));
}

Branches Branches::after(int64_t count) const {
  std::vector<int64_t> begins = begins_;
  std::vector<std::vector<int64_t>> branch_begins = branch_begins_;
  for (size_t i = 0; i < begins.size(); ++i) begins[i] += static_cast<int64_t>(i) * count;
  for (size_t i = 0; i < branch_begins.size(); ++i) {
    for (int64_t& begin : branch_begins[i]) begin += static_cast<int64_t>(i + 1) * count;
  }
  return {std::move(begins), std::move(branch_begins)};
}

}  // namespace temper

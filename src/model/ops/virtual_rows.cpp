// SPDX-License-Identifier: Apache-2.0
#include "model/ops/virtual_rows.h"

#include <ATen/ATen.h>

namespace temper {

std::vector<int64_t> VirtualRows::document_begins() const {
  std::vector<int64_t> begins = begins_;
  for (size_t i = 0; i < begins.size(); ++i) begins[i] += static_cast<int64_t>(i) * count_;
  return begins;
}

at::Tensor VirtualRows::insert(const at::Tensor& rows_before, const at::Tensor& rows) const {
  std::vector<at::Tensor> parts;
  for (size_t i = 0; i + 1 < begins_.size(); ++i) {
    parts.push_back(rows_before);
    parts.push_back(rows.slice(0, begins_[i], begins_[i + 1]));
  }
  return at::cat(parts);
}

at::Tensor VirtualRows::real(const at::Tensor& all) const {
  std::vector<at::Tensor> parts;
  const std::vector<int64_t> begins = document_begins();
  for (size_t i = 0; i + 1 < begins.size(); ++i) {
    parts.push_back(all.slice(0, begins[i] + count_, begins[i + 1]));
  }
  return at::cat(parts);
}

at::Tensor VirtualRows::sum_virtual(const at::Tensor& all) const {
  const std::vector<int64_t> begins = document_begins();
  at::Tensor sum = all.narrow(0, 0, count_).to(at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  for (int64_t i = 1; i < num_documents(); ++i) {
    sum.add_(all.narrow(0, begins[static_cast<size_t>(i)], count_));
  }
  return sum;
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "model/ops/virtual_rows.h"

#include <ATen/ATen.h>

#include "model/ops/backward.h"

namespace temper {
namespace {

// The prefix has no queries: what its rows attend to is thrown away.
at::Tensor with_prefix(const at::Tensor& qkv, const Heads& heads, const VirtualRows& rows,
                       const PrefixWeights& prefix) {
  at::Tensor all = without_graph([&] {
    const at::Tensor no_queries = at::zeros({prefix.count(), heads.query_columns()}, qkv.options());
    return rows.insert(at::cat({no_queries, prefix.keys_values(heads, qkv.scalar_type())}, 1), qkv);
  });
  return with_backward(
      std::move(all), {qkv},
      [rows, prefix, heads](const at::Tensor& gradient) -> std::vector<at::Tensor> {
        const int64_t columns = 2 * heads.key_value_columns();
        const at::Tensor sum =
            rows.sum_virtual(gradient.narrow(1, heads.first_key_column(), columns));
        prefix.table.gradient().narrow(1, prefix.first_column, columns).copy_(sum);
        return {rows.real(gradient)};
      });
}

at::Tensor without_prefix(const at::Tensor& all, const VirtualRows& rows, int64_t count) {
  at::Tensor real = without_graph([&] { return rows.real(all); });
  return with_backward(
      std::move(real), {all}, [rows, count](const at::Tensor& gradient) -> std::vector<at::Tensor> {
        const at::Tensor none = at::zeros({count, gradient.size(1)}, gradient.options());
        return {rows.insert(none, gradient)};
      });
}

}  // namespace

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

at::Tensor PrefixWeights::keys_values(const Heads& heads, at::ScalarType dtype) const {
  return table.value().narrow(1, first_column, 2 * heads.key_value_columns()).to(dtype);
}

at::Tensor attention_after_prefix(const at::Tensor& qkv, const Heads& heads,
                                  const AttentionMask& mask, const PrefixWeights& prefix) {
  const VirtualRows rows(mask.document_begins, prefix.count());
  const at::Tensor all = with_prefix(qkv, heads, rows, prefix);
  const at::Tensor attended = attention(all, heads, {rows.document_begins(), mask.window});
  return without_prefix(attended, rows, prefix.count());
}

}  // namespace temper

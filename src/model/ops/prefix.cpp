// SPDX-License-Identifier: Apache-2.0
#include "model/ops/prefix.h"

#include <ATen/ATen.h>

#include "model/ops/backward.h"
#include "model/ops/virtual_rows.h"

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

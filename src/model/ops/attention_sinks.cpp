// SPDX-License-Identifier: Apache-2.0
#include "model/ops/attention_sinks.h"

#include <ATen/ATen.h>

#include "model/ops/backward.h"
#include "model/ops/column_sum.h"

namespace temper {

at::Tensor sink_values(const Heads& heads) {
  return heads.sinks.is_defined() ? heads.sinks.value().to(at::kFloat) : at::Tensor();
}

at::Tensor sinks_of_rows(const at::Tensor& queries, const Heads& heads) {
  if (!heads.sinks.is_defined()) return {};
  at::Tensor rows = without_graph([&] {
    return sink_values(heads).expand({queries.size(0), heads.num_heads}).contiguous();
  });
  return with_backward(
      std::move(rows), {queries},
      [sinks = heads.sinks, shape = queries.sizes().vec(),
       options = queries.options()](const at::Tensor& gradient) -> std::vector<at::Tensor> {
        if (at::Tensor own = sinks.gradient(); own.defined()) column_sum_out(own, gradient);
        return {at::zeros(shape, options)};
      });
}

// The weights of keys sum up to exp(log_sum) of exp(log_sum) + exp(sink).
AttentionResult with_sinks(const AttentionResult& without, const Heads& heads) {
  const at::Tensor sinks = sink_values(heads).unsqueeze(1);
  const at::Tensor kept = at::sigmoid(without.log_sums - sinks).t().unsqueeze(2);  // [T, heads, 1]
  const at::Tensor by_head = without.output.unflatten(1, {heads.num_heads, heads.head_dim});
  return {by_head.mul(kept).to(without.output.scalar_type()).flatten(1),
          at::logaddexp(without.log_sums, sinks)};
}

// A sink's weight p has the gradient of a score whose value is 0: -p sum(output * gradient).
void write_sink_gradients(const at::Tensor& gradient, const AttentionResult& result,
                          const Heads& heads) {
  if (!heads.sinks.is_defined()) return;
  at::Tensor own = heads.sinks.gradient();
  if (!own.defined()) return;
  const at::Tensor weights = at::exp(sink_values(heads) - result.log_sums.t());
  const at::Tensor deltas = result.output.to(at::kFloat)
                                .mul(gradient)
                                .unflatten(1, {heads.num_heads, heads.head_dim})
                                .sum(2);
  column_sum_out(own, weights.mul(deltas).neg());
}

}  // namespace temper

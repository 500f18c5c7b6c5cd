// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include "model/ops/attention.h"
#include "model/ops/attention_task.h"

namespace temper {

// Sinks: one more score of each head beside those of a query's keys, which takes a share of the
// weights and has nothing to give for it.

/// Those of all heads; undefined where there are none. Shapes: [num_heads] fp32.
at::Tensor sink_values(const Heads& heads);

/// The same for each row of `queries`, with a graph, whose backward pass writes the gradient of the
/// sinks; undefined where there are none. Shapes: queries [T, ..]; returns [T, num_heads] fp32.
at::Tensor sinks_of_rows(const at::Tensor& queries, const Heads& heads);

/// What attention with sinks makes, of what it makes without them. Shapes: as AttentionResult.
AttentionResult with_sinks(const AttentionResult& without, const Heads& heads);

/// Writes the gradient of the sinks, where one is wanted, from that of the output.
/// Shapes: gradient [T, query_columns]; `result` is that with sinks.
void write_sink_gradients(const at::Tensor& gradient, const AttentionResult& result,
                          const Heads& heads);

}  // namespace temper

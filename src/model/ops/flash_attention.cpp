// SPDX-License-Identifier: Apache-2.0
#include "model/ops/flash_attention.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "model/on_device.h"
#include "model/ops/attention_sinks.h"
#include "model/ops/attention_task.h"
#include "model/ops/backward.h"

namespace temper {
namespace {

// Backward passes of LibTorch add up by atomics unless they are asked not to.
class InFixedOrder {
 public:
  InFixedOrder()
      : was_deterministic_(at::globalContext().deterministicAlgorithms()),
        was_warning_(at::globalContext().deterministicAlgorithmsWarnOnly()) {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  }
  InFixedOrder(const InFixedOrder&) = delete;
  InFixedOrder& operator=(const InFixedOrder&) = delete;
  ~InFixedOrder() {
    at::globalContext().setDeterministicAlgorithms(was_deterministic_, was_warning_);
  }

 private:
  bool was_deterministic_, was_warning_;
};

// Where documents begin, as the kernels read it. All layers of a batch ask for the same one.
at::Tensor begins_on_device(const std::vector<int64_t>& begins, at::Device device) {
  thread_local std::vector<int64_t> known;
  thread_local at::Tensor tensor;  // [num_documents + 1] int32
  if (!tensor.defined() || tensor.device() != device || known != begins) {
    tensor = on_device(begins, device).to(at::kInt);
    known = begins;
  }
  return tensor;
}

struct Call {
  Heads heads;
  at::Tensor begins;
  int64_t longest;
  std::optional<int64_t> tokens_before;  // That a query sees, beside itself; all without.

  // [T, heads, head_dim], a view.
  at::Tensor part(const at::Tensor& qkv, int64_t first_column, int64_t num_heads) const {
    return qkv.narrow(1, first_column, num_heads * heads.head_dim)
        .unflatten(1, {num_heads, heads.head_dim});
  }
  at::Tensor queries(const at::Tensor& qkv) const { return part(qkv, 0, heads.num_heads); }
  at::Tensor keys(const at::Tensor& qkv) const {
    return part(qkv, heads.first_key_column(), heads.num_key_value_heads);
  }
  at::Tensor values(const at::Tensor& qkv) const {
    return part(qkv, heads.first_value_column(), heads.num_key_value_heads);
  }
  double scale() const { return static_cast<double>(heads.score_scale()); }
};

// What the kernel leaves for its backward pass.
struct Kept {
  at::Tensor output, log_sums, random_state, unused;
};

Kept forward(const at::Tensor& qkv, const Call& call) {
  auto [output, log_sums, random_state, unused, mask] = at::_flash_attention_forward(
      call.queries(qkv), call.keys(qkv), call.values(qkv), call.begins, call.begins, call.longest,
      call.longest, /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false,
      call.scale(), call.tokens_before, /*window_size_right=*/0);
  if (!call.heads.sinks.is_defined()) return {output, log_sums, random_state, unused};
  const AttentionResult whole = with_sinks({output.flatten(1), log_sums}, call.heads);
  return {whole.output.view_as(output), whole.log_sums, random_state, unused};
}

at::Tensor backward(const at::Tensor& gradient, const at::Tensor& qkv, const Kept& kept,
                    const Call& call) {
  const InFixedOrder in_fixed_order;
  const auto [queries, keys, values] = at::_flash_attention_backward(
      gradient.unflatten(1, {call.heads.num_heads, call.heads.head_dim}), call.queries(qkv),
      call.keys(qkv), call.values(qkv), kept.output, kept.log_sums, call.begins, call.begins,
      call.longest, call.longest, /*dropout_p=*/0.0, /*is_causal=*/true, kept.random_state,
      kept.unused, call.scale(), call.tokens_before, /*window_size_right=*/0);
  return at::cat({queries.flatten(1), keys.flatten(1), values.flatten(1)}, 1);
}

}  // namespace

bool has_flash_attention(const at::Tensor& qkv, const Heads& heads) {
  static const c10::OperatorHandle op =
      c10::Dispatcher::singleton().findSchemaOrThrow("aten::_flash_attention_forward", "");
  const c10::DispatchKey key =
      c10::computeDispatchKey(qkv.scalar_type(), at::kStrided, qkv.device());
  return qkv.scalar_type() == at::kBFloat16 && heads.softcap == 0.0 && heads.head_dim % 8 == 0 &&
         heads.head_dim <= 256 && op.hasKernelForDispatchKey(key);
}

at::Tensor flash_attention(const at::Tensor& qkv, const Heads& heads, const AttentionMask& mask) {
  const std::vector<int64_t>& begins = mask.document_begins;
  Call call{heads, begins_on_device(begins, qkv.device()), 0, std::nullopt};
  for (size_t i = 0; i + 1 < begins.size(); ++i) {
    call.longest = std::max(call.longest, begins[i + 1] - begins[i]);
  }
  if (mask.window > 0) call.tokens_before = mask.window - 1;
  const Kept kept = without_graph([&] { return forward(qkv, call); });
  return with_backward(
      kept.output.flatten(1), {qkv},
      [qkv = qkv.detach(), kept, call](const at::Tensor& gradient) -> std::vector<at::Tensor> {
        const at::Tensor given = gradient.contiguous();
        write_sink_gradients(given, {kept.output.flatten(1), kept.log_sums}, call.heads);
        return {backward(given, qkv, kept, call)};
      });
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
// LibTorch's fused attention on the simulated device: with what CUDA's demands of its arguments, by
// the formulas of its source (Dao, "FlashAttention-2", 2023).
#include <ATen/ATen.h>
#include <torch/library.h>

#include <cmath>
#include <functional>

#include "support/simulated_device/device_counts.h"
#include "support/simulated_device/host_views.h"

namespace temper::testing {
namespace {

// The arguments that both operators have, as tensors of the host.
struct Problem {
  at::Tensor queries, keys, values;  // [T, heads, head_dim] bf16
  at::Tensor begins;                 // [num_documents + 1] int32
  int64_t longest;
  double scale;
  int64_t window_left;  // -1: none.

  int64_t group() const { return queries.size(1) / keys.size(1); }

  void require_what_cuda_demands() const {
    for (const at::Tensor* tensor : {&queries, &keys, &values}) {
      TORCH_CHECK(tensor->scalar_type() == at::kBFloat16 && tensor->stride(2) == 1);
      TORCH_CHECK(tensor->size(2) % 8 == 0 && tensor->size(2) <= 256);
    }
    TORCH_CHECK(begins.scalar_type() == at::kInt && begins.is_contiguous());
    TORCH_CHECK(begins[-1].item<int64_t>() == queries.size(0));
    TORCH_CHECK(begins.diff().max().item<int64_t>() <= longest);
  }

  // [heads, n, head_dim] fp32 of one document, keys and values repeated for their queries.
  at::Tensor by_head(const at::Tensor& all, int64_t begin, int64_t size) const {
    const at::Tensor own = all.narrow(0, begin, size).to(at::kFloat);
    const int64_t times = queries.size(1) / own.size(1);
    return own.repeat_interleave(times, 1).transpose(0, 1).contiguous();
  }

  // Scaled scores [heads, n, n], those that are not seen -infinity.
  at::Tensor scores(int64_t begin, int64_t size) const {
    const at::Tensor products =
        by_head(queries, begin, size).bmm(by_head(keys, begin, size).transpose(1, 2)).mul(scale);
    const at::Tensor places = at::arange(size);
    const at::Tensor distance = places.unsqueeze(1) - places;
    at::Tensor is_hidden = distance < 0;
    if (window_left >= 0) is_hidden = is_hidden.logical_or(distance > window_left);
    return products.masked_fill(is_hidden, -INFINITY);
  }

  void for_each_document(const std::function<void(int64_t begin, int64_t size)>& visit) const {
    for (int64_t i = 0; i + 1 < begins.numel(); ++i) {
      const auto begin = begins[i].item<int64_t>(), end = begins[i + 1].item<int64_t>();
      if (end > begin) visit(begin, end - begin);
    }
  }
};

class Arguments {
 public:
  Arguments(const c10::OperatorHandle& op, c10::Stack& stack)
      : op_(op), given_(torch::jit::pop(stack, op.schema().arguments().size())) {
    count_launch(op.schema().name());
  }

  const c10::IValue& get(const char* name) const {
    return given_[static_cast<size_t>(op_.schema().argumentIndexWithName(name).value())];
  }
  at::Tensor tensor(const char* name) {
    const at::Tensor on_device = get(name).toTensor();
    TORCH_CHECK(is_simulated(on_device), name, " must lie on the device");
    return views_.of(on_device);
  }
  at::Tensor to_device(const at::Tensor& result) const { return views_.to_device(result); }

  Problem problem() {
    Problem problem{tensor("query"),
                    tensor("key"),
                    tensor("value"),
                    tensor("cum_seq_q"),
                    get("max_q").toInt(),
                    get("scale").toDouble(),
                    get("window_size_left").toOptional<int64_t>().value_or(-1)};
    TORCH_CHECK(get("is_causal").toBool() && get("dropout_p").toDouble() == 0.0);
    problem.require_what_cuda_demands();
    return problem;
  }

 private:
  const c10::OperatorHandle& op_;
  c10::Stack given_;
  HostViews views_;
};

void forward(const c10::OperatorHandle& op, c10::Stack* stack) {
  Arguments arguments(op, *stack);
  const Problem problem = arguments.problem();
  const at::Tensor output = at::empty(problem.queries.sizes(), problem.queries.options());
  const at::Tensor log_sums =
      at::empty({problem.queries.size(1), problem.queries.size(0)}, at::kFloat);
  problem.for_each_document([&](int64_t begin, int64_t size) {
    const at::Tensor scores = problem.scores(begin, size);
    const at::Tensor values = problem.by_head(problem.values, begin, size);
    output.narrow(0, begin, size).copy_(at::softmax(scores, 2).bmm(values).transpose(0, 1));
    log_sums.narrow(1, begin, size).copy_(at::logsumexp(scores, 2));
  });
  const at::Tensor none = at::zeros({2}, at::kLong);
  for (const at::Tensor& result : {output, log_sums, none, none, none}) {
    torch::jit::push(*stack, arguments.to_device(result.clone()));
  }
}

// What the query heads of a head of keys add up to. Shapes: [heads, n, head_dim] to [n, ...].
at::Tensor summed(const at::Tensor& of_heads, int64_t group) {
  return of_heads.unflatten(0, {-1, group}).sum(1).transpose(0, 1);
}

void backward(const c10::OperatorHandle& op, c10::Stack* stack) {
  TORCH_CHECK(at::globalContext().deterministicAlgorithms(), "it would add up by atomics");
  Arguments arguments(op, *stack);
  const Problem problem = arguments.problem();
  const at::Tensor gradient = arguments.tensor("grad_out"), output = arguments.tensor("out");
  const at::Tensor log_sums = arguments.tensor("logsumexp");
  const at::Tensor to_queries = at::empty(problem.queries.sizes(), problem.queries.options());
  const at::Tensor to_keys = at::empty(problem.keys.sizes(), problem.keys.options());
  const at::Tensor to_values = at::empty_like(to_keys);
  problem.for_each_document([&](int64_t begin, int64_t size) {
    const auto own = [&](const at::Tensor& all) { return problem.by_head(all, begin, size); };
    const at::Tensor p =
        at::exp(problem.scores(begin, size) - log_sums.narrow(1, begin, size).unsqueeze(2));
    const at::Tensor upper = own(gradient);
    const at::Tensor sums = upper.mul(own(output)).sum(2, /*keepdim=*/true);
    const at::Tensor to_scores =
        p.mul(upper.bmm(own(problem.values).transpose(1, 2)) - sums).mul(problem.scale);
    to_queries.narrow(0, begin, size).copy_(to_scores.bmm(own(problem.keys)).transpose(0, 1));
    to_keys.narrow(0, begin, size)
        .copy_(summed(to_scores.transpose(1, 2).bmm(own(problem.queries)), problem.group()));
    to_values.narrow(0, begin, size).copy_(summed(p.transpose(1, 2).bmm(upper), problem.group()));
  });
  for (const at::Tensor& result : {to_queries, to_keys, to_values}) {
    torch::jit::push(*stack, arguments.to_device(result));
  }
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("_flash_attention_forward", torch::CppFunction::makeFromBoxedFunction<&forward>());
  library.impl("_flash_attention_backward", torch::CppFunction::makeFromBoxedFunction<&backward>());
}

}  // namespace temper::testing

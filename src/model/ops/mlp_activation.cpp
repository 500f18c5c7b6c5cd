// SPDX-License-Identifier: Apache-2.0
#include "model/ops/mlp_activation.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "model/ops/activation_formula.h"
#include "model/ops/backward.h"
#include "model/ops/kernel_call.h"
#include "model/ops/mlp_activation_kernel.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

// Rows of an MLP without a gate are those with one whose `up` is 1 and has no gradient.
struct MlpRow {
  const float* values;  // [2 size], gate first, or [size].
  int64_t size;
  bool is_gated;
};

// A row of gates and ups by turns as one with gates first, bounded. Shapes: both [2 size].
void put_apart(const float* row, int64_t size, float bound, float* out) {
  for (int64_t i = 0; i < size; ++i) {
    out[i] = std::min(row[2 * i], bound);
    out[size + i] = std::clamp(row[2 * i + 1], -bound, bound) + 1.0F;
  }
}

// From the gradient of such a row to that of `row`, which has none beyond the bounds.
void put_together(const float* apart, const float* row, int64_t size, float bound, float* out) {
  for (int64_t i = 0; i < size; ++i) {
    out[2 * i] = row[2 * i] <= bound ? apart[i] : 0.0F;
    out[2 * i + 1] = std::abs(row[2 * i + 1]) <= bound ? apart[size + i] : 0.0F;
  }
}

template <typename Formula>
void forward_row(const MlpRow& row, float* out) {
  for_each_vector(row.size, [&](int64_t i, int count) {
    const Vector value = Formula::value(Vector::loadu(row.values + i, count));
    const float* up = row.values + row.size + i;
    (row.is_gated ? value * Vector::loadu(up, count) : value).store(out + i, count);
  });
}

template <typename Formula>
void backward_row(const MlpRow& row, const float* gradient, float* out) {
  for_each_vector(row.size, [&](int64_t i, int count) {
    const auto both = Formula::both(Vector::loadu(row.values + i, count));
    const Vector d = Vector::loadu(gradient + i, count);
    if (!row.is_gated) return (d * both.slope).store(out + i, count);
    const Vector up = Vector::loadu(row.values + row.size + i, count);
    (d * up * both.slope).store(out + i, count);
    (d * both.value).store(out + row.size + i, count);
  });
}

// Calls function(T{}, Formula{}).
template <typename Function>
void dispatch(const at::Tensor& x, MlpActivation activation, Function function) {
  dispatch_dtype(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    dispatch_formula<T>(activation.function, [&](auto formula) { function(zero, formula); });
  });
}

at::Tensor forward_on_cpu(const at::Tensor& x, MlpActivation activation) {
  const int64_t num_rows = x.size(0), width = x.size(1);
  const int64_t size = activation.is_gated ? width / 2 : width;
  const auto bound = static_cast<float>(activation.bound);
  at::Tensor out = at::empty({num_rows, size}, x.options());
  dispatch(x, activation, [&](auto zero, auto formula) {
    using T = decltype(zero);
    const T* from = x.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(2 * width + size);
      for (int64_t row = begin; row < end; ++row) {
        const float* values = read_row(from + row * width, scratch.data(), width);
        float* result = row_buffer(to + row * size, scratch.data() + width);
        if (bound > 0.0F) {
          float* apart = scratch.data() + width + size;
          put_apart(values, size, bound, apart);
          values = apart;
        }
        forward_row<decltype(formula)>({values, size, activation.is_gated}, result);
        write_row(to + row * size, result, size);
      }
    });
  });
  return out;
}

at::Tensor backward_on_cpu(const at::Tensor& x, MlpActivation activation,
                           const at::Tensor& gradient) {
  const int64_t num_rows = x.size(0), width = x.size(1), size = gradient.size(1);
  const auto bound = static_cast<float>(activation.bound);
  at::Tensor out = at::empty_like(x);
  dispatch(x, activation, [&](auto zero, auto formula) {
    using T = decltype(zero);
    const T* from = x.const_data_ptr<T>();
    const T* upper = gradient.const_data_ptr<T>();
    T* to = out.mutable_data_ptr<T>();
    at::parallel_for(0, num_rows, 1, [&](int64_t begin, int64_t end) {
      RowScratch scratch(4 * width + size);
      for (int64_t row = begin; row < end; ++row) {
        const float* values = read_row(from + row * width, scratch.data(), width);
        const float* d = read_row(upper + row * size, scratch.data() + width, size);
        float* result = row_buffer(to + row * width, scratch.data() + width + size);
        if (bound > 0.0F) {
          float* apart = scratch.data() + 2 * width + size;
          put_apart(values, size, bound, apart);
          backward_row<decltype(formula)>({apart, size, true}, d, apart + width);
          put_together(apart + width, values, size, bound, result);
        } else {
          backward_row<decltype(formula)>({values, size, activation.is_gated}, d, result);
        }
        write_row(to + row * width, result, width);
      }
    });
  });
  return out;
}

// Whether a device has kernels of ours for it.
bool has_kernel(MlpActivation activation) {
  using enum ActivationFunction;
  const bool is_known = activation.function == kSwish || activation.function == kGeluNew;
  return kHasKernels && activation.is_gated && activation.bound == 0.0 && is_known;
}

GateFormula formula_of(MlpActivation activation) {
  const bool is_swish = activation.function == ActivationFunction::kSwish;
  return {is_swish ? GateFormula::Kind::kSwish : GateFormula::Kind::kGeluNew};
}

template <typename Kernel>
decltype(Kernel::rows) chunks_of(const at::Tensor& x) {
  return {static_cast<uint32_t>(x.size(0)), static_cast<uint32_t>(x.size(1) / 2)};
}

[[maybe_unused]] at::Tensor forward_by_kernel(const at::Tensor& x, MlpActivation activation) {
  const at::Tensor out = at::empty({x.size(0), x.size(1) / 2}, x.options());
  dispatch_kernel(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    using Kernel = MlpActivationKernel<T>;
    launch_beside(
        x, Kernel{source_of<T>(x), place_of<T>(out), chunks_of<Kernel>(x), formula_of(activation)});
  });
  return out;
}

[[maybe_unused]] at::Tensor backward_by_kernel(const at::Tensor& x, MlpActivation activation,
                                               const at::Tensor& gradient) {
  const at::Tensor out = at::empty_like(x);
  dispatch_kernel(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    using Kernel = MlpActivationBackwardKernel<T>;
    launch_beside(x, Kernel{source_of<T>(x), source_of<T>(gradient), place_of<T>(out),
                            chunks_of<Kernel>(x), formula_of(activation)});
  });
  return out;
}

at::Tensor forward(const at::Tensor& x, MlpActivation activation) {
  if constexpr (kHasKernels) {
    if (!x.is_cpu()) return forward_by_kernel(x, activation);
  }
  return forward_on_cpu(x, activation);
}

at::Tensor backward(const at::Tensor& x, MlpActivation activation, const at::Tensor& gradient) {
  if constexpr (kHasKernels) {
    if (!x.is_cpu()) return backward_by_kernel(x, activation, gradient);
  }
  return backward_on_cpu(x, activation, gradient);
}

// By differentiable ATen operations.
at::Tensor elsewhere(const at::Tensor& x, MlpActivation activation) {
  if (!activation.is_gated) return activate(activation.function, x);
  if (activation.bound > 0.0) {
    const at::Tensor gate = x.slice(1, 0, std::nullopt, 2).clamp_max(activation.bound);
    const at::Tensor up = x.slice(1, 1, std::nullopt, 2).clamp(-activation.bound, activation.bound);
    return activate(activation.function, gate) * (up + 1.0);
  }
  const auto halves = x.chunk(2, 1);
  return activate(activation.function, halves[0]) * halves[1];
}

}  // namespace

at::Tensor activate_mlp(const at::Tensor& x, MlpActivation activation) {
  if (!x.is_cpu() && !has_kernel(activation)) return elsewhere(x, activation);
  return with_backward(forward(x, activation), {x},
                       [x, activation](const at::Tensor& gradient) -> std::vector<at::Tensor> {
                         return {backward(x, activation, gradient.contiguous())};
                       });
}

at::Tensor activate_mlp_backward(const at::Tensor& x, MlpActivation activation,
                                 const at::Tensor& gradient) {
  if (x.is_cpu() || has_kernel(activation)) {
    return backward(x, activation, gradient.contiguous());
  }
  return GraphPass(x, [&](const at::Tensor& input) { return elsewhere(input, activation); })
      .backward(gradient);
}

}  // namespace temper

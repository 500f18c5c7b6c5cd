// SPDX-License-Identifier: Apache-2.0
#include "model/ops/activation_function.h"

#include <ATen/ATen.h>

#include <stdexcept>

#include "model/ops/activation_formula.h"
#include "model/ops/rows.h"

namespace temper {
namespace {

using enum ActivationFunction;

constexpr float kQuickSlope = 1.702F;  // Of the sigmoid in quick_gelu.

// Calls row(first element, elements) for each row: where vectors end must not depend on threads.
template <typename Function>
void for_each_row(const at::Tensor& x, Function row) {
  const int64_t size = x.size(1);
  at::parallel_for(0, x.size(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) row(i * size, size);
  });
}

at::Tensor activate_on_cpu(ActivationFunction function, const at::Tensor& x) {
  at::Tensor out = at::empty_like(x);
  const float* from = x.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  dispatch_formula<float>(function, [&](auto formula) {
    for_each_row(x, [&](int64_t first, int64_t size) {
      for_each_vector(size, [&](int64_t i, int count) {
        formula.value(Vector::loadu(from + first + i, count)).store(to + first + i, count);
      });
    });
  });
  return out;
}

at::Tensor backward_on_cpu(ActivationFunction function, const at::Tensor& x,
                           const at::Tensor& gradient) {
  at::Tensor out = at::empty_like(x);
  const float* from = x.const_data_ptr<float>();
  const float* upper = gradient.const_data_ptr<float>();
  float* to = out.mutable_data_ptr<float>();
  dispatch_formula<float>(function, [&](auto formula) {
    for_each_row(x, [&](int64_t first, int64_t size) {
      for_each_vector(size, [&](int64_t i, int count) {
        const Vector slope = formula.both(Vector::loadu(from + first + i, count)).slope;
        (slope * Vector::loadu(upper + first + i, count)).store(to + first + i, count);
      });
    });
  });
  return out;
}

}  // namespace

const char* name_of(ActivationFunction function) {
  switch (function) {
    case kRelu: return "relu";
    case kSquaredRelu: return "relu2";
    case kSwish: return "swish";
    case kGelu: return "gelu";
    case kGeluNew: return "gelu_new";
    case kQuickGelu: return "quick_gelu";
  }
  throw std::logic_error("an activation function without a name");
}

at::Tensor activate(ActivationFunction function, const at::Tensor& x) {
  if (x.is_cpu()) return activate_on_cpu(function, x.contiguous());
  switch (function) {
    case kRelu: return at::relu(x);
    case kSquaredRelu: return at::relu(x).square();
    case kSwish: return at::silu(x);
    case kGelu: return at::gelu(x);
    case kGeluNew: return at::gelu(x, "tanh");
    case kQuickGelu: return x * at::sigmoid(kQuickSlope * x);
  }
  throw std::logic_error("an activation function that is not computed");
}

at::Tensor activate_backward(ActivationFunction function, const at::Tensor& x,
                             const at::Tensor& gradient) {
  if (x.is_cpu()) return backward_on_cpu(function, x.contiguous(), gradient.contiguous());
  switch (function) {
    case kRelu: return at::threshold_backward(gradient, x, 0.0);
    case kSquaredRelu: return gradient * (2.0 * at::relu(x));
    case kSwish: return at::silu_backward(gradient, x);
    case kGelu: return at::gelu_backward(gradient, x);
    case kGeluNew: return at::gelu_backward(gradient, x, "tanh");
    case kQuickGelu: return at::silu_backward(gradient, kQuickSlope * x);
  }
  throw std::logic_error("an activation function that is not computed");
}

}  // namespace temper

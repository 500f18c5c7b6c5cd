// SPDX-License-Identifier: Apache-2.0
#include "model/ops/activation_function.h"

#include <ATen/ATen.h>

#include <numbers>
#include <stdexcept>

#include "model/ops/rows.h"

namespace temper {
namespace {

using enum ActivationFunction;

constexpr float kQuickSlope = 1.702F;  // Of the sigmoid in quick_gelu.

// Each function's value, and its derivative, called slope.

struct Relu {
  static Vector value(Vector x) { return at::vec::clamp_min(x, Vector(0.0F)); }
  static Vector slope(Vector x) {
    return Vector::blendv(Vector(0.0F), Vector(1.0F), x > Vector(0.0F));
  }
};

// With s = sigmoid(a x): d (x s) / d x = s (1 + a x (1 - s)).
template <bool kIsQuick>
struct Sigmoidal {
  static Vector scaled(Vector x) { return kIsQuick ? x * Vector(kQuickSlope) : x; }
  static Vector value(Vector x) { return x * sigmoid<float>(scaled(x)); }
  static Vector slope(Vector x) {
    const Vector s = sigmoid<float>(scaled(x)), one(1.0F);
    return s * (one + scaled(x) * (one - s));
  }
};

struct Gelu {
  static Vector integral(Vector x) {
    constexpr float kInverseRoot = static_cast<float>(1.0 / std::numbers::sqrt2);
    return Vector(0.5F) * (Vector(1.0F) + (x * Vector(kInverseRoot)).erf());
  }
  static Vector value(Vector x) { return x * integral(x); }
  static Vector slope(Vector x) {
    constexpr float kPeak =
        static_cast<float>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);  // Of the density.
    return integral(x) + x * Vector(kPeak) * (Vector(-0.5F) * x * x).exp();
  }
};

// (1 + tanh(u)) / 2 is sigmoid(2 u), here with 2 u = a (x + b x^3).
struct GeluNew {
  static constexpr float kA =
      static_cast<float>(2.0 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
  static constexpr float kB = 0.044715F;

  static Vector integral(Vector x) {
    return sigmoid<float>(Vector(kA) * (x + Vector(kB) * x * x * x));
  }
  static Vector value(Vector x) { return x * integral(x); }
  static Vector slope(Vector x) {
    const Vector s = integral(x), one(1.0F);
    const Vector inner = Vector(kA) * (one + Vector(3.0F * kB) * x * x);
    return s * (one + x * inner * (one - s));
  }
};

// Calls function(Formula{}).
template <typename Function>
void dispatch(ActivationFunction activation, Function function) {
  switch (activation) {
    case kRelu: return function(Relu{});
    case kSwish: return function(Sigmoidal<false>{});
    case kGelu: return function(Gelu{});
    case kGeluNew: return function(GeluNew{});
    case kQuickGelu: return function(Sigmoidal<true>{});
  }
}

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
  dispatch(function, [&](auto formula) {
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
  dispatch(function, [&](auto formula) {
    for_each_row(x, [&](int64_t first, int64_t size) {
      for_each_vector(size, [&](int64_t i, int count) {
        const Vector slope = formula.slope(Vector::loadu(from + first + i, count));
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
    case kSwish: return at::silu_backward(gradient, x);
    case kGelu: return at::gelu_backward(gradient, x);
    case kGeluNew: return at::gelu_backward(gradient, x, "tanh");
    case kQuickGelu: return at::silu_backward(gradient, kQuickSlope * x);
  }
  throw std::logic_error("an activation function that is not computed");
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <numbers>

#include "model/ops/activation_function.h"
#include "model/ops/rows.h"

namespace temper {

// Each function's value, and its derivative, called slope, good enough for a result in T.

struct ValueAndSlope {
  Vector value, slope;
};

struct ReluFormula {
  static Vector value(Vector x) { return at::vec::clamp_min(x, Vector(0.0F)); }
  static ValueAndSlope both(Vector x) {
    return {value(x), Vector::blendv(Vector(0.0F), Vector(1.0F), x > Vector(0.0F))};
  }
};

struct SquaredReluFormula {
  static Vector value(Vector x) {
    const Vector positive = ReluFormula::value(x);
    return positive * positive;
  }
  static ValueAndSlope both(Vector x) {
    const Vector positive = ReluFormula::value(x);
    return {positive * positive, Vector(2.0F) * positive};
  }
};

/// With s = sigmoid(a x): d (x s) / d x = s (1 + a x (1 - s)).
template <typename T, bool kIsQuick>
struct SigmoidalFormula {
  static constexpr float kQuickSlope = 1.702F;  // Of the sigmoid in quick_gelu.

  static Vector scaled(Vector x) { return kIsQuick ? x * Vector(kQuickSlope) : x; }
  static Vector value(Vector x) { return x * sigmoid<T>(scaled(x)); }
  static ValueAndSlope both(Vector x) {
    const Vector s = sigmoid<T>(scaled(x)), one(1.0F);
    return {x * s, s * (one + scaled(x) * (one - s))};
  }
};

struct GeluFormula {
  static Vector integral(Vector x) {
    constexpr float kInverseRoot = static_cast<float>(1.0 / std::numbers::sqrt2);
    return Vector(0.5F) * (Vector(1.0F) + (x * Vector(kInverseRoot)).erf());
  }
  static Vector value(Vector x) { return x * integral(x); }
  static ValueAndSlope both(Vector x) {
    constexpr float kPeak =
        static_cast<float>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);  // Of the density.
    const Vector part = integral(x);
    return {x * part, part + x * Vector(kPeak) * (Vector(-0.5F) * x * x).exp()};
  }
};

/// (1 + tanh(u)) / 2 is sigmoid(2 u), here with 2 u = a (x + b x^3).
template <typename T>
struct GeluNewFormula {
  static constexpr float kA =
      static_cast<float>(2.0 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
  static constexpr float kB = 0.044715F;

  static Vector integral(Vector x) { return sigmoid<T>(Vector(kA) * (x + Vector(kB) * x * x * x)); }
  static Vector value(Vector x) { return x * integral(x); }
  static ValueAndSlope both(Vector x) {
    const Vector s = integral(x), one(1.0F);
    const Vector inner = Vector(kA) * (one + Vector(3.0F * kB) * x * x);
    return {x * s, s * (one + x * inner * (one - s))};
  }
};

/// Calls function(Formula{}).
template <typename T, typename Function>
void dispatch_formula(ActivationFunction activation, Function function) {
  using enum ActivationFunction;
  switch (activation) {
    case kRelu: return function(ReluFormula{});
    case kSquaredRelu: return function(SquaredReluFormula{});
    case kSwish: return function(SigmoidalFormula<T, false>{});
    case kGelu: return function(GeluFormula{});
    case kGeluNew: return function(GeluNewFormula<T>{});
    case kQuickGelu: return function(SigmoidalFormula<T, true>{});
  }
}

}  // namespace temper

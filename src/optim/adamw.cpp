// SPDX-License-Identifier: Apache-2.0
// Compiled without contraction into fused multiply-adds and without errno for sqrt: see
// CMakeLists.txt.
#include "optim/adamw.h"

#include <ATen/Parallel.h>
#include <ATen/ops/sqrt.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace temper {
namespace {

// So many elements (fp32, four streams) are worth a thread: 512 KiB.
constexpr int64_t kGrain = 32768;

// The step as torch.optim.AdamW writes it, computed in double and used in fp32.
template <typename Number>
struct Coefficients {
  Coefficients(const AdamWOptions& options, const AdamWStep& step)
      : gradient_scale(static_cast<Number>(step.gradient_scale)),
        kept(static_cast<Number>(1.0 - step.learning_rate * step.weight_decay)),
        first_share(static_cast<Number>(1.0 - options.beta1)),
        beta2(static_cast<Number>(options.beta2)),
        second_share(static_cast<Number>(1.0 - options.beta2)),
        correction2_root(static_cast<Number>(
            std::sqrt(1.0 - std::pow(options.beta2, static_cast<double>(step.step))))),
        epsilon(static_cast<Number>(options.epsilon)),
        step_size(static_cast<Number>(
            step.learning_rate / (1.0 - std::pow(options.beta1, static_cast<double>(step.step))))) {
  }

  Number gradient_scale;
  Number kept;  // What weight decay leaves of a parameter.
  Number first_share;
  Number beta2;
  Number second_share;
  Number correction2_root;
  Number epsilon;
  Number step_size;
};

// The update of a range of elements, which overlap nowhere.
struct Update {
  Coefficients<float> c;
  AdamWArrays arrays;

  void operator()(int64_t begin, int64_t end) const {
    if (arrays.rounded == nullptr) return update(begin, end);
    for (int64_t first = begin; first < end; first += kPiece) {
      const int64_t last = std::min(first + kPiece, end);
      update(first, last);
      round(first, last);
    }
  }

 private:
  static constexpr int64_t kPiece = 1024;  // Elements that are still in the nearest cache.

  void update(int64_t begin, int64_t end) const {
    float* const __restrict p = arrays.parameters;
    const float* const __restrict g = arrays.gradients;
    float* const __restrict m = arrays.first_moment;
    float* const __restrict v = arrays.second_moment;
    for (int64_t k = begin; k < end; ++k) {
      const float gradient = g[k] * c.gradient_scale;
      const float first = m[k] + c.first_share * (gradient - m[k]);
      const float second = v[k] * c.beta2 + c.second_share * gradient * gradient;
      const float denominator = std::sqrt(second) / c.correction2_root + c.epsilon;
      m[k] = first;
      v[k] = second;
      p[k] = p[k] * c.kept - c.step_size * first / denominator;
    }
  }

  void round(int64_t begin, int64_t end) const {
    const float* const __restrict p = arrays.parameters;
    at::BFloat16* const __restrict rounded = arrays.rounded;
    for (int64_t k = begin; k < end; ++k) {
      rounded[k].x = c10::detail::round_to_nearest_even(p[k]);
    }
  }
};

void require_alike(const AdamWTensors& tensors) {
  const at::Tensor& parameters = tensors.parameters;
  for (const at::Tensor* tensor :
       {&parameters, &tensors.gradients, &tensors.first_moment, &tensors.second_moment}) {
    if (!tensor->is_contiguous() || tensor->scalar_type() != at::kFloat) {
      throw std::invalid_argument("adamw_update wants contiguous fp32 tensors");
    }
    if (tensor->numel() != parameters.numel() || tensor->device() != parameters.device()) {
      throw std::invalid_argument("adamw_update wants tensors of one size on one device");
    }
  }
  const at::Tensor& rounded = tensors.rounded;
  if (!rounded.defined()) return;
  if (!rounded.is_contiguous() || rounded.scalar_type() != at::kBFloat16 ||
      rounded.numel() != parameters.numel() || rounded.device() != parameters.device()) {
    throw std::invalid_argument("adamw_update rounds to a contiguous bf16 tensor of that size");
  }
}

}  // namespace

void adamw_update(const AdamWTensors& tensors, const AdamWOptions& options, const AdamWStep& step) {
  require_alike(tensors);
  if (!tensors.parameters.is_cpu()) {
    adamw_update_by_operators(tensors, options, step);
    return;
  }
  const Update update{
      Coefficients<float>(options, step),
      {tensors.parameters.mutable_data_ptr<float>(), tensors.gradients.const_data_ptr<float>(),
       tensors.first_moment.mutable_data_ptr<float>(),
       tensors.second_moment.mutable_data_ptr<float>(),
       tensors.rounded.defined() ? tensors.rounded.mutable_data_ptr<at::BFloat16>() : nullptr}};
  at::parallel_for(0, tensors.parameters.numel(), kGrain, update);
}

void adamw_update(const AdamWArrays& arrays, int64_t n, const AdamWOptions& options,
                  const AdamWStep& step) {
  Update{Coefficients<float>(options, step), arrays}(0, n);
}

void adamw_update_by_operators(const AdamWTensors& tensors, const AdamWOptions& options,
                               const AdamWStep& step) {
  const Coefficients<double> c(options, step);
  const auto& [parameters, gradients, first_moment, second_moment, rounded] = tensors;
  const at::Tensor gradient = gradients.mul(c.gradient_scale);
  parameters.mul_(c.kept);
  first_moment.lerp_(gradient, c.first_share);
  second_moment.mul_(c.beta2).addcmul_(gradient, gradient, c.second_share);
  const at::Tensor denominator = at::sqrt(second_moment).div_(c.correction2_root).add_(c.epsilon);
  parameters.addcdiv_(first_moment, denominator, -c.step_size);
  if (rounded.defined()) rounded.copy_(parameters);
}

}  // namespace temper

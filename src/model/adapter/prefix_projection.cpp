// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/prefix_projection.h"

#include <ATen/ATen.h>

#include <cmath>

#include "model/ops/column_sum.h"
#include "model/ops/product.h"

namespace temper {
namespace {

enum Slot { kEmbedding, kInWeight, kInBias, kOutWeight, kOutBias };

// As torch.nn.Linear begins.
InitialValues uniform(int64_t in) {
  return {InitialValues::Distribution::kUniform, 1.0 / std::sqrt(static_cast<double>(in))};
}

at::Tensor affine(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  at::Tensor y = bias.repeat({x.size(0), 1});
  product_out(y, x, weight.t(), {.keep = 1.0F});
  return y;
}

}  // namespace

struct PrefixProjection::Pass {
  at::Tensor hidden;  // [num_tokens, hidden], behind the tanh.
  at::Tensor values;  // [num_tokens, columns]
};

PrefixProjection::PrefixProjection(int64_t num_tokens, int64_t width, int64_t hidden,
                                   int64_t columns)
    : unit_("projection",
            {{.name = "prompt_encoder.embedding.weight", .shape = {num_tokens, width}},
             {.name = "prompt_encoder.transform.0.weight", .shape = {hidden, width}},
             {.name = "prompt_encoder.transform.0.bias", .shape = {hidden}, .decays = false},
             {.name = "prompt_encoder.transform.2.weight", .shape = {columns, hidden}},
             {.name = "prompt_encoder.transform.2.bias", .shape = {columns}, .decays = false}},
            UnitLayout::Use::kPrivate),
      initial_{{InitialValues::Distribution::kNormal, 1.0},
               uniform(width),
               uniform(width),
               uniform(hidden),
               uniform(hidden)} {}

at::Tensor PrefixProjection::part(const at::Tensor& flat, int slot) const {
  const TensorSlot& at_slot = unit_.slots()[static_cast<size_t>(slot)];
  return flat.narrow(0, at_slot.offset, at_slot.num_elements()).view(at_slot.shape);
}

PrefixProjection::Pass PrefixProjection::forward(const at::Tensor& flat) const {
  const at::Tensor embedding = part(flat, kEmbedding);
  const at::Tensor hidden = affine(embedding, part(flat, kInWeight), part(flat, kInBias)).tanh_();
  return {hidden, affine(hidden, part(flat, kOutWeight), part(flat, kOutBias))};
}

at::Tensor PrefixProjection::values(const at::Tensor& flat) const {
  return forward(flat).values.flatten();
}

at::Tensor PrefixProjection::backward(const at::Tensor& flat, const at::Tensor& gradient) const {
  const Pass pass = forward(flat);
  const at::Tensor upper = gradient.view(pass.values.sizes());
  const at::Tensor result = at::empty({unit_.num_elements()}, gradient.options());
  product_out(part(result, kOutWeight), upper.t(), pass.hidden);
  column_sum_out(part(result, kOutBias), upper);
  const at::Tensor slope = pass.hidden.square().neg_().add_(1.0);
  const at::Tensor inner = product(upper, part(flat, kOutWeight)).mul_(slope);
  product_out(part(result, kInWeight), inner.t(), part(flat, kEmbedding));
  column_sum_out(part(result, kInBias), inner);
  product_out(part(result, kEmbedding), inner, part(flat, kInWeight));
  return result;
}

}  // namespace temper

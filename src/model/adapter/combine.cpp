// SPDX-License-Identifier: Apache-2.0
#include "model/adapter/combine.h"

#include <ATen/ATen.h>

#include <stdexcept>

#include "core/random.h"

namespace temper {
namespace {

// The largest numbers; of equal ones those that topk happens to take, as in peft.
at::Tensor largest_kept(const at::Tensor& tensor, double density) {
  const auto count = static_cast<int64_t>(density * static_cast<double>(tensor.numel()));
  const at::Tensor flat = tensor.flatten();
  const at::Tensor places = std::get<1>(flat.abs().topk(count));
  const at::Tensor mask = at::zeros_like(flat).index_fill_(0, places, 1.0);
  return tensor * mask.view(tensor.sizes());
}

at::Tensor random_kept(const at::Tensor& tensor, double density, uint64_t key, uint64_t first) {
  at::Tensor mask = at::empty(tensor.sizes(), at::kFloat);
  float* const kept = mask.mutable_data_ptr<float>();
  for (int64_t i = 0; i < mask.numel(); ++i) {
    kept[i] = random_uniform(key, first + static_cast<uint64_t>(i)) < density ? 1.0F : 0.0F;
  }
  return mask.mul_(tensor).div_(density);
}

// [adapter, ...], with zeros where numbers are left out.
at::Tensor kept(const std::vector<at::Tensor>& tensors, const CombineOptions& options,
                std::string_view name) {
  if (!options.has_density() || options.density >= 1.0) return at::stack(tensors);
  const uint64_t key = random_key(options.seed, name);
  std::vector<at::Tensor> all;
  for (const at::Tensor& tensor : tensors) {
    const auto first = static_cast<uint64_t>(all.size()) * static_cast<uint64_t>(tensor.numel());
    all.push_back(options.is_random() ? random_kept(tensor, options.density, key, first)
                                      : largest_kept(tensor, options.density));
  }
  return at::stack(all);
}

// Where the sign is the majority's; a zero has none.
at::Tensor has_majority_sign(const at::Tensor& all, CombineOptions::Majority majority) {
  const at::Tensor signs = all.sign();
  const at::Tensor sums = (majority == CombineOptions::Majority::kTotal ? all : signs).sum(0);
  return signs.eq(at::where(sums.ge(0), 1.0, -1.0));
}

at::Tensor column(const std::vector<double>& weights, int64_t num_dims) {
  std::vector<int64_t> shape(static_cast<size_t>(num_dims), 1);
  shape[0] = std::ssize(weights);
  return at::tensor(weights, at::kDouble).to(at::kFloat).view(shape);
}

}  // namespace

std::string name_of(CombineOptions::Kind kind) {
  switch (kind) {
    case CombineOptions::Kind::kLinear: return "linear";
    case CombineOptions::Kind::kTies: return "ties";
    case CombineOptions::Kind::kDareLinear: return "dare_linear";
    case CombineOptions::Kind::kDareTies: return "dare_ties";
  }
  throw std::logic_error("a combination without a name");
}

at::Tensor combine(const std::vector<at::Tensor>& tensors, const std::vector<double>& weights,
                   const CombineOptions& options, std::string_view name) {
  if (tensors.empty() || tensors.size() != weights.size()) {
    throw std::invalid_argument("combine wants a weight for each of its tensors");
  }
  const at::Tensor all = kept(tensors, options, name);
  const at::Tensor weighted = all * column(weights, all.dim());
  if (!options.has_majority()) return weighted.sum(0);
  const at::Tensor chosen = has_majority_sign(all, options.majority);
  return (weighted * chosen).sum(0) / chosen.sum(0).clamp_min(1.0);
}

}  // namespace temper

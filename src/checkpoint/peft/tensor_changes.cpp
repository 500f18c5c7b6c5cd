// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/peft/tensor_changes.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "model/ops/low_rank.h"
#include "model/ops/product.h"

namespace temper {
namespace {

at::Tensor read(const AdapterFolder& adapter, const std::string& name) {
  return read_tensor(*adapter.weights().find(name));
}

at::Tensor add_lora(const AdapterFolder& adapter, const LoraModule& module, at::Tensor matrix) {
  const auto part = [&](const char* name) { return read(adapter, tensor_name(module, name)); };
  const at::Tensor change = product(part(kLoraUp), part(kLoraDown)).mul_(module.scale);
  matrix.add_(module.module.is_transposed ? change.t() : change);
  if (!adapter.options().lora.uses_dora) return matrix;
  const at::Tensor factors = part(kLoraMagnitude).div_(row_norms(matrix));
  return matrix.mul_(factors.unsqueeze(1));
}

at::Tensor put_saved(const AdapterFolder& adapter, const SavedTensor& tensor, at::Tensor before) {
  at::Tensor values = read(adapter, tensor.name());
  if (!tensor.is_rows) return values;
  const auto& tokens = adapter.options().lora.saved.tokens;
  return before.index_copy_(0, at::tensor(tokens, at::kLong), values);
}

}  // namespace

TensorChanges tensor_changes(const AdapterFolder& adapter, const ModelConfig& base) {
  const LoraOptions& options = adapter.options().lora;
  TensorChanges changes;
  for (const LoraModule& module : lora_modules(options, base)) {
    changes[module.matrix] = [&adapter, module](at::Tensor matrix) {
      return add_lora(adapter, module, std::move(matrix));
    };
  }
  for (const SavedTensor& tensor : saved_tensors(options.saved, base)) {
    changes[tensor.replaced] = [&adapter, tensor](at::Tensor before) {
      return put_saved(adapter, tensor, std::move(before));
    };
  }
  return changes;
}

TensorChanges tensor_changes(const CombinedAdapter& adapter) {
  TensorChanges changes;
  for (const LoraModule& module : adapter.modules()) {
    changes[module.matrix] = [&adapter, &module](at::Tensor matrix) {
      const at::Tensor change =
          product(adapter.tensor(module, kLoraUp), adapter.tensor(module, kLoraDown));
      return matrix.add_(module.module.is_transposed ? change.t() : change);
    };
  }
  return changes;
}

bool unties_head(const AdapterFolder& adapter, const ModelConfig& base) {
  using Place = SavedTensor::Place;
  const std::vector<SavedTensor> saved = saved_tensors(adapter.options().lora.saved, base);
  return base.has_tied_head && std::ranges::any_of(saved, [](const SavedTensor& tensor) {
           const bool is_end = tensor.place == Place::kEmbedding || tensor.place == Place::kHead;
           return is_end && !tensor.is_rows;
         });
}

}  // namespace temper

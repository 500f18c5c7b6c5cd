// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <string>

#include "checkpoint/peft/adapter_folder.h"
#include "checkpoint/peft/combined_adapter.h"

namespace temper {

/// What an adapter makes of its base's tensors: by name, from the values before to those after,
/// both fp32. The argument is overwritten. The adapter must outlive the functions, which read it.
using TensorChanges = std::map<std::string, std::function<at::Tensor(at::Tensor)>>;

/// W + scale * B A; with DoRA, each row of that scaled to its length; tensors that were trained as
/// they are; rows of tokens. An adapter that trains a tied head or embedding as a whole changes
/// "lm_head.weight" or the embedding alone: see `unties_head`.
TensorChanges tensor_changes(const AdapterFolder& adapter, const ModelConfig& base);

TensorChanges tensor_changes(const CombinedAdapter& adapter);

/// Whether a base whose head is tied has two matrices with this adapter.
bool unties_head(const AdapterFolder& adapter, const ModelConfig& base);

}  // namespace temper

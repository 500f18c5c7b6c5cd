// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "checkpoint/json_keys.h"
#include "model/family.h"
#include "model/model_config.h"

namespace temper {

/// Takes what a config.json says of experts, after the layers are counted: their number and width,
/// how they are chosen, which layers have them, and the loss that wants them chosen alike, which is
/// there under `output_router_logits` alone, as in transformers.
/// Source: transformers 5.24, configuration_{qwen2_moe,qwen3_moe,mixtral,olmoe,granitemoe}.py.
void read_experts(const JsonKeys& keys, const Family& family, ModelConfig& config);

}  // namespace temper

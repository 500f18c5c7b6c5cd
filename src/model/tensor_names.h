// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "model/family.h"
#include "model/model_config.h"

namespace temper {

/// By which names: those of tensors in a model's files, or those of transformers' modules, which
/// adapters of peft are named by. Most families have the same in both.
enum class NameKind { kFile, kModule };

/// "model.embed_tokens", "model.norm", "lm_head", and of a block "model.layers.0".
std::string embedding_name(const ModelConfig& config, NameKind kind = NameKind::kFile);
std::string final_norm_name(const ModelConfig& config, NameKind kind = NameKind::kFile);
std::string head_name(const ModelConfig& config, NameKind kind = NameKind::kFile);
std::string block_name(const ModelConfig& config, int64_t layer, NameKind kind = NameKind::kFile);

/// What goes before the number of a block: "model.layers.".
std::string blocks_prefix(const ModelConfig& config, NameKind kind = NameKind::kFile);

/// Of the positions that are learned; empty where there are none.
std::string positions_name(const ModelConfig& config);

/// The matrices outside the blocks; a tied head has no tensor of its own.
std::string embedding_weight(const ModelConfig& config);
std::string head_weight(const ModelConfig& config);

/// Below a block's, with those norms alone that the model has.
BlockNames block_names(const ModelConfig& config, NameKind kind = NameKind::kFile);

/// Of a block's norms: before and after attention, before and after the MLP; empty where there is
/// none.
std::array<std::string_view, 4> norm_names(const BlockNames& names);

/// Takes a number off the beginning of a text; nothing if none is there, or one of more than nine
/// digits.
std::optional<int64_t> take_number(std::string_view& text);

/// The block that a parameter lies in, by what goes before the number of one; nothing if in none.
std::optional<int64_t> layer_of(std::string_view parameter, const std::string& blocks);

/// Whether the numbers before a dot in a tensor's name say that it lies in a block.
bool is_in_block(std::string_view tensor);

}  // namespace temper

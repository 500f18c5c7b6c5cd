// SPDX-License-Identifier: Apache-2.0
#include "model/tensor_names.h"

#include <algorithm>

#include "core/concat.h"

namespace temper {
namespace {

constexpr PartNames kLlamaParts{};

const PartNames& parts_of(const ModelConfig& config, NameKind kind) {
  const Family& family = family_of(config.model_type);
  return kind == NameKind::kModule && family.has_llama_modules ? kLlamaParts : family.parts;
}

const std::string& base_of(const ModelConfig& config, NameKind kind) {
  return kind == NameKind::kModule ? config.module_base : config.file_base;
}

}  // namespace

std::string embedding_name(const ModelConfig& config, NameKind kind) {
  return concat(base_of(config, kind), parts_of(config, kind).embedding);
}

std::string final_norm_name(const ModelConfig& config, NameKind kind) {
  return concat(base_of(config, kind), parts_of(config, kind).final_norm);
}

// The head's module is called alike in all of transformers' classes.
std::string head_name(const ModelConfig& config, NameKind kind) {
  return kind == NameKind::kModule ? std::string(kLlamaParts.head) : config.file_head;
}

std::string blocks_prefix(const ModelConfig& config, NameKind kind) {
  return concat(base_of(config, kind), parts_of(config, kind).blocks, '.');
}

std::string block_name(const ModelConfig& config, int64_t layer, NameKind kind) {
  return concat(blocks_prefix(config, kind), layer);
}

std::string positions_name(const ModelConfig& config) {
  const std::string_view name = parts_of(config, NameKind::kFile).positions;
  return name.empty() ? std::string() : concat(config.file_base, name);
}

std::string embedding_weight(const ModelConfig& config) {
  return embedding_name(config) + ".weight";
}

std::string head_weight(const ModelConfig& config) { return head_name(config) + ".weight"; }

BlockNames block_names(const ModelConfig& config, NameKind kind) {
  const Family& family = family_of(config.model_type);
  BlockNames names =
      kind == NameKind::kModule && family.has_llama_modules ? BlockNames() : family.names;
  if (config.residual == Residual::kParallel) names.mlp_norm = "";
  if (config.residual == Residual::kParallelApart && !family.attention_norm_apart.empty()) {
    names.attention_norm = family.attention_norm_apart;
    names.mlp_norm = family.mlp_norm_apart;
  }
  return names;
}

std::array<std::string_view, 4> norm_names(const BlockNames& names) {
  return {names.attention_norm, names.after_attention_norm, names.mlp_norm, names.after_mlp_norm};
}

std::optional<int64_t> take_number(std::string_view& text) {
  constexpr size_t kMostDigits = 9;
  size_t count = 0;
  int64_t number = 0;
  while (count < text.size() && text[count] >= '0' && text[count] <= '9') {
    if (count == kMostDigits) return std::nullopt;
    number = 10 * number + (text[count++] - '0');
  }
  if (count == 0) return std::nullopt;
  text.remove_prefix(count);
  return number;
}

std::optional<int64_t> layer_of(std::string_view parameter, const std::string& blocks) {
  if (!parameter.starts_with(blocks)) return std::nullopt;
  parameter.remove_prefix(blocks.size());
  return take_number(parameter);
}

bool is_in_block(std::string_view tensor) {
  while (!tensor.empty()) {
    const std::string_view part = tensor.substr(0, tensor.find('.'));
    const bool is_number =
        !part.empty() && std::ranges::all_of(part, [](char c) { return c >= '0' && c <= '9'; });
    if (is_number) return true;
    tensor.remove_prefix(std::min(tensor.size(), part.size() + 1));
  }
  return false;
}

}  // namespace temper

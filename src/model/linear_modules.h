// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/range.h"
#include "model/model_config.h"

namespace temper {

/// The matrix products of a block: modules that lie next to each other are one product.
enum class Product { kQueriesKeysValues, kOutput, kGateUp, kDown };

/// One linear module of a block, and its place in a product.
struct LinearModule {
  static constexpr int64_t kNoExpert = -1;

  std::string name;  ///< In files, below the block's: "self_attn.q_proj".
  Product product;
  int64_t out = 0;
  int64_t in = 0;
  int64_t first_column = 0;  ///< Of the module's output in the product's.
  bool has_bias = false;
  bool is_transposed = false;  ///< In files: [in, out].
  std::string module = {};     ///< Its name in transformers, if it is another one.
  int64_t expert = kNoExpert;  ///< Which one's it is; else all tokens go through it.

  const std::string& module_name() const { return module.empty() ? name : module; }
  std::vector<int64_t> stored_shape() const {
    return is_transposed ? std::vector{in, out} : std::vector{out, in};
  }

  friend bool operator==(const LinearModule&, const LinearModule&) = default;
};

/// The size of a product's matrix.
struct ProductSize {
  int64_t out = 0;
  int64_t in = 0;
};

/// "q_proj" of "model.layers.0.self_attn.q_proj".
std::string last_part(const std::string& path);

/// The linear modules of a block, in the order in which they lie in its unit: in the place of an
/// MLP what all tokens go through, then the experts if each has matrices of its own.
std::vector<LinearModule> linear_modules(const ModelConfig& config, int64_t layer);

/// The modules of all blocks by their names, each once, of experts the first one's.
std::vector<LinearModule> all_modules(const ModelConfig& config);

/// Those that peft's "all-linear" is here: without experts, and without what is called like a
/// matrix of theirs, which peft 0.21 takes for it.
std::vector<LinearModule> common_modules(const ModelConfig& config);

/// What a token goes through in the largest block, by product: as if the experts that it chooses
/// were one MLP.
std::array<ProductSize, 4> product_sizes(const ModelConfig& config);

/// The experts of a block that lie in a unit together, in their order; none where one tensor has
/// all of them, which is not divided.
std::vector<Range> expert_groups(const ModelConfig& config);

/// How many of the tokens go through a tensor of a block: 1 but for experts'.
double share_of_tokens(const ModelConfig& config, const std::string& tensor);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "model/model_config.h"

namespace temper {

/// The matrix products of a block: modules that lie next to each other are one product.
enum class Product { kQueriesKeysValues, kOutput, kGateUp, kDown };

/// One linear module of a block, and its place in a product.
struct LinearModule {
  std::string name;  ///< In files, below the block's: "self_attn.q_proj".
  Product product;
  int64_t out = 0;
  int64_t in = 0;
  int64_t first_column = 0;  ///< Of the module's output in the product's.
  bool has_bias = false;
  bool is_transposed = false;  ///< In files: [in, out].
  std::string module = {};     ///< Its name in transformers, if it is another one.

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

/// The linear modules of each block, in the order in which they lie in its unit.
std::vector<LinearModule> linear_modules(const ModelConfig& config);

/// Those of a block's products, in their order.
std::array<ProductSize, 4> product_sizes(const ModelConfig& config);

}  // namespace temper

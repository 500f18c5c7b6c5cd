// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace temper {

/// How the columns of a joint projection [T, (num_heads + 2 num_key_value_heads) head_dim] divide
/// into heads: queries, then keys, then values. Each key-value head serves `group()` query heads.
struct Heads {
  int64_t num_heads = 0;
  int64_t num_key_value_heads = 0;
  int64_t head_dim = 0;

  int64_t group() const { return num_heads / num_key_value_heads; }
  int64_t query_columns() const { return num_heads * head_dim; }
  int64_t key_value_columns() const { return num_key_value_heads * head_dim; }
  int64_t columns() const { return query_columns() + 2 * key_value_columns(); }
  int64_t first_key_column() const { return query_columns(); }
  int64_t first_value_column() const { return query_columns() + key_value_columns(); }
};

}  // namespace temper

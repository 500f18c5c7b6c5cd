// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace temper {

/// One token shard of a mixture.
struct DataSource {
  std::string path;
  double weight = 1.0;  ///< Its share of the tokens, relative to the other sources' weights.
};

struct DataOptions {
  /// By which chat template the conversations of shards may have been rendered.
  enum class ChatTemplate {
    kModel,  ///< The model's own alone: it is what the trained model will be used with.
    kAny,
  };

  std::vector<DataSource> sources;
  ChatTemplate chat_template = ChatTemplate::kModel;
  int64_t sequence_length = 1024;  ///< Tokens in a row, at most.
  int64_t micro_batch_rows = 1;    ///< Rows in one forward pass: the quantum of arithmetic.
  int64_t global_batch_rows = 8;   ///< Rows in a step, of all ranks together.
  uint64_t seed = 0;               ///< Of the order of rows.
  int loader_threads = 2;
  int prefetch_depth = 2;  ///< Micro-batches that are read ahead.
};

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace temper {

/// One corpus of a mixture.
struct DataSource {
  std::string path;  ///< A token shard, or a pattern for a set of them.
  /// Its share of the tokens, relative to the other sources' weights; 0: none was given. Either all
  /// sources have one or none has.
  double weight = 0.0;
  double epochs = 1.0;     ///< Without weights: its passes in one epoch of the mixture.
  int64_t max_tokens = 0;  ///< Without weights: what an epoch has of it at most; 0: all.
};

/// How sources without weights share the tokens.
struct MixtureOptions {
  /// A source's share is its tokens to the power of 1 / temperature, of the sum over all sources:
  /// 1 leaves each row its place, more brings the shares closer to each other.
  /// Source: Raffel et al., "Exploring the limits of transfer learning", 2020, section 3.5.2.
  double temperature = 1.0;
};

struct DataOptions {
  /// By which chat template the conversations of shards may have been rendered.
  enum class ChatTemplate {
    kModel,  ///< The model's own alone, with which it will be used; of one without any, as kShard.
    kShard,  ///< One for all shards, which every export gets in place of the model's own.
    kAny,    ///< Not compared; exports keep the model's own.
  };

  std::vector<DataSource> sources;
  MixtureOptions mixture;
  ChatTemplate chat_template = ChatTemplate::kModel;
  int64_t sequence_length = 1024;  ///< Tokens in a row, at most.
  int64_t micro_batch_rows = 1;    ///< Rows in one forward pass: the quantum of arithmetic.
  int64_t global_batch_rows = 8;   ///< Rows in a step, of all ranks together.
  uint64_t seed = 0;               ///< Of the order of rows.
  int loader_threads = 2;
  int prefetch_depth = 2;  ///< Micro-batches that are read ahead.

  /// In a step, of all ranks together.
  int64_t num_micro_batches() const { return global_batch_rows / micro_batch_rows; }
};

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace temper {

/// What one forward pass sees: documents of several rows, laid end to end without padding.
///
/// The quantum of arithmetic: its content depends on the configuration, the data and its global
/// index alone.
struct MicroBatch {
  std::vector<int64_t> tokens;           ///< [T].
  std::vector<int64_t> positions;        ///< [T]; restart at 0 with each document.
  std::vector<int64_t> targets;          ///< [T]; the next token, or kNoTarget.
  std::vector<int64_t> document_begins;  ///< [num_documents + 1], from 0 to T.
  int64_t num_targets = 0;
  std::vector<int64_t> documents = {};  ///< [num_documents], their numbers in the corpus.
  std::vector<int64_t> sources = {};    ///< [num_documents], places in Mixture::source_names().
};

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "data/micro_batch.h"

namespace temper {

inline bool are_equal(const MicroBatch& a, const MicroBatch& b) {
  return a.tokens == b.tokens && a.positions == b.positions && a.targets == b.targets &&
         a.document_begins == b.document_begins && a.num_targets == b.num_targets &&
         a.documents == b.documents;
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "model/adapter/adapter.h"
#include "zero/unit_store.h"

namespace temper {

/// Reads the embedding of one token: values [hidden_size].
using ReadEmbedding = std::function<void(int64_t token, std::span<float> values)>;

/// Fills the store of an adapter with its initial values, the same on any number of ranks. The
/// caller publishes them. Local.
/// Throws: what `read_embedding` throws.
void initialise(const Adapter& adapter, uint64_t seed, const ReadEmbedding& read_embedding,
                UnitStore& store);

}  // namespace temper

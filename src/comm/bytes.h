// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "comm/communicator.h"

namespace temper {

/// Every rank's `own` bytes, in rank order, into `all` on every rank.
/// Shapes: own [n], all [world_size * n]. Collective: all ranks. Throws: CommError.
void gather_bytes(Communicator& ranks, std::span<const std::byte> own, std::span<std::byte> all);

/// The same into `all` on rank 0 alone; it may be empty elsewhere.
void gather_bytes_on_rank_0(Communicator& ranks, std::span<const std::byte> own,
                            std::span<std::byte> all);

/// Replaces `bytes` on every rank by those of rank 0. Shapes: bytes [n].
/// Collective: all ranks. Throws: CommError.
void broadcast_bytes(Communicator& ranks, std::span<std::byte> bytes);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <system_error>

#include "core/error.h"

namespace temper {

/// A checkpoint could not be judged: it may be whole, so that it is never passed over for an older
/// one, nor called damaged.
class UnjudgedError : public CheckpointError {
 public:
  using CheckpointError::CheckpointError;
};

/// Storage did not do what was asked for a checkpoint: another try may succeed. A `File` of a
/// checkpoint throws it for every reason that is no absence.
class StorageError : public UnjudgedError {
 public:
  using UnjudgedError::UnjudgedError;
};

/// Whether the reason for which a path could not be looked at is that nothing is there, or
/// something else than was wanted: another try comes to the same, as for no other reason.
bool is_absence(const std::error_code& reason);

}  // namespace temper

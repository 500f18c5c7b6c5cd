// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <system_error>

#include "core/error.h"

namespace temper {

/// Storage did not do what was asked for a checkpoint. That says nothing of what the checkpoint is
/// worth: another try may succeed. A `File` of a checkpoint throws it for every reason that is no
/// absence.
class StorageError : public CheckpointError {
 public:
  using CheckpointError::CheckpointError;
};

/// Whether the reason for which a path could not be looked at is that nothing is there, or
/// something else than was wanted: another try comes to the same, as for no other reason.
bool is_absence(const std::error_code& reason);

}  // namespace temper

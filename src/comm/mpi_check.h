// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

namespace temper {

/// Turns a failed MPI call into an exception with MPI's reason. It sees failures only where the
/// error handler is MPI_ERRORS_RETURN: MPI's default ends the job before any call returns.
/// Throws: CommError.
void check(int status, const char* call);

}  // namespace temper

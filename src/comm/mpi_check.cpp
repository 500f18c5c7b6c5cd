// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_check.h"

#include <string>

#include "core/concat.h"
#include "core/error.h"

namespace temper {

void check(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  char reason[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, reason, &length);
  throw CommError(concat(call, " failed: ", std::string(reason, static_cast<size_t>(length))),
                  "look for the first rank that failed; the others only lost it");
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
// The main of each MPI test. One rank's failure is everyone's, since mpirun's own exit code need
// not show it. An exception that leaves Boost.Test ends all ranks: they may wait for this one.
#define BOOST_TEST_NO_MAIN
#define BOOST_TEST_ALTERNATIVE_INIT_API
#include <mpi.h>

#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>

namespace {

[[noreturn]] void abort_all_ranks() {
  std::fputs("an exception left the tests: all ranks end\n", stderr);
  MPI_Abort(MPI_COMM_WORLD, 1);
  std::abort();
}

// Fewer threads than asked for would make tests of the communicator's own thread fail at random.
void require_thread_multiple(int provided) {
  if (provided == MPI_THREAD_MULTIPLE) return;
  std::fprintf(stderr, "MPI gives thread level %d, not MPI_THREAD_MULTIPLE\n", provided);
  MPI_Abort(MPI_COMM_WORLD, 1);
}

}  // namespace

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  require_thread_multiple(provided);
  std::set_terminate(abort_all_ranks);

  int failed = boost::unit_test::unit_test_main([] { return true; }, argc, argv);
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  std::fflush(nullptr);
  std::quick_exit(failed);  // To take its registries apart costs LibTorch 60 ms.
}

// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_session.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <mpi.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <thread>

#include "comm/mpi_check.h"
#include "core/error.h"

namespace temper {
namespace {

constexpr unsigned kAbortSeconds = 10;

// srun drops what it has not read of a step when that is aborted, such as the message that says
// why. Arbitrary: an idle machine needs a few milliseconds.
constexpr std::chrono::milliseconds kTimeToBeHeard{500};

volatile std::sig_atomic_t abort_code = 0;

extern "C" void end_hanging_abort(int) { ::_exit(abort_code); }

// MPI_Abort writes lines of its own below the message that says why. A rank that srun started
// writes them itself. Below Open MPI's mpirun a rank sends its eight lines there, unless the flag
// of mpirun's --quiet is set in the rank, too: it is a variable of Open MPI's library up to version
// 4 (orte/runtime/orte_globals.h). Setting it earlier, by its MCA parameter in the environment,
// would silence what MPI says of its own failures as well.
void silence_abort() {
  const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (nowhere >= 0) ::dup2(nowhere, STDERR_FILENO);
  auto* const is_quiet = static_cast<bool*>(::dlsym(RTLD_DEFAULT, "orte_execute_quiet"));
  if (is_quiet != nullptr) *is_quiet = true;
}

}  // namespace

MpiSession::MpiSession() {
  int threads = MPI_THREAD_SINGLE;
  check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_MULTIPLE, &threads), "MPI_Init_thread");
  check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(MPI_COMM_WORLD, &world_size_), "MPI_Comm_size");
  // One thread at a time calls MPI, but not always the same: a worker, or main at start and end.
  if (threads < MPI_THREAD_SERIALIZED) {
    throw CommError("this MPI library allows calls from the main thread only",
                    "use an MPI built with thread support (MPI_THREAD_SERIALIZED or more)");
  }
  find_node();
  gather_host_names();
}

MpiSession::~MpiSession() {
  if (std::uncaught_exceptions() > 0) abort(ExitCode::kInternal);
  MPI_Finalize();
}

void MpiSession::abort(ExitCode code) const {
  abort_code = static_cast<int>(code);
  std::signal(SIGALRM, end_hanging_abort);  // MPI_Abort talks to daemons that may be gone.
  ::alarm(kAbortSeconds);
  std::this_thread::sleep_for(kTimeToBeHeard);
  silence_abort();
  // A daemon that Open MPI starts for a process without a launcher would write those lines.
  if (world_size_ == 1) {
    MPI_Finalize();
    std::_Exit(static_cast<int>(code));
  }
  MPI_Abort(MPI_COMM_WORLD, static_cast<int>(code));
  std::_Exit(static_cast<int>(code));
}

void MpiSession::find_node() {
  MPI_Comm node = MPI_COMM_NULL;
  check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node),
        "MPI_Comm_split_type");
  check(MPI_Comm_rank(node, &local_rank_), "MPI_Comm_rank");
  check(MPI_Comm_size(node, &local_size_), "MPI_Comm_size");
  check(MPI_Comm_free(&node), "MPI_Comm_free");
}

void MpiSession::gather_host_names() {
  char name[MPI_MAX_PROCESSOR_NAME] = {};
  int length = 0;
  check(MPI_Get_processor_name(name, &length), "MPI_Get_processor_name");
  std::vector<char> names(static_cast<size_t>(world_size_) * sizeof name);
  check(MPI_Allgather(name, sizeof name, MPI_CHAR, names.data(), sizeof name, MPI_CHAR,
                      MPI_COMM_WORLD),
        "MPI_Allgather");
  for (size_t begin = 0; begin < names.size(); begin += sizeof name) {
    host_names_.emplace_back(&names[begin]);
  }
}

}  // namespace temper

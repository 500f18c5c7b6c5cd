// SPDX-License-Identifier: Apache-2.0
// What users and colleagues read when ranks disagree or MPI refuses.
#include <ATen/ATen.h>

#include <boost/test/unit_test.hpp>
#include <string>

#include "comm/agree.h"
#include "comm/mpi_check.h"
#include "comm/mpi_communicator.h"
#include "core/error.h"

using temper::CommError;
using temper::LaunchError;
using temper::MpiCommunicator;
using temper::MpiWorker;

namespace {

struct World {
  MpiCommunicator world{MPI_COMM_WORLD};
  int rank = world.rank();
  int n = world.world_size();
};

template <typename Kind = CommError, typename Call>
void fails_with(const Call& call, const std::string& expected) {
  BOOST_CHECK_EXCEPTION(call(), Kind, [&](const Kind& error) {
    BOOST_TEST_MESSAGE(error.what());
    return std::string(error.what()).find(expected) != std::string::npos;
  });
}

// What this MPI says of a kind of error: MPICH has no names in it.
std::string reason(int error_class) {
  std::string text(MPI_MAX_ERROR_STRING, '\0');
  int length = 0;
  MPI_Error_string(error_class, text.data(), &length);
  text.resize(static_cast<size_t>(length));
  return text;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(failure, World)

// Without MPI_ERRORS_RETURN on the communicator, MPI ends the job here.
BOOST_AUTO_TEST_CASE(ranks_that_disagree_on_a_size_get_mpi_s_reason) {
  if (n == 1) return;  // Nobody to disagree with.
  const int64_t size = rank == 0 ? 8 : 4;
  auto full = at::zeros({n * size});
  auto pending = world.all_gather(at::ones({size}), full);
  if (rank == 0) {
    pending.wait();
  } else {
    fails_with([&] { pending.wait(); }, "all_gather failed: " + reason(MPI_ERR_TRUNCATE));
  }
  world.barrier();
}

BOOST_AUTO_TEST_CASE(an_error_at_the_start_of_a_call_reaches_whoever_waits) {
  MPI_Comm comm = MPI_COMM_NULL;
  const auto duplicate = [&](std::vector<MPI_Request>&) {
    temper::check(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
    temper::check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  };
  const auto broadcast = [&](std::vector<MPI_Request>& requests) {
    int number = 0;
    temper::check(
        MPI_Ibcast(&number, 1, MPI_INT, -1, comm, &requests.emplace_back(MPI_REQUEST_NULL)),
        "MPI_Ibcast");
  };
  const auto worker = MpiWorker::shared();
  worker->submit("MPI_Comm_dup", duplicate).wait();
  fails_with([&] { worker->submit("MPI_Ibcast", broadcast).wait(); },
             "MPI_Ibcast failed: " + reason(MPI_ERR_ROOT));
  fails_with([&] { worker->submit("MPI_Ibcast", broadcast).wait(); }, "first rank that failed");
  worker->submit("MPI_Comm_free", [&](auto&) { MPI_Comm_free(&comm); }).wait();
  world.barrier();  // The worker goes on.
}

BOOST_AUTO_TEST_CASE(flags_combine) {
  using temper::all_of;
  using temper::any_of;
  BOOST_TEST(all_of(world, true));
  BOOST_TEST(!any_of(world, false));
  BOOST_TEST(all_of(world, rank != n - 1) == false);
  BOOST_TEST(any_of(world, rank == n - 1));
}

BOOST_AUTO_TEST_CASE(equal_digests_pass_and_the_rank_that_differs_is_named) {
  const auto usual = temper::sha256("one configuration"), other = temper::sha256("another");
  std::vector<std::string> hosts;
  for (int host = 0; host < n; ++host) hosts.push_back("n" + std::to_string(host));
  BOOST_CHECK_NO_THROW(require_same_on_all_ranks(world, usual, {"the configuration"}, hosts));
  if (n == 1) return;
  const auto compare = [&](int odd) {
    require_same_on_all_ranks(world, rank == odd ? other : usual, {"the configuration"}, hosts);
  };
  const std::string last = std::to_string(n - 1);
  fails_with<LaunchError>(
      [&] { compare(n - 1); },
      "rank " + last + " on n" + last +
          " differs from rank 0 on n0 in the configuration, and so do 0 more of " +
          std::to_string(n) + " ranks");
  // The odd one out is the one that is named, also where it is rank 0.
  if (n > 2) fails_with<LaunchError>([&] { compare(0); }, "rank 0 on n0 differs from rank 1 on n1");
}

BOOST_AUTO_TEST_SUITE_END()

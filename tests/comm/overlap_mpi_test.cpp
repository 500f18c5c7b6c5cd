// SPDX-License-Identifier: Apache-2.0
// Collectives that run beside each other and beside computation, on ranks that come at different
// times.
#include <ATen/ATen.h>

#include <boost/test/unit_test.hpp>
#include <stdexcept>
#include <utility>
#include <vector>

#include "comm/mpi_communicator.h"

using temper::MpiCommunicator;
using temper::Pending;
using temper::ReduceOp;

namespace {

struct World {
  MpiCommunicator world{MPI_COMM_WORLD};
  int rank = world.rank();
  int n = world.world_size();
};

at::Tensor numbered(int seed, int64_t size) {
  return at::arange(size, at::kFloat).mul_(seed + 1).add_(seed);
}

// Keeps this rank busy for a while that depends on the rank and the turn.
double compute(int rank, int turn) {
  volatile double sum = 0.0;
  const int work = 200000 * ((rank * 7 + turn * 3) % 5);
  for (int k = 0; k < work; ++k) sum = sum + 1.0 / (1.0 + k);
  return sum;
}

bool holds_all_shards(const at::Tensor& full, int n, int seed) {
  const int64_t size = full.numel() / n;
  for (int r = 0; r < n; ++r) {
    if (!at::equal(full.narrow(0, r * size, size), numbered(r + seed, size))) return false;
  }
  return true;
}

}  // namespace

BOOST_FIXTURE_TEST_SUITE(overlap, World)

BOOST_AUTO_TEST_CASE(several_are_under_way_and_waited_for_in_any_order) {
  constexpr int kCount = 12;
  constexpr int64_t kSize = 3000;
  std::vector<at::Tensor> full;
  std::vector<Pending> pending;
  for (int k = 0; k < kCount; ++k) {
    full.push_back(at::zeros({n * kSize * (k + 1)}));
    pending.push_back(world.all_gather(numbered(rank + k, kSize * (k + 1)), full.back()));
  }
  for (const size_t k : {7, 0, 11, 3, 4, 10, 1, 2, 9, 8, 6, 5}) {
    pending[k].wait();
    BOOST_TEST(holds_all_shards(full[k], n, static_cast<int>(k)), "number " << k);
  }
}

// A race of the communicator, or a buffer used too early, shows in the bits.
BOOST_AUTO_TEST_CASE(ranks_may_come_at_any_time) {
  constexpr int64_t kSize = 40000;
  for (int turn = 0; turn < 20; ++turn) {
    auto full = at::zeros({n * kSize}), highest = numbered(rank + turn, kSize);
    auto exchanged = at::zeros({n * kSize});
    const auto send = numbered(rank + turn, n * kSize);
    compute(rank, turn);
    Pending gather = world.all_gather(numbered(rank + turn, kSize), full);
    compute(rank + 1, turn);
    Pending exchange = world.all_to_all(send, exchanged);
    Pending reduce = world.all_reduce(highest, ReduceOp::kMax);
    compute(rank + 2, turn);
    exchange.wait();
    gather.wait();
    reduce.wait();
    BOOST_TEST(holds_all_shards(full, n, turn));
    for (int r = 0; r < n; ++r) {
      const auto expected = numbered(r + turn, n * kSize).narrow(0, rank * kSize, kSize);
      BOOST_TEST(at::equal(exchanged.narrow(0, r * kSize, kSize), expected));
    }
    BOOST_TEST(at::equal(highest, numbered(n - 1 + turn, kSize)));
  }
}

BOOST_AUTO_TEST_CASE(messages_above_64_megabytes_arrive_whole) {
  constexpr int64_t kSize = 17'000'003;
  auto full = at::zeros({n * kSize});
  world.all_gather(numbered(rank, kSize), full).wait();
  BOOST_TEST(holds_all_shards(full, n, 0));
}

BOOST_AUTO_TEST_CASE(long_messages_are_cut_and_joined) {
  MpiCommunicator cutting(MPI_COMM_WORLD, at::kCPU, /*max_message_bytes=*/1000);
  constexpr int64_t kSize = 1777;
  auto full = at::zeros({n * kSize}), exchanged = at::zeros({n * kSize});
  cutting.all_gather(numbered(rank, kSize), full).wait();
  BOOST_TEST(holds_all_shards(full, n, 0));

  cutting.all_to_all(full, exchanged).wait();
  for (int r = 0; r < n; ++r) {
    BOOST_TEST(at::equal(exchanged.narrow(0, r * kSize, kSize), numbered(rank, kSize)));
  }
  auto highest = numbered(rank, kSize);
  cutting.all_reduce(highest, ReduceOp::kMax).wait();
  BOOST_TEST(at::equal(highest, numbered(n - 1, kSize)));

  auto spread = numbered(rank, kSize);
  cutting.broadcast(spread, n - 1).wait();
  BOOST_TEST(at::equal(spread, numbered(n - 1, kSize)));
}

BOOST_AUTO_TEST_CASE(the_bytes_beside_the_tensors_are_left_alone) {
  constexpr int64_t kSize = 1001;
  auto guarded = at::full({(n + 2) * kSize}, -7.0f);
  world.all_gather(numbered(rank, kSize), guarded.narrow(0, kSize, n * kSize)).wait();
  BOOST_TEST(holds_all_shards(guarded.narrow(0, kSize, n * kSize), n, 0));
  BOOST_TEST(at::equal(guarded.narrow(0, 0, kSize), at::full({kSize}, -7.0f)));
  BOOST_TEST(at::equal(guarded.narrow(0, (n + 1) * kSize, kSize), at::full({kSize}, -7.0f)));
}

BOOST_AUTO_TEST_CASE(a_pending_that_is_dropped_is_done) {
  auto full = at::zeros({n * 50000});
  { const Pending dropped = world.all_gather(numbered(rank, 50000), full); }
  BOOST_TEST(holds_all_shards(full, n, 0));
}

BOOST_AUTO_TEST_CASE(tensors_live_on_when_an_exception_drops_everything) {
  const auto unwind = [&] {
    auto full = at::zeros({n * 50000});
    const Pending dropped = world.all_gather(numbered(rank, 50000), full);
    throw std::runtime_error("something else");
  };
  BOOST_CHECK_THROW(unwind(), std::runtime_error);
  world.barrier();
  auto full = at::zeros({n * 50000});
  world.all_gather(numbered(rank + 3, 50000), full).wait();
  BOOST_TEST(holds_all_shards(full, n, 3));
}

// Ranks call the two in different orders, which only the order within each may not be.
BOOST_AUTO_TEST_CASE(communicators_do_not_meet) {
  MpiCommunicator other(MPI_COMM_WORLD);
  auto here = at::zeros({n * 100}), there = at::zeros({n * 100});
  Pending first, second;
  if (rank % 2 == 0) first = world.all_gather(numbered(rank, 100), here);
  second = other.all_gather(numbered(rank + 5, 100), there);
  if (rank % 2 == 1) first = world.all_gather(numbered(rank, 100), here);
  second.wait();
  first.wait();
  BOOST_TEST(holds_all_shards(here, n, 0));
  BOOST_TEST(holds_all_shards(there, n, 5));
}

BOOST_AUTO_TEST_CASE(nobody_leaves_a_barrier_before_all_have_come) {
  for (int turn = 0; turn < 10; ++turn) {
    auto arrived = at::ones({1});
    compute(rank, turn);
    Pending counted = world.all_reduce(arrived, ReduceOp::kSum);
    world.barrier();
    counted.wait();
    BOOST_TEST(arrived.item<float>() == static_cast<float>(n));
  }
}

BOOST_AUTO_TEST_SUITE_END()

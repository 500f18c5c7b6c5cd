// SPDX-License-Identifier: Apache-2.0
// Each verb against what it should do by its definition, on tensors that name rank and position.
#include <ATen/ATen.h>

#include <boost/test/unit_test.hpp>

#include "comm/collective_ring.h"
#include "comm/mpi_communicator.h"

using temper::CollectiveRing;
using temper::Pending;
using temper::ReduceOp;

namespace {

struct World {
  temper::MpiCommunicator world{MPI_COMM_WORLD};
  int rank = world.rank();
  int n = world.world_size();
};

// Rank r's tensor: base + r * 10 + position, small enough to be exact in bf16 and uint8.
at::Tensor numbered(int rank, int64_t size, at::ScalarType dtype) {
  return (at::arange(size, at::kLong) % 7 + rank * 10).to(dtype);
}

const at::ScalarType kMoved[] = {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf,
                                 at::kLong,  at::kInt,    at::kByte,     at::kBool};
const at::ScalarType kReduced[] = {at::kFloat, at::kDouble, at::kLong, at::kInt, at::kByte};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(mpi_communicator, World)

BOOST_AUTO_TEST_CASE(all_gather_puts_shards_in_rank_order) {
  for (const auto dtype : kMoved) {
    BOOST_TEST_CONTEXT(dtype) {
      auto full = at::zeros({n * 5}, dtype);
      world.all_gather(numbered(rank, 5, dtype), full).wait();
      for (int r = 0; r < n; ++r) {
        BOOST_TEST(at::equal(full.narrow(0, r * 5, 5), numbered(r, 5, dtype)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(all_gather_works_in_place) {
  auto full = at::zeros({n * 5}, at::kFloat);
  auto shard = full.narrow(0, rank * 5, 5);
  shard.copy_(numbered(rank, 5, at::kFloat));
  world.all_gather(shard, full).wait();
  for (int r = 0; r < n; ++r) {
    BOOST_TEST(at::equal(full.narrow(0, r * 5, 5), numbered(r, 5, at::kFloat)));
  }
}

BOOST_AUTO_TEST_CASE(gather_puts_shards_in_rank_order_on_one_rank) {
  for (int root = 0; root < n; ++root) {
    BOOST_TEST_CONTEXT(root) {
      auto full = rank == root ? at::zeros({n * 5}, at::kFloat) : at::Tensor();
      const int64_t before = CollectiveRing::own().num_bytes_sent();
      world.gather(numbered(rank, 5, at::kFloat), full, root).wait();
      const bool sends = rank != root;
      BOOST_TEST(CollectiveRing::own().num_bytes_sent() - before == (sends ? 20 : 0));
      for (int r = 0; r < n && !sends; ++r) {
        BOOST_TEST(at::equal(full.narrow(0, r * 5, 5), numbered(r, 5, at::kFloat)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(all_to_all_sends_block_r_to_rank_r) {
  for (const auto dtype : kMoved) {
    BOOST_TEST_CONTEXT(dtype) {
      const auto send = numbered(rank, n * 3, dtype);
      auto receive = at::zeros({n * 3}, dtype);
      world.all_to_all(send, receive).wait();
      for (int r = 0; r < n; ++r) {
        BOOST_TEST(at::equal(receive.narrow(0, r * 3, 3),
                             numbered(r, n * 3, dtype).narrow(0, rank * 3, 3)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(broadcast_spreads_the_root_s_tensor) {
  for (const auto dtype : kMoved) {
    BOOST_TEST_CONTEXT(dtype) {
      for (int root = 0; root < n; ++root) {
        auto tensor = numbered(rank, 6, dtype);
        world.broadcast(tensor, root).wait();
        BOOST_TEST(at::equal(tensor, numbered(root, 6, dtype)));
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(all_reduce_sums_and_finds_extremes) {
  for (const auto dtype : kReduced) {
    BOOST_TEST_CONTEXT(dtype) {
      auto sum = numbered(rank, 4, dtype), highest = sum.clone(), lowest = sum.clone();
      auto expected = at::zeros({4}, dtype);
      for (int r = 0; r < n; ++r) expected += numbered(r, 4, dtype);
      world.all_reduce(sum, ReduceOp::kSum).wait();
      world.all_reduce(highest, ReduceOp::kMax).wait();
      world.all_reduce(lowest, ReduceOp::kMin).wait();
      BOOST_TEST(at::equal(sum, expected));
      BOOST_TEST(at::equal(highest, numbered(n - 1, 4, dtype)));
      BOOST_TEST(at::equal(lowest, numbered(0, 4, dtype)));
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()

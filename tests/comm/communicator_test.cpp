// SPDX-License-Identifier: Apache-2.0
// What holds for every back end, in one process: the checks before a call, and Pending.
#include "comm/communicator.h"

#include <ATen/ATen.h>

#include <boost/test/unit_test.hpp>
#include <stdexcept>
#include <string>

#include "comm/make_communicator.h"
#include "core/error.h"

using temper::Communicator;
using temper::Pending;
using temper::ReduceOp;

namespace {

// Rank 1 of 3, or of 1: counts what reaches the back end.
class CountingCommunicator final : public Communicator {
 public:
  explicit CountingCommunicator(int rank = 1, int world_size = 3)
      : rank_(rank), world_size_(world_size) {}

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }

  int num_calls = 0;

 private:
  Pending count() {
    ++num_calls;
    return Pending();
  }
  Pending do_all_reduce(at::Tensor, ReduceOp) override { return count(); }
  Pending do_all_gather(const at::Tensor&, at::Tensor) override { return count(); }
  Pending do_gather(const at::Tensor&, at::Tensor, int) override { return count(); }
  Pending do_all_to_all(const at::Tensor&, at::Tensor) override { return count(); }
  Pending do_broadcast(at::Tensor, int) override { return count(); }
  void do_barrier() override { ++num_calls; }

  int rank_;
  int world_size_;
};

struct Three {
  CountingCommunicator ranks;

  template <typename Call>
  void refuses(const Call& call, const std::string& reason) {
    BOOST_CHECK_EXCEPTION(call().wait(), std::invalid_argument,
                          [&](const std::invalid_argument& error) {
                            BOOST_TEST_MESSAGE(error.what());
                            return std::string(error.what()).find(reason) != std::string::npos;
                          });
    BOOST_TEST(ranks.num_calls == 0);
  }
};

}  // namespace

BOOST_FIXTURE_TEST_SUITE(communicator, Three)

BOOST_AUTO_TEST_CASE(shapes_that_do_not_fit_are_refused) {
  auto nine = at::zeros({9}), eight = at::zeros({8}), three = at::zeros({3});
  refuses([&] { return ranks.all_gather(three, eight); }, "full has 8 elements, wanted 3 ranks");
  refuses([&] { return ranks.gather(three, eight, 1); }, "full has 8 elements, wanted 3 ranks");
  refuses([&] { return ranks.all_to_all(eight, at::zeros({8})); }, "among 3 ranks");
  refuses([&] { return ranks.all_to_all(nine, at::zeros({6})); }, "for 6");
}

BOOST_AUTO_TEST_CASE(tensors_of_different_kinds_are_refused) {
  auto nine = at::zeros({9}), longs = at::zeros({3}, at::kLong);
  refuses([&] { return ranks.all_gather(longs, nine); }, "dtypes differ: Float and Long");
  refuses([&] { return ranks.all_to_all(nine, nine.to(at::kDouble)); }, "dtypes differ");
  refuses([&] { return ranks.all_gather(at::zeros({3}, at::kMeta), nine); }, "devices differ");
}

BOOST_AUTO_TEST_CASE(what_is_not_contiguous_or_not_there_is_refused) {
  auto strided = at::zeros({18}).slice(0, 0, 18, 2);
  refuses([&] { return ranks.all_gather(at::zeros({3}), strided); }, "not contiguous");
  refuses([&] { return ranks.all_reduce(strided, ReduceOp::kSum); }, "not contiguous");
  refuses([&] { return ranks.broadcast(strided, 0); }, "not contiguous");
  refuses([&] { return ranks.broadcast(at::Tensor(), 0); }, "undefined");
}

BOOST_AUTO_TEST_CASE(overlap_is_refused_but_for_this_rank_s_block) {
  auto full = at::zeros({9});
  refuses([&] { return ranks.all_gather(full.narrow(0, 0, 3), full); }, "overlaps full elsewhere");
  refuses([&] { return ranks.all_gather(full.narrow(0, 4, 3), full); }, "than in block 1");
  refuses([&] { return ranks.all_to_all(full, full); }, "overlap");
  auto longer = at::zeros({12});
  refuses([&] { return ranks.all_to_all(longer.narrow(0, 0, 9), longer.narrow(0, 3, 9)); },
          "overlap");

  ranks.all_gather(full.narrow(0, 3, 3), full).wait();
  ranks.all_to_all(longer.narrow(0, 0, 6), longer.narrow(0, 6, 6)).wait();
  BOOST_TEST(ranks.num_calls == 2);
}

BOOST_AUTO_TEST_CASE(sums_that_lose_bits_are_refused) {
  auto nine = at::zeros({9}, at::kBFloat16);
  refuses([&] { return ranks.all_reduce(nine, ReduceOp::kSum); },
          "cannot reduce BFloat16; convert to fp32");
}

BOOST_AUTO_TEST_CASE(a_root_that_is_no_rank_is_refused) {
  auto tensor = at::zeros({1});
  refuses([&] { return ranks.broadcast(tensor, -1); }, "root -1 is none of 3 ranks");
  refuses([&] { return ranks.broadcast(tensor, 3); }, "root 3");
  refuses([&] { return ranks.gather(tensor, tensor, 3); }, "root 3 is none of 3 ranks");
}

BOOST_AUTO_TEST_CASE(nothing_is_sent_where_there_is_nothing_to_send) {
  auto none = at::zeros({0}), other = at::zeros({0});
  ranks.all_gather(none, other).wait();
  ranks.all_to_all(none, other).wait();
  ranks.all_reduce(none, ReduceOp::kSum).wait();
  ranks.broadcast(none, 2).wait();
  ranks.gather(none, other, 1).wait();
  BOOST_TEST(ranks.num_calls == 0);
}

BOOST_AUTO_TEST_CASE(a_group_of_one_copies) {
  CountingCommunicator alone(0, 1);
  const at::Tensor from = at::arange(6, at::kFloat);
  auto gathered = at::zeros({2, 3}), reduced = from.clone(), exchanged = at::zeros({6});
  auto on_root = at::zeros({6});
  alone.all_gather(from, gathered).wait();
  alone.gather(from, on_root, 0).wait();
  alone.all_to_all(from, exchanged).wait();
  alone.all_reduce(reduced, ReduceOp::kSum).wait();
  alone.broadcast(reduced, 0).wait();
  alone.all_gather(reduced, reduced).wait();
  alone.barrier();
  for (const at::Tensor& result : {gathered, on_root, reduced, exchanged}) {
    BOOST_TEST(at::equal(result.view(-1), from));
  }
  BOOST_TEST(alone.num_calls == 0);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(pending)

BOOST_AUTO_TEST_CASE(it_finishes_once_whoever_holds_it) {
  int num_finished = 0;
  {
    Pending first([&] { ++num_finished; });
    Pending second(std::move(first));
    first.wait();
    BOOST_TEST(num_finished == 0);
    second.wait();
    second.wait();
    BOOST_TEST(num_finished == 1);
  }
  BOOST_TEST(num_finished == 1);
}

BOOST_AUTO_TEST_CASE(the_destructor_and_an_assignment_finish_it) {
  int num_finished = 0;
  const auto finish = [&] { ++num_finished; };
  { const Pending dropped(finish); }
  BOOST_TEST(num_finished == 1);
  Pending replaced(finish);
  replaced = Pending();
  BOOST_TEST(num_finished == 2);
}

BOOST_AUTO_TEST_CASE(wait_throws_and_the_destructor_does_not) {
  const auto fail = [] { throw temper::CommError("it failed", "nothing"); };
  BOOST_CHECK_THROW(Pending(fail).wait(), temper::CommError);
  BOOST_CHECK_NO_THROW({ const Pending dropped(fail); });
}

BOOST_AUTO_TEST_CASE(nobody_waits_while_an_exception_is_in_flight) {
  int num_finished = 0;
  const auto unwind = [&] {
    const Pending dropped([&] { ++num_finished; });
    throw std::runtime_error("a peer may never come");
  };
  BOOST_CHECK_THROW(unwind(), std::runtime_error);
  BOOST_TEST(num_finished == 0);
}

BOOST_AUTO_TEST_SUITE_END()

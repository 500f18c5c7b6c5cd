// SPDX-License-Identifier: Apache-2.0
// What NCCL is asked for, by a double that does it as late as may be: the verbs, and training.
#include <ATen/ATen.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <stdexcept>
#include <string>
#include <vector>

#include "comm/nccl_communicator.h"
#include "core/concat.h"
#include "core/error.h"
#include "device/device_run.h"
#include "device/methods.h"
#include "device/step_counts.h"
#include "support/nccl_double/cuda_streams.h"
#include "support/nccl_double/nccl_double.h"

namespace temper {
namespace {

namespace data = boost::unit_test::data;
using testing::NcclDouble;
using testing::StepCounts;
using testing::Variant;
using Calls = std::vector<std::string>;

struct NcclFixture : testing::DeviceFixture {
  NcclCommunicator nccl{world, testing::accelerator()};
  int rank = nccl.rank();
  int n = nccl.world_size();

  // Rank r's tensor: r * 10 + position, exact in each dtype.
  static at::Tensor numbered(int rank, int64_t size, at::ScalarType dtype = at::kFloat) {
    return (at::arange(size, at::kLong) % 7 + rank * 10).to(dtype);
  }
  static at::Tensor there(const at::Tensor& host) { return host.to(testing::accelerator()); }
  static at::Tensor room(int64_t size, at::ScalarType dtype = at::kFloat) {
    return at::empty({size}, at::TensorOptions(testing::accelerator()).dtype(dtype));
  }

  static Calls only(const Calls& expected, int num_ranks) {
    return num_ranks == 1 ? Calls{} : expected;  // One rank enters no library.
  }
  void check_calls(const Calls& expected) {
    BOOST_TEST(NcclDouble::own().take_calls() == only(expected, n),
               boost::test_tools::per_element());
  }

  static std::string message_of(Pending pending) {
    try {
      pending.wait();
    } catch (const CommError& error) {
      return error.what();
    }
    return "no error";
  }
  static bool says(const std::string& message, const std::string& part) {
    BOOST_TEST_MESSAGE(message);
    return message.find(part) != std::string::npos;
  }
};

BOOST_FIXTURE_TEST_SUITE(nccl, NcclFixture)

BOOST_AUTO_TEST_CASE(verbs_move_what_they_say_in_calls_of_that_size) {
  for (const auto dtype :
       {at::kFloat, at::kDouble, at::kBFloat16, at::kLong, at::kInt, at::kByte}) {
    const auto size = static_cast<int64_t>(at::elementSize(dtype));
    const at::Tensor full = room(n * 5, dtype), on_root = room(n * 5, dtype);
    const at::Tensor receive = room(n * 3, dtype), spread = there(numbered(rank, 6, dtype));
    nccl.all_gather(there(numbered(rank, 5, dtype)), full).wait();
    check_calls({concat("AllGather ", 5 * size, " uint8")});
    const int root = n - 1;
    nccl.gather(there(numbered(rank, 5, dtype)), on_root, root).wait();
    std::string group = concat("Group: Send ", 5 * size, " to ", root);
    for (int r = 0; r < n && rank == root; ++r) group += concat(" Recv ", 5 * size, " from ", r);
    check_calls({group});
    nccl.all_to_all(there(numbered(rank, n * 3, dtype)), receive).wait();
    group = "Group:";
    for (int r = 0; r < n; ++r) {
      group += concat(" Send ", 3 * size, " to ", r, " Recv ", 3 * size, " from ", r);
    }
    check_calls({group});
    nccl.broadcast(spread, root).wait();
    check_calls({concat("Broadcast ", 6 * size, " uint8 from ", root)});
    BOOST_TEST(at::equal(spread.cpu(), numbered(root, 6, dtype)));
    for (int r = 0; r < n; ++r) {
      const auto block = [&](const at::Tensor& all, int64_t count) {
        return all.cpu().narrow(0, r * count, count);
      };
      BOOST_TEST(at::equal(block(full, 5), numbered(r, 5, dtype)));
      if (rank == root) BOOST_TEST(at::equal(block(on_root, 5), numbered(r, 5, dtype)));
      BOOST_TEST(at::equal(block(receive, 3), numbered(r, n * 3, dtype).narrow(0, rank * 3, 3)));
    }
  }
}

BOOST_AUTO_TEST_CASE(reductions_have_their_dtype_and_operation) {
  for (const auto& [dtype, name] : {std::pair(at::kFloat, "float32"),
                                    {at::kDouble, "float64"},
                                    {at::kInt, "int32"},
                                    {at::kLong, "int64"},
                                    {at::kByte, "uint8"}}) {
    const at::Tensor sum = there(numbered(rank, 4, dtype)), most = sum.clone(), least = sum.clone();
    nccl.all_reduce(sum, ReduceOp::kSum).wait();
    nccl.all_reduce(most, ReduceOp::kMax).wait();
    nccl.all_reduce(least, ReduceOp::kMin).wait();
    check_calls({concat("AllReduce 4 ", name, " sum"), concat("AllReduce 4 ", name, " max"),
                 concat("AllReduce 4 ", name, " min")});
    at::Tensor expected = at::zeros({4}, dtype);
    for (int r = 0; r < n; ++r) expected += numbered(r, 4, dtype);
    BOOST_TEST(at::equal(sum.cpu(), expected));
    BOOST_TEST(at::equal(most.cpu(), numbered(n - 1, 4, dtype)));
    BOOST_TEST(at::equal(least.cpu(), numbered(0, 4, dtype)));
  }
  nccl.barrier();
  check_calls({"AllReduce 1 int32 sum"});
}

// The host goes on, and nothing is there yet; what is under way is kept.
BOOST_AUTO_TEST_CASE(a_result_is_there_after_the_wait_and_not_before) {
  const at::Tensor first = room(n * 5).zero_(), second = room(n * 3).zero_();
  const auto others_are_spoilt = [&](const at::Tensor& all, int64_t count) {
    const at::Tensor other = all.cpu().narrow(0, (rank + 1) % n * count, count);
    return n == 1 || other.isnan().all().item<bool>();
  };
  Pending gathered = nccl.all_gather(there(numbered(rank, 5)), first);
  Pending exchanged = nccl.all_to_all(there(numbered(rank, n * 3)), second);
  const at::Tensor other = there(numbered(7, n * 3));  // Where the freed ones would have been.
  BOOST_TEST(others_are_spoilt(first, 5));
  gathered.wait();
  BOOST_TEST(at::equal(first.cpu().narrow(0, 0, 5), numbered(0, 5)));
  BOOST_TEST(others_are_spoilt(second, 3));
  exchanged.wait();
  BOOST_TEST(at::equal(second.cpu().narrow(0, 0, 3), numbered(0, n * 3).narrow(0, rank * 3, 3)));
  BOOST_TEST(other.cpu()[0].item<float>() == 70.0F);
}

BOOST_AUTO_TEST_CASE(errors_are_named_at_once_or_at_the_wait) {
  if (n == 1) return;
  const at::Tensor tensor = there(numbered(rank, 4));
  const at::Tensor full = room(n * 4);
  NcclDouble::own().fail_next("ncclAllReduce");
  try {
    nccl.all_reduce(tensor, ReduceOp::kSum).wait();
    BOOST_TEST(false, "it did not fail");
  } catch (const CommError& error) {
    BOOST_TEST(says(error.what(), "ncclAllReduce failed: invalid usage (a cable is loose)"));
  }
  BOOST_TEST(message_of(nccl.all_gather(tensor, full)) == "no error");
  BOOST_CHECK_THROW(nccl.all_reduce(numbered(rank, 4), ReduceOp::kSum).wait(),
                    std::invalid_argument);  // Of the host.
  // Ranks that want different things: the double does nothing, and says so when it is asked.
  Pending differing = nccl.all_reduce(tensor.narrow(0, 0, rank == 0 ? 1 : 2), ReduceOp::kSum);
  Pending next = nccl.all_reduce(tensor, ReduceOp::kSum);
  differing.wait();
  BOOST_TEST(says(message_of(std::move(next)), "a collective of NCCL failed: invalid usage"));
  NcclDouble::own().take_calls();
}

BOOST_AUTO_TEST_CASE(it_ends_as_it_should_and_leaves_nothing) {
  const int64_t before = testing::num_cuda_handles();
  { const NcclCommunicator own(world, testing::accelerator()); }
  BOOST_TEST(NcclDouble::own().last_end == "Destroy");
  const auto fail = [&] {
    NcclCommunicator own(world, testing::accelerator());
    const at::Tensor tensor = there(numbered(rank, 4));
    const Pending never = own.all_reduce(tensor, ReduceOp::kSum);
    throw std::runtime_error("a peer may never come");
  };
  BOOST_CHECK_THROW(fail(), std::runtime_error);
  BOOST_TEST(NcclDouble::own().last_end == "Abort");
  BOOST_TEST(testing::num_cuda_handles() == before);
  NcclDouble::own().take_calls();
}

// Each unit's weights and gradients are on the way while others are computed with.
BOOST_DATA_TEST_CASE_F(NcclFixture, every_stage_gives_the_bits_of_one_rank,
                       data::make({"full", "qlora"}) * data::make({0, 1, 2, 3}), name, stage) {
  const Variant variant{.stage = stage,
                        .dtype = at::kBFloat16,
                        .head_dim = 16,
                        .method = testing::method_of(name),
                        .num_steps = 2};
  testing::check_equal(testing::train(nccl, variant), testing::alone(self, name, variant));
  NcclDouble::own().take_calls();
}

// More ranks ask no more of the device, but for what all agree on once a step.
BOOST_DATA_TEST_CASE_F(NcclFixture, a_step_waits_and_copies_as_little_as_alone,
                       data::make({0, 2, 3}), stage) {
  const Variant variant{.stage = stage, .dtype = at::kBFloat16, .head_dim = 16};
  const StepCounts one = testing::counts_of_steps(nccl, variant, 1);
  const StepCounts two = testing::counts_of_steps(nccl, variant, 2);
  const testing::DeviceCounts micro_batch = two.last.since(one.last), &step = one.last;
  BOOST_TEST(micro_batch.waits == 1, testing::to_text(micro_batch));
  BOOST_TEST(micro_batch.copies_in == 4);
  BOOST_TEST(micro_batch.copies_out == 1);
  // What all ranks agree on: the loss and the norm, once a step; and the host waits for each.
  BOOST_TEST(step.waits == 2 + 2, testing::to_text(step));
  BOOST_TEST(step.copies_in == 4 + 2);
  BOOST_TEST(step.copies_out == 2 + 2);
  BOOST_TEST(one.allocations_after_first == 0);
  BOOST_TEST(two.allocations_after_first == 0);
  NcclDouble::own().take_calls();
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

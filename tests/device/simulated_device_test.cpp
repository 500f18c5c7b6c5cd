// SPDX-License-Identifier: Apache-2.0
// The simulated device finds what it is there to find.
#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <csignal>

#include "model/ops/attention.h"
#include "model/ops/backward.h"
#include "support/simulated_device/device_counts.h"
#include "support/simulated_device/host_views.h"

namespace temper {
namespace {

using testing::device_counts;
using testing::DeviceCounts;
using testing::simulated_device;

at::Tensor numbers() { return at::arange(12, at::kFloat).view({3, 4}); }

// The signal that ends a process which calls `function`, or 0.
template <typename Function>
int signal_of(Function function) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    function();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

BOOST_AUTO_TEST_SUITE(simulated)

BOOST_AUTO_TEST_CASE(libtorch_takes_it_for_its_accelerator) {
  BOOST_TEST((at::getAccelerator() == at::DeviceType::PrivateUse1));
}

BOOST_AUTO_TEST_CASE(the_host_cannot_read_or_write_its_memory) {
  const at::Tensor x = numbers().to(simulated_device());
  volatile float sink = 0.0F;
  BOOST_TEST(signal_of([&] { sink = x.const_data_ptr<float>()[0]; }) == SIGSEGV);
  BOOST_TEST(signal_of([&] { x.mutable_data_ptr<float>()[0] = sink; }) == SIGSEGV);
  BOOST_TEST(signal_of([&] { sink = x.cpu().const_data_ptr<float>()[0]; }) == 0);
}

BOOST_AUTO_TEST_CASE(operators_and_views_are_those_of_the_cpu) {
  const at::Tensor host = numbers(), x = host.to(simulated_device());
  const auto check = [](const at::Tensor& on_device, const at::Tensor& expected) {
    BOOST_TEST(on_device.device() == simulated_device());
    BOOST_TEST(at::equal(on_device.cpu(), expected));
  };
  check(x.t().narrow(0, 1, 2).mul(2.0), host.t().narrow(0, 1, 2).mul(2.0));
  check(at::softmax(x, 1), at::softmax(host, 1));
  check(x.mm(x.t()).sum(0), host.mm(host.t()).sum(0));
  check(at::cat({x, x.add(1.0)}, 1), at::cat({host, host.add(1.0)}, 1));
  check(x.to(at::kBFloat16).to(at::kFloat), host);
  const at::Tensor changed = x.clone();
  changed.select(0, 1).zero_();  // Through a view.
  BOOST_TEST(changed.cpu().select(0, 1).abs().sum().item<float>() == 0.0F);
  BOOST_TEST(changed.cpu().select(0, 2)[3].item<float>() == 11.0F);
}

BOOST_AUTO_TEST_CASE(gradients_pass_through_it) {
  const at::Tensor x = numbers().to(simulated_device()).requires_grad_();
  x.mul(x).sum().backward();
  BOOST_TEST(at::equal(x.grad().cpu(), numbers().mul(2.0)));
}

BOOST_AUTO_TEST_CASE(a_tensor_of_the_host_is_refused_beside_its_own) {
  const at::Tensor x = numbers().to(simulated_device());
  BOOST_CHECK_THROW(x.add(numbers()), std::exception);
  BOOST_CHECK_THROW(x.index_select(0, at::tensor({0, 1}, at::kLong)), std::exception);
}

BOOST_AUTO_TEST_CASE(what_was_not_written_is_nan) {
  const at::Tensor x = at::empty({3}, at::TensorOptions(simulated_device()).dtype(at::kFloat));
  BOOST_TEST(x.cpu().isnan().all().item<bool>());
}

BOOST_AUTO_TEST_CASE(what_is_copied_without_a_wait_is_there_after_one) {
  const at::Tensor x = numbers().to(simulated_device()), host = numbers().pin_memory();
  host.copy_(x.mul(2.0), /*non_blocking=*/true);
  BOOST_TEST(host.isnan().all().item<bool>());
  x.select(0, 0).select(0, 0).item<float>();
  BOOST_TEST(at::equal(host, numbers().mul(2.0)));
}

BOOST_AUTO_TEST_CASE(what_is_being_copied_may_not_be_changed) {
  const at::Tensor host = numbers().pin_memory();
  const at::Tensor x = host.to(simulated_device(), /*non_blocking=*/true);
  host.add_(1.0);
  BOOST_CHECK_THROW(x.cpu(), std::logic_error);
  BOOST_TEST(at::equal(x.cpu(), numbers()));
  host.add_(1.0);  // It is over.
  BOOST_TEST(at::equal(x.cpu(), numbers()));
}

BOOST_AUTO_TEST_CASE(launches_copies_waits_and_memory_are_counted) {
  const DeviceCounts start = device_counts();
  const at::Tensor x = numbers().to(simulated_device());
  DeviceCounts counts = device_counts().since(start);
  BOOST_TEST(counts.copies_in == 1);
  BOOST_TEST(counts.bytes_in == 48);
  BOOST_TEST(counts.waits == 1);
  numbers().pin_memory().to(simulated_device(), /*non_blocking=*/true);
  counts = device_counts().since(start);
  BOOST_TEST(counts.copies_in == 2);
  BOOST_TEST(counts.waits == 1);
  x.view({4, 3}).t().narrow(0, 0, 1);
  BOOST_TEST(device_counts().since(start).launches == 0);
  const at::Tensor y = x.add(1.0);
  BOOST_TEST(device_counts().since(start).launches == 1);
  y.sum().item<float>();
  counts = device_counts().since(start);
  BOOST_TEST(counts.copies_out == 1);
  BOOST_TEST(counts.waits == 2);
  at::nonzero(x);
  BOOST_TEST(device_counts().since(start).waits == 3);
  const int64_t before = device_counts().allocations;
  for (int i = 0; i < 3; ++i) x.add(1.0);  // Served by what the first one leaves.
  BOOST_TEST(device_counts().allocations <= before + 1);
}

BOOST_AUTO_TEST_CASE(fused_attention_is_one_launch_forward_and_one_backward) {
  const Heads heads{.num_heads = 4, .num_key_value_heads = 2, .head_dim = 8};
  const at::Tensor qkv =
      at::zeros({9, heads.columns()}, at::TensorOptions(simulated_device()).dtype(at::kBFloat16));
  const DeviceCounts start = device_counts();
  const GraphPass graph(qkv, [&](const at::Tensor& input) {
    return attention(input, heads, {{0, 2, 9}, 3});
  });
  DeviceCounts counts = device_counts().since(start);
  BOOST_TEST(counts.by_operator["aten::_flash_attention_forward"] == 1);
  BOOST_TEST(counts.launches == 2);  // The other one: where documents begin, as int32.
  graph.backward(graph.output());
  counts = device_counts().since(start);
  BOOST_TEST(counts.by_operator["aten::_flash_attention_backward"] == 1);
  BOOST_TEST(counts.waits == 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

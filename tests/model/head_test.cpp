// SPDX-License-Identifier: Apache-2.0
// How the output head cuts its work into chunks.
#include "model/head.h"

#include <ATen/ATen.h>

#include <boost/test/data/monomorphic.hpp>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <memory>

#include "core/targets.h"

namespace temper {
namespace {

constexpr int64_t kRows = 512, kHidden = 8, kWords = 40;

// Of the matrix, after a pass in bf16 in chunks of so many rows.
at::Tensor matrix_gradient(const at::Tensor& hidden, const at::Tensor& matrix,
                           const at::Tensor& targets, int64_t rows_of_chunk) {
  auto buffers = std::make_shared<UnitBuffers>();
  buffers->weights = at::cat({matrix.flatten(), at::ones({kHidden})}).to(at::kBFloat16);
  buffers->gradients = at::full_like(buffers->weights, std::nan(""));
  const Head head({Weight(buffers, kWords * kHidden, {kHidden}), {}}, {.epsilon = 1e-5},
                  Weight(buffers, 0, {kWords, kHidden}), {}, {.bytes = 1, .rows = rows_of_chunk});
  head.loss_and_gradient(hidden.to(at::kBFloat16), targets);
  return buffers->gradients.narrow(0, 0, kWords * kHidden).view({kWords, kHidden}).to(at::kDouble);
}

// The same in fp64, from the same rounded numbers.
at::Tensor exact_gradient(const at::Tensor& hidden, const at::Tensor& matrix,
                          const at::Tensor& targets) {
  const at::Tensor x = hidden.to(at::kBFloat16).to(at::kDouble);
  const at::Tensor rms = x.pow(2).mean(1, true).add(1e-5).sqrt();
  const at::Tensor normed = x.div(rms).to(at::kBFloat16).to(at::kDouble);
  const at::Tensor w = matrix.to(at::kBFloat16).to(at::kDouble);
  const at::Tensor probabilities = at::softmax(at::mm(normed, w.t()), 1);
  const at::Tensor own = at::one_hot(targets, kWords).to(at::kDouble);
  return at::mm((probabilities - own).t(), normed);
}

BOOST_AUTO_TEST_SUITE(head)

// All rows have one target and about the same sign, so that the sum grows from chunk to chunk, and
// an addend is small beside it.
BOOST_AUTO_TEST_CASE(the_error_of_its_gradient_does_not_grow_with_the_number_of_chunks) {
  at::manual_seed(3);
  const at::Tensor hidden = at::rand({kRows, kHidden}) + 0.2;
  const at::Tensor matrix = at::randn({kWords, kHidden}) * 0.1;
  const at::Tensor targets = at::zeros({kRows}, at::kLong);
  const at::Tensor exact = exact_gradient(hidden, matrix, targets);
  const auto error = [&](int64_t rows_of_chunk) {
    const at::Tensor found = matrix_gradient(hidden, matrix, targets, rows_of_chunk);
    return ((found - exact).norm() / exact.norm()).item<double>();
  };
  const double in_one = error(kRows);
  BOOST_TEST(in_one < 5e-3);
  for (const int64_t num_chunks : {4, 32, 256}) {
    BOOST_TEST(error(kRows / num_chunks) < 1.5 * in_one, num_chunks << " chunks");
  }
}

struct NearHeads {
  at::Tensor hidden, targets, other_hidden, matrix, other_matrix;
};

NearHeads near_heads() {
  at::manual_seed(7);
  at::Tensor targets = at::randint(kWords, {kRows}, at::kLong);
  targets.narrow(0, 100, 50).fill_(kNoTarget);
  const at::Tensor hidden = at::randn({kRows, kHidden}), matrix = at::randn({kWords, kHidden});
  return {hidden, targets, hidden + 0.3 * at::randn({kRows, kHidden}), matrix,
          matrix + 0.3 * at::randn({kWords, kHidden})};
}

Head head_of(const at::Tensor& matrix, at::ScalarType dtype, bool is_trained,
             std::shared_ptr<UnitBuffers> buffers, LogitRule rule = {}) {
  buffers->weights = at::cat({matrix.flatten(), at::ones({kHidden})}).to(dtype);
  if (is_trained) buffers->gradients = at::full_like(buffers->weights, std::nan(""));
  return {{Weight(buffers, kWords * kHidden, {kHidden}), {}},
          {.epsilon = 1e-5},
          Weight(buffers, 0, {kWords, kHidden}),
          rule,
          {.bytes = 1, .rows = 200}};
}

// Beside autograd's, in fp64 from the same rounded numbers.
BOOST_DATA_TEST_CASE(near_another_head_loss_and_gradients_are_those_of_autograd,
                     boost::unit_test::data::make({at::kFloat, at::kBFloat16}) *
                         boost::unit_test::data::make({1.0, 2.0}) *
                         boost::unit_test::data::make({0.0, 3.0}),
                     dtype, temperature, softcap) {
  const NearHeads given = near_heads();
  const auto buffers = std::make_shared<UnitBuffers>(), others = std::make_shared<UnitBuffers>();
  const LogitRule rule{.scale = 0.8, .softcap = softcap};
  const Head head = head_of(given.matrix, dtype, true, buffers, rule);
  const Head other = head_of(given.other_matrix, dtype, false, others, rule);
  const at::Tensor rows = at::nonzero(given.targets.ne(kNoTarget)).squeeze(1);
  const OtherHead near{other,
                       given.other_hidden.to(dtype).index_select(0, rows),
                       {.weight = 0.6, .temperature = temperature}};
  const HeadResult found = head.loss_and_gradient(given.hidden.to(dtype), given.targets, &near);

  const auto normed = [&](const at::Tensor& x) {
    const at::Tensor wide = x.to(dtype).to(at::kDouble);
    return wide.div(wide.pow(2).mean(1, true).add(1e-5).sqrt()).index_select(0, rows);
  };
  const auto rounded = [&](const at::Tensor& x) { return x.to(dtype).to(at::kDouble); };
  const at::Tensor x = normed(given.hidden).set_requires_grad(true);
  const at::Tensor matrix = rounded(given.matrix).set_requires_grad(true);
  const auto ruled = [&](const at::Tensor& product) {
    const at::Tensor scaled = product * rule.scale;
    return softcap > 0.0 ? at::tanh(scaled / softcap) * softcap : scaled;
  };
  const at::Tensor logits = ruled(at::mm(x, matrix.t()));
  const at::Tensor logits_of_other =
      ruled(at::mm(normed(given.other_hidden), rounded(given.other_matrix).t()));
  const at::Tensor own = given.targets.index_select(0, rows);
  const at::Tensor loss = at::cross_entropy_loss(logits, own, {}, at::Reduction::Sum);
  const at::Tensor kl =
      at::kl_div(at::log_softmax(logits / temperature, 1),
                 at::log_softmax(logits_of_other / temperature, 1), at::Reduction::Sum, true)
          .mul(temperature * temperature);
  (loss + 0.6 * kl).backward();

  const double bound = dtype == at::kFloat ? 1e-5 : 2e-2;
  const auto error = [](const at::Tensor& a, const at::Tensor& b) {
    return ((a.to(at::kDouble) - b).norm() / b.norm()).item<double>();
  };
  BOOST_TEST(found.loss_sum == loss.item<double>(), boost::test_tools::tolerance(bound));
  BOOST_TEST(found.kl_sum == kl.item<double>(), boost::test_tools::tolerance(bound));
  const at::Tensor gradient =
      buffers->gradients.narrow(0, 0, kWords * kHidden).view({kWords, kHidden});
  BOOST_TEST(error(gradient, matrix.grad()) < bound);
  BOOST_TEST(found.kl_sum > 0.02 * found.loss_sum);  // It matters.
  BOOST_TEST(others->gradients.defined() == false);
  BOOST_TEST(
      found.hidden_gradient.index_select(0, at::arange(100, 150)).abs().sum().item<float>() ==
      0.0F);
}

BOOST_AUTO_TEST_CASE(the_divergence_from_the_same_head_is_nothing) {
  const NearHeads given = near_heads();
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    const auto buffers = std::make_shared<UnitBuffers>();
    const Head head = head_of(given.matrix, dtype, true, buffers);
    const at::Tensor hidden = given.hidden.to(dtype);
    const HeadResult alone = head.loss_and_gradient(hidden, given.targets);
    const at::Tensor expected = buffers->gradients.clone();
    const at::Tensor rows = at::nonzero(given.targets.ne(kNoTarget)).squeeze(1);
    const OtherHead same{head, hidden.index_select(0, rows), {.weight = 5.0, .temperature = 3.0}};
    const HeadResult found = head.loss_and_gradient(hidden, given.targets, &same);
    BOOST_TEST(found.kl_sum == 0.0);
    BOOST_TEST(found.loss_sum == alone.loss_sum);
    BOOST_TEST(at::equal(buffers->gradients, expected));
  }
}

BOOST_AUTO_TEST_CASE(chunks_have_a_thousand_rows_or_a_hundred_megabytes_of_logits) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  // Llama 3 in bf16: 250 MiB.
  const HeadChunks large(8192, 128256 * 2);
  BOOST_TEST(large.count() == 8);
  BOOST_TEST(large.largest() == 1024);
  const HeadChunks small(8192, 32000 * 2);
  BOOST_TEST(small.count() == 4);
  BOOST_TEST(small.largest() * 32000 * 2 <= 128 * kMiB);
  // Equal, none missing.
  const HeadChunks uneven(2500, 128256 * 2);
  BOOST_TEST(uneven.count() == 3);
  int64_t next = 0;
  for (int64_t i = 0; i < uneven.count(); ++i) {
    BOOST_TEST(uneven[i].begin == next);
    BOOST_TEST(uneven[i].size() <= uneven.largest());
    next = uneven[i].end;
  }
  BOOST_TEST(next == 2500);
  BOOST_TEST(HeadChunks(0, 4).count() == 0);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

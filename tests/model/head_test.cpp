// SPDX-License-Identifier: Apache-2.0
// How the output head cuts its work into chunks.
#include "model/head.h"

#include <ATen/ATen.h>

#include <boost/test/unit_test.hpp>
#include <memory>

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

// SPDX-License-Identifier: Apache-2.0
// Products have the same bits for any number of threads, are right, and occupy many threads.
#include "model/ops/product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <boost/test/unit_test.hpp>
#include <string>
#include <vector>

#include "core/concat.h"
#include "model/ops/one_thread.h"

namespace temper {
namespace {

std::string text_of(const ProductShape& shape) {
  return concat('[', shape.rows, ", ", shape.depth, "] x [", shape.depth, ", ", shape.columns, ']');
}

enum class Layout { kBothPlain, kLeftTransposed, kRightTransposed };

struct Factors {
  at::Tensor a, b;

  Factors(const ProductShape& shape, Layout layout, at::ScalarType dtype) {
    const auto make = [&](int64_t rows, int64_t columns, bool is_transposed) {
      const at::Tensor plain =
          is_transposed ? at::randn({columns, rows}) : at::randn({rows, columns});
      const at::Tensor narrow = plain.to(dtype);
      return is_transposed ? narrow.t() : narrow;
    };
    a = make(shape.rows, shape.depth, layout == Layout::kLeftTransposed);
    b = make(shape.depth, shape.columns, layout == Layout::kRightTransposed);
  }
};

at::Tensor with_threads(int num_threads, const Factors& factors, ProductScales scales) {
  const OneThread restores_their_number;
  at::set_num_threads(num_threads);
  at::Tensor out = at::ones({factors.a.size(0), factors.b.size(1)}, factors.a.options());
  product_out(out, factors.a, factors.b, scales);
  return out;
}

// A product of few rows, as of a short batch; of odd numbers of columns; of thin matrices, as of
// adapters; of big ones, which are LibTorch's; a decoded token's.
const std::vector<ProductShape> kShapes = {
    {1, 192, 64},    {1, 600, 576},   {2, 130, 96},    {5, 576, 192},   {7, 36, 64},
    {11, 300, 130},  {33, 576, 96},   {33, 1000, 80},  {63, 16, 979},   {130, 49, 300},
    {130, 520, 64},  {169, 16, 577},  {173, 672, 60},  {201, 201, 750}, {301, 327, 200},
    {512, 36, 64},   {600, 8, 96},    {600, 300, 8},   {513, 139, 69},  {520, 513, 130},
    {512, 576, 128}, {515, 192, 300}, {700, 528, 128}, {1024, 144, 256}};

BOOST_AUTO_TEST_SUITE(products)

BOOST_AUTO_TEST_CASE(any_number_of_threads_gives_the_same_bits) {
  at::manual_seed(1);
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    for (const ProductShape& shape : kShapes) {
      for (const Layout layout :
           {Layout::kBothPlain, Layout::kLeftTransposed, Layout::kRightTransposed}) {
        // Without instructions for bf16 its products take a hundred times as long.
        const int64_t size = shape.rows * shape.columns * shape.depth;
        if (dtype == at::kBFloat16 && size > 2'000'000) continue;
        const Factors factors(shape, layout, dtype);
        const ProductScales scales{.scale = 0.5F, .keep = 1.0F};
        const at::Tensor alone = with_threads(1, factors, scales);
        for (const int num_threads : {2, 3, 5, 8, 16, 64}) {
          BOOST_TEST(at::equal(with_threads(num_threads, factors, scales), alone),
                     text_of(shape)
                         << " of " << c10::toString(dtype) << ", layout "
                         << static_cast<int>(layout) << ", on " << num_threads << " threads");
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(blocks_make_up_the_product) {
  at::manual_seed(2);
  for (const ProductShape& shape : kShapes) {
    const Factors factors(shape, Layout::kRightTransposed, at::kFloat);
    const at::Tensor expected =
        at::mm(factors.a.to(at::kDouble), factors.b.to(at::kDouble)).mul(0.5).add(2.0);
    const at::Tensor found = with_threads(2, factors, {.scale = 0.5F, .keep = 2.0F});
    BOOST_TEST(at::allclose(found.to(at::kDouble), expected, 1e-5, 1e-4), text_of(shape)
                                                                              << " is wrong");
    BOOST_TEST(at::equal(with_threads(2, factors, {}), with_threads(2, factors, {.keep = 0.0F})));
  }
}

// The head's and a block's products for a short batch, of a model of 8 B parameters: enough blocks
// for 64 threads. One with as many rows as a chunk of the head has is LibTorch's.
BOOST_AUTO_TEST_CASE(a_short_batch_occupies_many_threads) {
  for (const int64_t rows : {2, 16, 130, 500}) {
    for (const ProductShape& shape :
         {ProductShape{rows, 128256, 4096}, {rows, 28672, 4096}, {rows, 4096 * 2, 4096}}) {
      BOOST_TEST(product_blocks(shape, at::kBFloat16).count(shape) >= 32, text_of(shape)
                                                                              << " is cut in few");
    }
  }
  BOOST_TEST(product_blocks({1024, 128256, 4096}, at::kBFloat16).is_whole);
  BOOST_TEST(product_blocks({1024, 128256, 4096}, at::kFloat).is_whole);
  BOOST_TEST(product_blocks({1024, 128257, 4096}, at::kFloat).count({1024, 128257, 4096}) > 500);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

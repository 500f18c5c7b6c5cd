// SPDX-License-Identifier: Apache-2.0
// Products have the same bits for any number of threads, are right, and occupy many threads.
#include "model/ops/product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <boost/test/unit_test.hpp>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/concat.h"
#include "model/ops/one_thread.h"
#include "model/ops/rows.h"

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
// adapters; of big ones; a decoded token's.
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

// Of a model of 8 B parameters the head's products, for a chunk and for what is left of one, and a
// block's for a short batch and a longer one.
const std::vector<ProductShape> kLargeShapes = {
    {2, 128256, 4096},   {130, 128256, 4096}, {1024, 128256, 4096}, {1024, 128257, 4096},
    {16, 28672, 4096},   {500, 28672, 4096},  {130, 8192, 4096},    {500, 4096, 14336},
    {1024, 4096, 4096},  {1024, 1024, 4096},  {2048, 6144, 4096},   {8192, 28672, 4096},
    {128256, 4096, 1024}};

BOOST_AUTO_TEST_CASE(a_large_product_occupies_many_threads) {
  for (const ProductShape& shape : kLargeShapes) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const ProductBlocks blocks = product_blocks(shape, dtype);
      BOOST_TEST((blocks.is_whole || blocks.count(shape) >= 32), text_of(shape)
                                                                     << " is cut in few");
      if (dtype == at::kBFloat16) BOOST_TEST(!blocks.is_whole, text_of(shape) << " is whole");
    }
  }
}

// Threads that computed with ATen, and the largest number of them that one of them saw: of what it
// calls, some plans for as many.
std::mutex seen_mutex;
std::set<std::thread::id> seen_threads;
int most_threads_seen = 0;

std::unique_ptr<at::ObserverContext> note_thread(const at::RecordFunction& operation) {
  if (std::string_view(operation.name()) != "aten::addmm_") return nullptr;
  const std::lock_guard lock(seen_mutex);
  seen_threads.insert(std::this_thread::get_id());
  most_threads_seen = std::max(most_threads_seen, at::get_num_threads());
  return nullptr;
}

// Of the large products, with their blocks and less depth.
BOOST_AUTO_TEST_CASE(each_thread_computes_blocks_and_sees_no_other) {
  const auto handle = at::addGlobalCallback(at::RecordFunctionCallback(&note_thread));
  for (const ProductShape& large : {ProductShape{130, 4096, 128}, {2, 9000, 40}, {600, 900, 128}}) {
    seen_threads.clear();
    most_threads_seen = 0;
    with_threads(16, Factors(large, Layout::kRightTransposed, at::kBFloat16), {});
    BOOST_TEST(seen_threads.size() == 16U, text_of(large));
    BOOST_TEST(most_threads_seen == 1, text_of(large));
  }
  at::removeCallback(handle);
}

// In fp32 no operation of ATen can be counted.
BOOST_AUTO_TEST_CASE(every_thread_takes_part_in_tasks) {
  const OneThread restores_their_number;
  at::set_num_threads(16);
  for (const int64_t num_tasks : {0, 1, 7, 16, 17, 100}) {
    std::mutex mutex;
    std::set<std::thread::id> threads;
    std::multiset<int64_t> tasks;
    run_tasks(num_tasks, [&](int64_t task) {
      const std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
      tasks.insert(task);
    });
    BOOST_TEST(std::ssize(threads) == std::min<int64_t>(16, num_tasks));
    BOOST_TEST(std::ssize(tasks) == num_tasks);
    BOOST_TEST(std::ssize(std::set(tasks.begin(), tasks.end())) == num_tasks);
  }
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
// Products have the same bits for any number of threads, are right, and occupy many threads.
#include "model/ops/product.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <algorithm>
#include <array>
#include <boost/test/unit_test.hpp>
#include <cmath>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "core/concat.h"
#include "model/ops/one_thread.h"
#include "model/ops/rows.h"
#include "model/ops/thin_tiles.h"
#include "model/ops/tile_product.h"

namespace temper {
namespace {

enum class Layout { kBothPlain, kLeftTransposed, kRightTransposed, kBothTransposed };
constexpr Layout kLayouts[] = {Layout::kBothPlain, Layout::kLeftTransposed,
                               Layout::kRightTransposed, Layout::kBothTransposed};

struct Dtypes {
  at::ScalarType a, b, out;
};
constexpr Dtypes kDtypes[] = {{at::kFloat, at::kFloat, at::kFloat},
                              {at::kBFloat16, at::kBFloat16, at::kBFloat16},
                              {at::kBFloat16, at::kBFloat16, at::kFloat},
                              {at::kBFloat16, at::kFloat, at::kFloat},
                              {at::kFloat, at::kBFloat16, at::kBFloat16}};

struct Product {
  ProductShape shape;
  Layout layout;
  Dtypes dtypes;

  std::string text() const {
    return concat('[', shape.rows, ", ", shape.depth, "] x [", shape.depth, ", ", shape.columns,
                  "], layout ", static_cast<int>(layout), ", ", c10::toString(dtypes.a), " by ",
                  c10::toString(dtypes.b), " to ", c10::toString(dtypes.out));
  }
};

struct Factors {
  at::Tensor a, b;

  explicit Factors(const Product& product) {
    const auto make = [&](int64_t rows, int64_t columns, bool is_transposed, at::ScalarType dtype) {
      const at::Tensor plain =
          is_transposed ? at::randn({columns, rows}) : at::randn({rows, columns});
      const at::Tensor narrow = plain.to(dtype);
      return is_transposed ? narrow.t() : narrow;
    };
    const auto [rows, columns, depth] = product.shape;
    const bool both = product.layout == Layout::kBothTransposed;
    a = make(rows, depth, both || product.layout == Layout::kLeftTransposed, product.dtypes.a);
    b = make(depth, columns, both || product.layout == Layout::kRightTransposed, product.dtypes.b);
  }

  at::Tensor exact() const {
    const bool is_narrow = a.scalar_type() == at::kBFloat16 || b.scalar_type() == at::kBFloat16;
    return multiplied(a, b, is_narrow);
  }

  // Of numbers that are rounded to bf16 first, where the processor multiplies them.
  static at::Tensor multiplied(const at::Tensor& a, const at::Tensor& b, bool is_narrow) {
    const bool rounds = is_narrow && has_bfloat16_tiles();
    const auto factor = [&](const at::Tensor& numbers) {
      return (rounds ? numbers.to(at::kBFloat16) : numbers).to(at::kDouble);
    };
    return at::mm(factor(a), factor(b));
  }
};

at::Tensor with_threads(int num_threads, const Factors& factors, at::ScalarType dtype,
                        ProductScales scales = {}) {
  const OneThread restores_their_number;
  at::set_num_threads(num_threads);
  at::Tensor out = at::ones({factors.a.size(0), factors.b.size(1)}, dtype);
  if (scales.keep == 0.0F) out.fill_(NAN);
  product_out(out, factors.a, factors.b, scales);
  return out;
}

// A product of few rows, as of a short batch; of odd numbers; of thin matrices, as of adapters; a
// decoded token's; and some whose rows, columns or depth come in several pieces.
const std::vector<ProductShape> kShapes = {
    {1, 192, 64},    {1, 600, 576},   {2, 130, 96},     {5, 576, 192},   {7, 36, 64},
    {11, 300, 130},  {33, 576, 96},   {33, 1000, 80},   {63, 16, 979},   {130, 49, 300},
    {130, 520, 64},  {169, 16, 577},  {173, 672, 60},   {201, 201, 750}, {301, 327, 200},
    {512, 36, 64},   {600, 8, 96},    {600, 300, 8},    {513, 139, 69},  {520, 513, 130},
    {512, 576, 128}, {515, 192, 300}, {1024, 144, 256}, {40, 33, 1},     {4200, 70, 50},
    {70, 1100, 6200}};

template <typename Function>
void for_each_product(Function function) {
  for (const ProductShape& shape : kShapes) {
    for (const Layout layout : kLayouts) {
      for (const Dtypes& dtypes : kDtypes) function(Product{shape, layout, dtypes});
    }
  }
}

BOOST_AUTO_TEST_SUITE(products)

BOOST_AUTO_TEST_CASE(any_number_of_threads_gives_the_same_bits) {
  at::manual_seed(1);
  for_each_product([](const Product& product) {
    const Factors factors(product);
    const ProductScales scales{.scale = 0.5F, .keep = 1.0F};
    const at::Tensor alone = with_threads(1, factors, product.dtypes.out, scales);
    for (const int num_threads : {2, 5, 16}) {
      BOOST_TEST(at::equal(with_threads(num_threads, factors, product.dtypes.out, scales), alone),
                 product.text() << " on " << num_threads << " threads");
    }
  });
}

// A row's sums do not depend on those beside it: not on the micro-batch that it comes in.
BOOST_AUTO_TEST_CASE(rows_have_the_same_bits_in_any_company) {
  at::manual_seed(3);
  for_each_product([](const Product& product) {
    Factors factors(product);
    const at::Tensor all = with_threads(2, factors, product.dtypes.out);
    const int64_t first = product.shape.rows / 3, count = (product.shape.rows + 5) / 6;
    factors.a = factors.a.narrow(0, first, count);
    BOOST_TEST(at::equal(with_threads(2, factors, product.dtypes.out), all.narrow(0, first, count)),
               product.text());
  });
}

// Of weights as they lie in memory with few tokens, by kernels of their own: with one and more
// blocks of depth, whole vectors and a rest, and rows that begin at odd numbers.
BOOST_AUTO_TEST_CASE(few_rows_have_the_bits_that_they_have_among_many) {
  at::manual_seed(6);
  constexpr int64_t kRows = 40;
  for (const int64_t depth : {32, 576, 1600, 1610, 4096}) {
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      for (const int64_t gap : {0, 1}) {
        Factors factors({{kRows, 150, depth}, Layout::kRightTransposed, {dtype, dtype, dtype}});
        factors.b = at::randn({150, depth + gap}).to(dtype).narrow(1, 0, depth).t();
        const at::Tensor all = with_threads(2, factors, at::kFloat);
        const at::Tensor rows = factors.a;
        for (const int64_t count : {1, 2, 4, 5, 8, 9, 16}) {
          factors.a = rows.narrow(0, kRows - count, count);
          BOOST_TEST(
              at::equal(with_threads(2, factors, at::kFloat), all.narrow(0, kRows - count, count)),
              count << " rows of depth " << depth << " in " << c10::toString(dtype));
        }
      }
    }
  }
}

#if defined(__x86_64__)
// Tiles of AMX add up otherwise.
bool has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 22 & 1) != 0;
}

BOOST_AUTO_TEST_CASE(servers_have_kernels_for_few_rows) {
  if (!__builtin_cpu_supports("avx512bw")) return;
  BOOST_TEST(has_thin_tiles<float>({64, 16, 576}, 576));
  BOOST_TEST(!has_thin_tiles<float>({64, 16, 580}, 580));
  if (!has_bfloat16_tiles() || has_amx()) return;
  BOOST_TEST(has_thin_tiles<at::BFloat16>({64, 16, 576}, 576));
  BOOST_TEST(!has_thin_tiles<at::BFloat16>({64, 16, 576}, 577));
}
#endif

BOOST_AUTO_TEST_CASE(tiles_make_up_the_product) {
  at::manual_seed(2);
  for_each_product([](const Product& product) {
    const Factors factors(product);
    const double root = std::sqrt(static_cast<double>(product.shape.depth));
    const at::Tensor exact = factors.exact().mul(0.5).add(2.0);
    const ProductScales scales{.scale = 0.5F, .keep = 2.0F};
    const at::Tensor wide = with_threads(2, factors, at::kFloat, scales);
    BOOST_TEST(at::allclose(wide.to(at::kDouble), exact, 1e-5, 4e-6 * root), product.text());
    // What was there is not read where nothing of it is kept.
    const at::Tensor plain = with_threads(2, factors, at::kFloat, {.scale = 0.5F});
    BOOST_TEST(at::allclose(plain.to(at::kDouble), exact - 2.0, 1e-5, 4e-6 * root));
    // Rounded once.
    const at::Tensor narrow = with_threads(2, factors, at::kBFloat16, scales);
    BOOST_TEST(at::equal(narrow, wide.to(at::kBFloat16)), product.text() << " is rounded twice");
  });
}

// Of some columns, with a depth of their own; by fp32 numbers beside bf16, as of adapters.
std::vector<ProductTerm> terms_of(const ProductShape& shape, at::ScalarType dtype, int64_t depth) {
  const int64_t first = shape.columns / 3, count = (shape.columns - first + 1) / 2;
  return {{at::randn({shape.rows, depth}).to(dtype), at::randn({depth, count}), first},
          {at::randn({shape.rows, 3 * depth}).narrow(1, depth, depth).to(dtype),
           at::randn({shape.columns, depth}).t(), 0},
          {at::randn({shape.rows, 6}), at::randn({6, std::min<int64_t>(64, shape.columns)}), 0}};
}

at::Tensor with_terms(int num_threads, const Factors& factors, std::span<const ProductTerm> terms,
                      at::ScalarType dtype = at::kFloat) {
  const OneThread restores_their_number;
  at::set_num_threads(num_threads);
  at::Tensor out = at::ones({factors.a.size(0), factors.b.size(1)}, dtype);
  product_out(out, factors.a, factors.b, {.scale = 0.5F, .keep = 2.0F}, terms);
  return out;
}

// Of few numbers and many: of more than a block's depth.
BOOST_AUTO_TEST_CASE(terms_are_part_of_the_sum) {
  at::manual_seed(4);
  for (size_t i = 0; i < kShapes.size(); ++i) {
    const ProductShape& shape = kShapes[i];
    const int64_t depth = std::array<int64_t, 3>{5, 16, 900}[i % 3];
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      const Product product{shape, Layout::kRightTransposed, {dtype, dtype, at::kFloat}};
      const Factors factors(product);
      const std::vector<ProductTerm> terms = terms_of(shape, dtype, depth);
      at::Tensor exact = factors.exact();
      for (const auto& [a, b, column] : terms) {
        exact.narrow(1, column, b.size(1)).add_(Factors::multiplied(a, b, dtype == at::kBFloat16));
      }
      exact.mul_(0.5).add_(2.0);
      const double root = std::sqrt(static_cast<double>(shape.depth + 2 * depth));
      const at::Tensor sum = with_terms(1, factors, terms);
      BOOST_TEST(at::allclose(sum.to(at::kDouble), exact, 1e-5, 4e-6 * root), product.text());
      BOOST_TEST(at::equal(with_terms(5, factors, terms), sum), product.text() << ", threads");
      const at::Tensor narrow = with_terms(2, factors, terms, at::kBFloat16);
      BOOST_TEST(at::equal(narrow, sum.to(at::kBFloat16)), product.text() << ", twice rounded");
    }
  }
}

BOOST_AUTO_TEST_CASE(terms_of_rows_have_the_same_bits_in_any_company) {
  at::manual_seed(5);
  for (const ProductShape& shape : kShapes) {
    const Product product{
        shape, Layout::kRightTransposed, {at::kBFloat16, at::kBFloat16, at::kFloat}};
    Factors factors(product);
    std::vector<ProductTerm> terms = terms_of(shape, at::kBFloat16, 16);
    const at::Tensor all = with_terms(2, factors, terms);
    const int64_t first = shape.rows / 3, count = (shape.rows + 5) / 6;
    factors.a = factors.a.narrow(0, first, count);
    for (ProductTerm& term : terms) term.a = term.a.narrow(0, first, count);
    BOOST_TEST(at::equal(with_terms(2, factors, terms), all.narrow(0, first, count)),
               product.text());
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
    BOOST_TEST(num_product_tasks(shape) >= 32,
               shape.rows << " rows, " << shape.columns << " columns are cut in few");
  }
}

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

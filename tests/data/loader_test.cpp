// SPDX-License-Identifier: Apache-2.0
#include "data/loader.h"

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <cerrno>
#include <latch>
#include <map>

#include "core/error.h"
#include "io/says.h"

namespace {

int num_threads_allowed = 1000;  // Further ones fail, as with ulimit -u.

}  // namespace

// Stands before libc's.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*work)(void*), void* argument) noexcept {
  if (num_threads_allowed-- <= 0) return EAGAIN;
  using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  static const auto create = reinterpret_cast<Create>(::dlsym(RTLD_NEXT, "pthread_create"));
  return create(thread, attributes, work, argument);
}

namespace temper {
namespace {

namespace data = boost::unit_test::data;

MicroBatch named(int64_t index) {
  MicroBatch batch;
  batch.tokens = {index};
  return batch;
}

BOOST_AUTO_TEST_SUITE(loader)

BOOST_DATA_TEST_CASE(batches_come_in_order_with_any_threads_and_depth,
                     data::xrange(1, 5) * data::make({1, 2, 7}), num_threads, depth) {
  Loader loader(named, {.first = 5, .per_step = 3, .rank = 1, .num_ranks = 3},
                {.num_threads = num_threads, .depth = depth});
  for (int64_t number = 0; number < 200; ++number) {
    BOOST_REQUIRE_EQUAL(loader.next().tokens[0], 6 + 3 * number);
  }
}

// Whether they divide or not, and in the order in which one rank would take them.
BOOST_DATA_TEST_CASE(ranks_take_each_micro_batch_of_a_step_once,
                     data::xrange(1, 8) * data::xrange(1, 8), num_ranks, num_more) {
  const int64_t per_step = num_ranks + num_more - 1;
  std::map<int64_t, int64_t> taken;  // By index, the rank.
  for (int64_t rank = 0; rank < num_ranks; ++rank) {
    const RankSequence own{.first = 10, .per_step = per_step, .rank = rank, .num_ranks = num_ranks};
    for (int64_t number = 0; number < 3 * own.own_per_step(); ++number) {
      BOOST_REQUIRE(taken.emplace(own.index(number), rank).second);
    }
  }
  BOOST_TEST(std::ssize(taken) == 3 * per_step);
  for (const auto& [index, rank] : taken) {
    BOOST_TEST(rank == (index - 10) % per_step % num_ranks);
    BOOST_TEST((index >= 10 && index < 10 + 3 * per_step));
  }
}

BOOST_AUTO_TEST_CASE(a_batch_that_is_read_first_waits_for_its_turn) {
  std::latch second_is_read(1);
  Loader loader(
      [&](int64_t index) {
        if (index == 0) second_is_read.wait();
        if (index == 1) second_is_read.count_down();
        return named(index);
      },
      {}, {.num_threads = 2, .depth = 2});
  BOOST_TEST(loader.next().tokens[0] == 0);
  BOOST_TEST(loader.next().tokens[0] == 1);
}

BOOST_AUTO_TEST_CASE(no_more_than_the_depth_is_read_ahead) {
  std::atomic<int64_t> num_begun = 0;
  std::atomic<int64_t> num_given = 0;
  std::atomic<int64_t> most_ahead = 0;
  Loader loader(
      [&](int64_t index) {
        const int64_t ahead = ++num_begun - num_given;
        if (ahead > most_ahead) most_ahead = ahead;
        return named(index);
      },
      {}, {.num_threads = 4, .depth = 3});
  for (int k = 0; k < 300; ++k) {
    loader.next();
    ++num_given;
  }
  BOOST_TEST(most_ahead <= 3 + 1);  // The consumer counts after it has taken.
  BOOST_TEST(most_ahead >= 1);
}

BOOST_AUTO_TEST_CASE(an_error_reaches_the_consumer_at_its_place) {
  Loader loader(
      [](int64_t index) {
        if (index == 2) throw DataError("block 9 is damaged", "copy it again");
        return named(index);
      },
      {}, {.num_threads = 3, .depth = 4});
  BOOST_TEST(loader.next().tokens[0] == 0);
  BOOST_TEST(loader.next().tokens[0] == 1);
  BOOST_CHECK_EXCEPTION(loader.next(), DataError, says("block 9 is damaged"));
  BOOST_TEST(loader.next().tokens[0] == 3);
}

BOOST_AUTO_TEST_CASE(a_loader_may_go_at_any_time) {
  for (int num_taken = 0; num_taken < 50; ++num_taken) {
    Loader loader(named, {}, {.num_threads = 3, .depth = 2});
    for (int k = 0; k < num_taken % 5; ++k) loader.next();
  }
}

BOOST_AUTO_TEST_CASE(waiting_is_measured) {
  std::latch consumer_is_here(1);
  Loader loader(
      [&](int64_t index) {
        consumer_is_here.wait();
        return named(index);
      },
      {}, {.num_threads = 1, .depth = 1});
  BOOST_TEST(loader.waited_seconds() == 0.0);
  std::jthread release([&] { consumer_is_here.count_down(); });
  loader.next();
  BOOST_TEST(loader.waited_seconds() > 0.0);
}

BOOST_AUTO_TEST_CASE(threads_that_the_system_refuses_are_an_error_and_no_hang) {
  num_threads_allowed = 2;
  BOOST_CHECK_EXCEPTION(Loader(named, {}, {.num_threads = 3, .depth = 2}), Error,
                        [](const Error& error) {
                          return error.code() == ExitCode::kRefused &&
                                 says("starting 3 loader threads failed: ")(error);
                        });
  num_threads_allowed = 1000;
}

BOOST_AUTO_TEST_CASE(a_loader_without_threads_or_depth_is_refused) {
  BOOST_CHECK_THROW(Loader(named, {}, {.num_threads = 0, .depth = 1}), std::invalid_argument);
  BOOST_CHECK_THROW(Loader(named, {}, {.num_threads = 1, .depth = 0}), std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

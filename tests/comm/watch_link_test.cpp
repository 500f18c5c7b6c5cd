// SPDX-License-Identifier: Apache-2.0
#include "comm/watch_link.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <boost/test/unit_test.hpp>
#include <chrono>
#include <optional>
#include <thread>

using namespace temper;

namespace {

const std::vector<uint32_t> kHere = {htonl(INADDR_LOOPBACK)};

constexpr uint64_t kToken = 5;

SignOfLife sign_of(int64_t rank) {
  SignOfLife sign;
  sign.token = kToken;
  sign.rank = rank;
  return sign;
}

// The first true value of what the other end will bring about.
template <typename Look>
auto wait_for(const Look& look) {
  for (int i = 0; i < 5000; ++i) {
    if (auto found = look()) return found;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return look();
}

// Two ends of one connection.
struct Pair {
  WatchListener listener;
  std::optional<WatchLink> joined = WatchLink::connect(kHere, listener.port());
  std::optional<WatchLink> accepted;

  Pair() {
    BOOST_REQUIRE(joined);
    wait_for([&] {
      if (auto link = listener.accept()) accepted.emplace(std::move(*link));
      return accepted.has_value();
    });
    BOOST_REQUIRE(accepted);
  }
};

}  // namespace

BOOST_AUTO_TEST_SUITE(watch_link)

BOOST_FIXTURE_TEST_CASE(the_newest_of_many_signs_counts, Pair) {
  for (int64_t rank = 1; rank <= 9; ++rank) joined->send(sign_of(rank));
  joined.reset();  // So that all of them are there once the end is.
  std::optional<SignOfLife> newest;
  wait_for([&] {
    if (auto sign = accepted->receive()) newest = sign;
    return accepted->is_closed();
  });
  BOOST_REQUIRE(newest);
  BOOST_TEST(newest->rank == 9);
  BOOST_TEST(newest->token == kToken);
}

BOOST_FIXTURE_TEST_CASE(a_sign_goes_each_way_and_silence_is_no_end, Pair) {
  BOOST_TEST(!accepted->receive());
  BOOST_TEST(!accepted->is_closed());
  accepted->send(sign_of(0));
  const auto sign = wait_for([&] { return joined->receive(); });
  BOOST_REQUIRE(sign);
  BOOST_TEST(sign->token == kToken);
  BOOST_TEST(!joined->is_closed());
}

BOOST_FIXTURE_TEST_CASE(who_reads_nothing_blocks_nobody, Pair) {
  for (int i = 0; i < 100'000; ++i) joined->send(sign_of(i));
  const auto sign = wait_for([&] { return accepted->receive(); });
  BOOST_REQUIRE(sign);
  BOOST_TEST(sign->token == kToken);
}

BOOST_AUTO_TEST_CASE(where_nobody_listens_there_is_no_link) {
  uint16_t free_port = 0;
  {
    const WatchListener gone;
    free_port = gone.port();
  }
  BOOST_TEST(!WatchLink::connect(kHere, free_port));
  BOOST_TEST(!WatchLink::connect({}, free_port));
}

// Bridges of containers have the same address on every node.
BOOST_AUTO_TEST_CASE(an_address_of_ones_own_leads_to_no_other_node) {
  const uint32_t elsewhere = htonl(0xc0000201U);  // 192.0.2.1, kept for documentation.
  std::vector<uint32_t> addresses = own_addresses();
  BOOST_TEST((addresses.back() == kHere.front()));
  addresses.insert(addresses.begin(), elsewhere);
  BOOST_TEST((without_own(addresses) == std::vector<uint32_t>{elsewhere}));
}

BOOST_AUTO_TEST_SUITE_END()

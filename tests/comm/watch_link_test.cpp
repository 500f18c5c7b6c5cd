// SPDX-License-Identifier: Apache-2.0
#include "comm/watch_link.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/test/data/test_case.hpp>
#include <boost/test/unit_test.hpp>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "comm/watch_peers.h"

using namespace temper;

namespace {

int num_polls = 0, num_receives = 0;

}  // namespace

// These stand before the C library's, and count.
extern "C" int poll(pollfd* sockets, nfds_t count, int timeout_ms) {
  ++num_polls;
  return static_cast<int>(::syscall(SYS_poll, sockets, count, timeout_ms));
}

extern "C" ssize_t recv(int socket, void* bytes, size_t size, int flags) {
  ++num_receives;
  return ::syscall(SYS_recvfrom, socket, bytes, size, flags, nullptr, nullptr);
}

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

SignOfLife next_sign(WatchLink& link) {
  SignOfLife sign;
  BOOST_TEST(wait_for([&] {
    for (const SignOfLife& one : link.receive()) sign = one;
    return sign.token != 0;
  }));
  return sign;
}

// Two ends of a connection in this process: what is sent has come at once.
std::pair<WatchLink, WatchLink> make_pair_of_links() {
  int ends[2] = {};
  BOOST_REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  return {WatchLink(ends[0]), WatchLink(ends[1])};
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

BOOST_FIXTURE_TEST_CASE(signs_come_in_their_order, Pair) {
  for (int64_t rank = 1; rank <= 9; ++rank) joined->send(sign_of(rank));
  joined.reset();  // So that all of them are there once the end is.
  std::vector<SignOfLife> signs;
  wait_for([&] {
    for (const SignOfLife& sign : accepted->receive()) signs.push_back(sign);
    return accepted->is_closed();
  });
  BOOST_REQUIRE(signs.size() == 9u);
  for (size_t i = 0; i < signs.size(); ++i)
    BOOST_TEST(signs[i].rank == static_cast<int64_t>(i) + 1);
  BOOST_TEST(signs.back().token == kToken);
}

BOOST_FIXTURE_TEST_CASE(a_sign_goes_each_way_and_silence_is_no_end, Pair) {
  BOOST_TEST(accepted->receive().empty());
  BOOST_TEST(!accepted->is_closed());
  accepted->send(sign_of(0));
  BOOST_TEST(next_sign(*joined).token == kToken);
  BOOST_TEST(!joined->is_closed());
}

BOOST_FIXTURE_TEST_CASE(who_reads_nothing_blocks_nobody, Pair) {
  for (int i = 0; i < 100'000; ++i) joined->send(sign_of(i));
  BOOST_TEST(next_sign(*accepted).token == kToken);
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

BOOST_AUTO_TEST_SUITE(watch_peers)

namespace data = boost::unit_test::data;

BOOST_DATA_TEST_CASE(a_look_receives_only_from_those_who_spoke, data::make({64, 1024}), num_peers) {
  BOOST_REQUIRE(make_room_for_files(2 * num_peers + 16) == 0);
  WatchPeers peers(kToken);
  std::vector<WatchLink> others;
  for (int rank = 1; rank <= num_peers; ++rank) {
    auto [here, there] = make_pair_of_links();
    peers.add(rank, std::move(here));
    others.push_back(std::move(there));
  }
  const auto costs = [&] {
    num_polls = num_receives = 0;
    BOOST_TEST(!peers.look());
    BOOST_TEST(num_polls == 1);
    return num_receives;
  };
  BOOST_TEST(costs() == 0);
  for (int rank = 1; rank <= num_peers; ++rank) {
    others[static_cast<size_t>(rank - 1)].send(sign_of(rank));
  }
  BOOST_TEST(costs() == num_peers);
  BOOST_TEST(std::ssize(peers.reports()) == num_peers);
  others[7].send(sign_of(8));
  BOOST_TEST(costs() == 1);
}

BOOST_AUTO_TEST_CASE(who_goes_without_leaving_is_lost) {
  WatchPeers peers(kToken);
  auto first = make_pair_of_links(), second = make_pair_of_links();
  peers.add(1, std::move(first.first));
  peers.add(2, std::move(second.first));
  SignOfLife last = sign_of(1);
  last.is_leaving = 1;
  first.second.send(last);
  { const WatchLink closed = std::move(first.second); }
  BOOST_TEST(!peers.look());
  { const WatchLink closed = std::move(second.second); }
  BOOST_TEST((peers.look() == 2));
}

BOOST_DATA_TEST_CASE(of_many_ranks_none_watches_many, data::make({2, 64, 257, 258, 1024, 4096}),
                     num_ranks) {
  const WatchTree tree(num_ranks, 256);
  std::vector<int> num_watched(static_cast<size_t>(num_ranks));
  for (int rank = 1; rank < num_ranks; ++rank) {
    const int watcher = tree.watcher_of(rank);
    BOOST_REQUIRE((watcher == 0 || tree.watcher_of(watcher) == 0));
    ++num_watched[static_cast<size_t>(watcher)];
  }
  BOOST_TEST(tree.watcher_of(0) == -1);
  for (int rank = 0; rank < num_ranks; ++rank) {
    BOOST_REQUIRE(tree.num_watched_by(rank) == num_watched[static_cast<size_t>(rank)]);
  }
  BOOST_TEST(*std::ranges::max_element(num_watched) <= 256);
  if (num_ranks == 4096) BOOST_TEST(*std::ranges::max_element(num_watched) == 126);
}

BOOST_AUTO_TEST_CASE(a_leader_tells_of_its_group) {
  WatchPeers rank_0(kToken), leader(kToken);
  auto up = make_pair_of_links(), down = make_pair_of_links();
  rank_0.add(4, std::move(up.first));
  leader.add(0, std::move(up.second));
  leader.add(5, std::move(down.first));
  SignOfLife sign = sign_of(5);
  sign.status.step = 7;
  sign.is_leaving = 1;
  down.second.send(sign);
  rank_0.send(sign_of(0));
  BOOST_TEST(!leader.look());
  leader.relay_to(0);
  BOOST_TEST(!rank_0.look());
  BOOST_REQUIRE(rank_0.reports().size() == 1u);
  BOOST_TEST(rank_0.reports().at(5).status.step == 7);
  BOOST_TEST(rank_0.most_silent()->first == 4);  // That one has left is not its leader's end.
}

BOOST_AUTO_TEST_CASE(work_of_one_rank_is_no_stall_and_the_slowest_is_named) {
  const auto now = WatchPeers::Clock::now();
  RankStatus own, slow, busy;
  own.idle_seconds = slow.idle_seconds = 100.0;
  own.num_started = busy.num_started = 5;
  slow.num_started = 4;
  busy.idle_seconds = 1.0;
  const Stall stall = find_stall(own, {{1, {slow, now}}, {2, {slow, now}}});
  BOOST_TEST(stall.seconds == 100.0);
  BOOST_TEST(stall.slowest == 1);
  BOOST_TEST(find_stall(own, {{1, {slow, now}}, {2, {busy, now}}}).seconds < 10.0);
}

// In a process of its own, since a limit once lowered stays.
BOOST_AUTO_TEST_CASE(room_for_files_is_made_where_the_system_allows_it) {
  const pid_t child = ::fork();
  if (child == 0) {
    rlimit limit{64, 200};
    ::setrlimit(RLIMIT_NOFILE, &limit);
    const bool is_raised = make_room_for_files(100) == 0;
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const int64_t wanted = make_room_for_files(1000);
    ::_exit(is_raised && limit.rlim_cur > 100 && wanted > 1000 && wanted < 1100 ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  BOOST_TEST(status == 0);
}

BOOST_AUTO_TEST_SUITE_END()

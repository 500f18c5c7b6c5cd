// SPDX-License-Identifier: Apache-2.0
#include "comm/watchdog.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <span>

#include "comm/bytes.h"
#include "core/concat.h"
#include "core/log.h"

namespace temper {
namespace {

using namespace std::chrono_literals;

constexpr auto kBeat = 1s;
constexpr auto kLook = 100ms;
constexpr auto kOversleep = 3s;
constexpr auto kAdmission = 10s;
constexpr auto kMostOftenNamed = 60s;
constexpr double kStragglerShare = 1.5;     // Of the median; arbitrary, as is the next.
constexpr double kStragglerSeconds = 0.05;  // Less is noise.
constexpr int64_t kFewestSteps = 30;        // The first ones are slow on any rank.
constexpr size_t kMostAddresses = 16;

// What all must know to find rank 0.
struct Meeting {
  uint64_t token = 0;
  std::array<uint32_t, kMostAddresses> addresses{};
  uint64_t num_addresses = 0;
  uint64_t port = 0;
};

uint64_t random_token() {
  std::random_device random;
  return (uint64_t{random()} << 32) | random();
}

Meeting invite(const WatchListener& listener) {
  const std::vector<uint32_t> own = own_addresses();
  Meeting meeting{.token = random_token(), .port = listener.port()};
  meeting.num_addresses = std::min(own.size(), kMostAddresses);
  std::copy_n(own.end() - static_cast<std::ptrdiff_t>(meeting.num_addresses), meeting.num_addresses,
              meeting.addresses.begin());
  return meeting;
}

double seconds_since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

}  // namespace

Watchdog::Watchdog(const MpiSession& session, Communicator& ranks, const WatchdogOptions& options)
    : session_(session), options_(options) {
  const bool is_off = options.silence_seconds == 0.0 && options.stall_seconds == 0.0;
  if (is_off || session.world_size() == 1) return;
  meet(ranks);
  thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
}

Watchdog::~Watchdog() {
  if (!thread_.joinable()) return;
  thread_.request_stop();
  thread_.join();
  speak(/*is_leaving=*/true);
}

// From here on rank 0 knows whom it may miss.
void Watchdog::meet(Communicator& ranks) {
  std::optional<WatchListener> listener;
  Meeting meeting;
  if (session_.rank() == 0) {
    listener.emplace();
    meeting = invite(*listener);
  }
  broadcast_bytes(ranks, std::as_writable_bytes(std::span(&meeting, 1)));
  token_ = meeting.token;
  if (!listener) {
    const auto end = meeting.addresses.begin() + static_cast<std::ptrdiff_t>(meeting.num_addresses);
    auto link = reach_rank_0({meeting.addresses.begin(), end}, static_cast<uint16_t>(meeting.port));
    if (link) peers_.push_back({.rank = 0, .link = std::move(*link)});
    speak(/*is_leaving=*/false);
  }
  const int64_t num_links = std::ssize(peers_);
  std::vector<int64_t> links(static_cast<size_t>(session_.world_size()));
  gather_bytes(ranks, std::as_bytes(std::span(&num_links, 1)),
               std::as_writable_bytes(std::span(links)));
  if (listener) admit(*listener, std::accumulate(links.begin(), links.end(), int64_t{0}));
}

// An address of this node, such as that of a bridge for containers, does not lead to another one.
std::optional<WatchLink> Watchdog::reach_rank_0(const std::vector<uint32_t>& addresses,
                                                uint16_t port) {
  const std::string& node = session_.host_names()[0];
  const bool is_here = session_.host_names().at(static_cast<size_t>(session_.rank())) == node;
  std::optional<WatchLink> link =
      WatchLink::connect(is_here ? addresses : without_own(addresses), port);
  if (!link) {
    log_rank_event(concat("warning=\"the watchdog of ", node,
                          " cannot be reached over TCP: if a rank is lost, this one may hang\""));
  }
  return link;
}

// All who have joined have also spoken, so their signs are on the way.
void Watchdog::admit(WatchListener& listener, int64_t num_joined) {
  const auto deadline = Clock::now() + kAdmission;
  std::list<Peer> unknown;
  while (std::ssize(peers_) < num_joined && Clock::now() < deadline) {
    while (std::optional<WatchLink> link = listener.accept()) {
      unknown.push_back({.link = std::move(*link)});
    }
    for (auto next = unknown.begin(); next != unknown.end();) {
      const auto peer = next++;
      if (tells_its_rank(*peer)) peers_.splice(peers_.end(), unknown, peer);
    }
    std::this_thread::sleep_for(1ms);
  }
  if (std::ssize(peers_) == num_joined) return;
  log_event(concat("warning=\"the watchdog heard of ", peers_.size(), " of ", num_joined,
                   " ranks: the others will not be missed\" try=\"raise ulimit -n\""));
}

bool Watchdog::tells_its_rank(Peer& peer) const {
  const std::optional<SignOfLife> sign = peer.link.receive();
  if (!sign || sign->token != token_) return false;  // A stranger, or not yet.
  peer.rank = std::clamp<int64_t>(sign->rank, 1, session_.world_size() - 1);
  take(peer, *sign);  // It may be leaving already.
  return true;
}

void Watchdog::take(Peer& peer, const SignOfLife& sign) {
  peer.heard = Clock::now();
  peer.status = sign.status;
  peer.has_left = sign.is_leaving != 0;
}

void Watchdog::run(const std::stop_token& stop) {
  const bool is_first = session_.rank() == 0;
  auto spoken = Clock::now();
  while (!stop.stop_requested()) {
    std::vector<pollfd> sockets;
    for (const Peer& peer : peers_) {
      if (!peer.has_left) sockets.push_back({peer.link.socket(), POLLIN, 0});
    }
    const auto look_ms = static_cast<int>(std::chrono::milliseconds(kLook).count());
    ::poll(sockets.data(), sockets.size(), look_ms);
    for (Peer& peer : peers_) {
      if (!peer.has_left) listen(peer);
    }
    const auto since_spoken = Clock::now() - spoken;
    if (since_spoken < kBeat) continue;
    if (since_spoken > kOversleep) forgive();
    spoken = Clock::now();
    speak(/*is_leaving=*/false);
    look_for_loss();
    if (is_first) look_for_stall();
    if (is_first) name_stragglers();
  }
}

// This process itself stood still, as all do while Slurm suspends the job: time counts anew.
void Watchdog::forgive() {
  for (Peer& peer : peers_) peer.heard = Clock::now();
  CollectiveRing::own().begin_idle();
}

void Watchdog::listen(Peer& peer) {
  const std::optional<SignOfLife> sign = peer.link.receive();
  if (sign && sign->token == token_) take(peer, *sign);
  if (peer.link.is_closed() && !peer.has_left) end_job(peer, "its process has ended");
}

void Watchdog::speak(bool is_leaving) {
  const SignOfLife sign{.token = token_,
                        .rank = session_.rank(),
                        .is_leaving = is_leaving ? 1 : 0,
                        .status = CollectiveRing::own().status()};
  for (Peer& peer : peers_) {
    if (!peer.has_left) peer.link.send(sign);
  }
}

void Watchdog::look_for_loss() {
  if (options_.silence_seconds == 0.0) return;
  for (const Peer& peer : peers_) {
    const double silent = seconds_since(peer.heard);
    if (peer.has_left || silent < options_.silence_seconds) continue;
    end_job(peer, concat("nothing was heard of it for ", static_cast<int64_t>(silent),
                         " s: it, its node or its network stands still"));
  }
}

// All are there and none goes on: the one that has begun the fewest collectives holds up the rest.
void Watchdog::look_for_stall() {
  const RankStatus own = CollectiveRing::own().status();
  if (options_.stall_seconds == 0.0 || own.idle_seconds < options_.stall_seconds) return;
  int64_t slowest = 0;
  RankStatus status = own;
  for (const Peer& peer : peers_) {
    if (peer.status.num_started >= status.num_started) continue;
    slowest = peer.rank;
    status = peer.status;
  }
  end_job(slowest, to_text(status),
          concat("no collective began or ended for ", static_cast<int64_t>(own.idle_seconds),
                 " s, and it began the fewest"));
}

void Watchdog::name_stragglers() {
  if (Clock::now() - stragglers_named_ < kMostOftenNamed) return;
  std::vector<std::pair<double, int64_t>> own{{CollectiveRing::own().status().own_seconds, 0}};
  for (const Peer& peer : peers_) {
    if (peer.status.num_steps_timed < kFewestSteps) continue;
    own.emplace_back(peer.status.own_seconds, peer.rank);
  }
  if (own.size() < static_cast<size_t>(session_.world_size())) return;
  std::sort(own.begin(), own.end());
  const double median = own[(own.size() - 1) / 2].first;
  for (const auto& [seconds, rank] : own) {
    if (seconds < kStragglerShare * median || seconds < median + kStragglerSeconds) continue;
    log_event(concat("straggler=", rank,
                     " node=", session_.host_names().at(static_cast<size_t>(rank)),
                     " own_seconds_per_step=", seconds, " median=", median));
    stragglers_named_ = Clock::now();
  }
}

// What it said last may be a second older than its end.
void Watchdog::end_job(const Peer& peer, const std::string& reason) {
  const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - peer.heard);
  end_job(peer.rank, concat(to_text(peer.status), " heard_ms_ago=", age.count()), reason);
}

void Watchdog::end_job(int64_t rank, const std::string& last, const std::string& reason) {
  // All find the loss of rank 0: rank 1 speaks first, and its abort silences the others.
  if (session_.rank() > 1) std::this_thread::sleep_for(kBeat);
  const std::string& node = session_.host_names().at(static_cast<size_t>(rank));
  log_rank_event(concat("lost rank=", rank, " node=", node, ' ', last, " reason=\"", reason,
                        "\" exit=", static_cast<int>(ExitCode::kComm)));
  log_rank_event(concat(
      "waits node=", session_.host_names().at(static_cast<size_t>(session_.rank())), ' ',
      to_text(CollectiveRing::own().status()), " try=\"start the same command again, without node ",
      node, " if that happens twice\""));
  session_.abort(ExitCode::kComm);
}

}  // namespace temper

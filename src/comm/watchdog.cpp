// SPDX-License-Identifier: Apache-2.0
#include "comm/watchdog.h"

#include <algorithm>
#include <array>
#include <list>
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

constexpr int64_t kSpareFiles = 64;  // For what else is opened; arbitrary.

// What all must know to find a rank that watches others.
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
  Meeting meeting{.token = random_token(), .port = listener.port()};  // Rank 0's token counts.
  meeting.num_addresses = std::min(own.size(), kMostAddresses);
  std::copy_n(own.end() - static_cast<std::ptrdiff_t>(meeting.num_addresses), meeting.num_addresses,
              meeting.addresses.begin());
  return meeting;
}

std::vector<uint32_t> addresses_of(const Meeting& meeting) {
  const auto count = static_cast<std::ptrdiff_t>(meeting.num_addresses);
  return {meeting.addresses.begin(), meeting.addresses.begin() + count};
}

}  // namespace

Watchdog::Watchdog(const MpiSession& session, Communicator& ranks, const WatchdogOptions& options)
    : session_(session),
      options_(options),
      tree_(session.world_size(), options.most_watched_by_one) {
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

// From here on each rank knows whom it may miss.
void Watchdog::meet(Communicator& ranks) {
  const int rank = session_.rank(), watcher = tree_.watcher_of(rank);
  const int num_watched = tree_.num_watched_by(rank);
  std::optional<WatchListener> listener;
  Meeting own;
  if (num_watched > 0) {
    if (const int64_t limit = make_room_for_files(num_watched + kSpareFiles)) {
      log_rank_event(concat("warning=\"the watchdog needs ", num_watched,
                            " connections, and this process may not open so many files: ranks ",
                            "without one are not missed\" try=\"ulimit -n ", limit,
                            ", and on Slurm srun --propagate=NOFILE\""));
    }
    listener.emplace();
    own = invite(*listener);
  }
  std::vector<Meeting> meetings(static_cast<size_t>(session_.world_size()));
  gather_bytes(ranks, std::as_bytes(std::span(&own, 1)),
               std::as_writable_bytes(std::span(meetings)));
  token_ = meetings[0].token;
  peers_.emplace(token_);
  if (watcher >= 0) {
    const Meeting& meeting = meetings.at(static_cast<size_t>(watcher));
    auto link = reach(watcher, addresses_of(meeting), static_cast<uint16_t>(meeting.port));
    if (link) peers_->add(watcher, std::move(*link));
    speak(/*is_leaving=*/false);
  }
  const int64_t joined = peers_->num_links() > 0 ? watcher : -1;
  std::vector<int64_t> all_joined(static_cast<size_t>(session_.world_size()));
  gather_bytes(ranks, std::as_bytes(std::span(&joined, 1)),
               std::as_writable_bytes(std::span(all_joined)));
  if (listener) admit(*listener, std::ranges::count(all_joined, rank));
}

// An address of this node, such as that of a bridge for containers, does not lead to another one.
std::optional<WatchLink> Watchdog::reach(int watcher, const std::vector<uint32_t>& addresses,
                                         uint16_t port) {
  const std::string& node = node_of(watcher);
  const bool is_here = node_of(session_.rank()) == node;
  std::optional<WatchLink> link =
      WatchLink::connect(is_here ? addresses : without_own(addresses), port);
  if (!link) {
    log_rank_event(concat("warning=\"the watchdog of ", node,
                          " cannot be reached over TCP: if a rank is lost, this one may hang\""));
  }
  return link;
}

// All who have joined have also spoken, so their signs are on the way. Strangers may knock, too.
void Watchdog::admit(WatchListener& listener, int64_t num_joined) {
  const auto deadline = Clock::now() + kAdmission;
  const int64_t num_wanted = peers_->num_links() + num_joined;
  std::list<WatchLink> unknown;
  while (peers_->num_links() < num_wanted && Clock::now() < deadline) {
    while (std::optional<WatchLink> link = listener.accept()) unknown.push_back(std::move(*link));
    std::erase_if(unknown,
                  [&](WatchLink& link) { return peers_->admit(link, session_.world_size() - 1); });
    std::this_thread::sleep_for(1ms);
  }
  if (peers_->num_links() == num_wanted) return;
  log_rank_event(concat("warning=\"the watchdog heard of ",
                        num_joined - (num_wanted - peers_->num_links()), " of ", num_joined,
                        " ranks: the others will not be missed\" try=\"raise ulimit -n\""));
}

// It looks ten times a second, however many ranks speak in between.
void Watchdog::run(const std::stop_token& stop) {
  std::unique_lock lock(mutex_);
  auto spoken = Clock::now();
  while (!stopped_.wait_for(lock, stop, kLook, [] { return false; }) && !stop.stop_requested()) {
    look_for_loss();
    const auto since_spoken = Clock::now() - spoken;
    if (since_spoken < kBeat) continue;
    // This process itself stood still, as all do while Slurm suspends the job: time counts anew.
    if (since_spoken > kOversleep) {
      peers_->forgive();
      CollectiveRing::own().begin_idle();
    }
    spoken = Clock::now();
    speak(/*is_leaving=*/false);
    look_for_silence();
    if (session_.rank() == 0) look_for_stall();
    if (session_.rank() == 0) name_stragglers();
  }
}

void Watchdog::speak(bool is_leaving) {
  peers_->send({.token = token_,
                .rank = session_.rank(),
                .is_leaving = is_leaving ? 1 : 0,
                .status = CollectiveRing::own().status()});
  if (tree_.num_watched_by(session_.rank()) > 0)
    peers_->relay_to(tree_.watcher_of(session_.rank()));
}

void Watchdog::look_for_loss() {
  if (const auto lost = peers_->look()) end_job(*lost, "its process has ended");
}

void Watchdog::look_for_silence() {
  const auto silent = peers_->most_silent();
  if (options_.silence_seconds == 0.0 || !silent || silent->second < options_.silence_seconds) {
    return;
  }
  end_job(silent->first,
          concat("nothing was heard of it for ", static_cast<int64_t>(silent->second),
                 " s: it, its node or its network stands still"));
}

// All are there and none goes on: the one that has begun the fewest collectives holds up the rest.
void Watchdog::look_for_stall() {
  if (options_.stall_seconds == 0.0) return;
  const Stall stall = find_stall(CollectiveRing::own().status(), peers_->reports());
  if (stall.seconds < options_.stall_seconds) return;
  end_job(stall.slowest,
          concat("no collective began or ended for ", static_cast<int64_t>(stall.seconds),
                 " s, and it began the fewest"));
}

void Watchdog::name_stragglers() {
  if (Clock::now() - stragglers_named_ < kMostOftenNamed) return;
  std::vector<std::pair<double, int64_t>> own{{CollectiveRing::own().status().own_seconds, 0}};
  for (const auto& [rank, report] : peers_->reports()) {
    if (report.status.num_steps_timed < kFewestSteps) continue;
    own.emplace_back(report.status.own_seconds, rank);
  }
  if (own.size() < static_cast<size_t>(session_.world_size())) return;
  std::sort(own.begin(), own.end());
  const double median = own[(own.size() - 1) / 2].first;
  for (const auto& [seconds, rank] : own) {
    if (seconds < kStragglerShare * median || seconds < median + kStragglerSeconds) continue;
    log_event(concat("straggler=", rank, " node=", node_of(rank), " own_seconds_per_step=", seconds,
                     " median=", median));
    stragglers_named_ = Clock::now();
  }
}

const std::string& Watchdog::node_of(int64_t rank) const {
  return session_.host_names().at(static_cast<size_t>(rank));
}

// What another rank said last may be a second older than its end.
std::string Watchdog::last_of(int64_t rank) const {
  const auto found = peers_->reports().find(rank);
  if (found == peers_->reports().end()) return to_text(CollectiveRing::own().status());
  const auto age = Clock::now() - found->second.heard;
  return concat(to_text(found->second.status), " heard_ms_ago=",
                std::chrono::duration_cast<std::chrono::milliseconds>(age).count());
}

void Watchdog::end_job(int64_t rank, const std::string& reason) {
  // All find the loss of rank 0: rank 1 speaks first, and its abort silences the others.
  if (session_.rank() > 1) std::this_thread::sleep_for(kBeat);
  log_rank_event(concat("lost rank=", rank, " node=", node_of(rank), ' ', last_of(rank),
                        " reason=\"", reason, "\" exit=", static_cast<int>(ExitCode::kComm)));
  log_rank_event(concat("waits node=", node_of(session_.rank()), ' ',
                        to_text(CollectiveRing::own().status()),
                        " try=\"start the same command again, without node ", node_of(rank),
                        " if that happens twice\""));
  session_.abort(ExitCode::kComm);
}

}  // namespace temper

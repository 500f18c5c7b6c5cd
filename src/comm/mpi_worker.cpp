// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_worker.h"

#include <dlfcn.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "comm/mpi_check.h"

namespace temper {
namespace {

using namespace std::chrono_literals;

// What a look takes of the processor when it finds nothing to do is a microsecond or two in shared
// memory, and several where MPI asks the kernel about many connections; more after a nap or an
// interruption. The cheapest kLooks in a row tell. One look of kMoving, or two in a row that take
// kIdleLook and twice the cheapest, have most likely moved data.
constexpr int kLooks = 16;
constexpr auto kIdleLook = 4us;
constexpr auto kMoving = 32us;

// So long after the last progress the worker looks again at once; then it naps, longer and longer.
// It never yields: where other jobs share the core, that costs whole time slices, and a nap does
// not. But falling asleep and waking costs tens of microseconds on some machines, so that a long
// wait needs longer naps. What a late rank sends may go through all others, each of which naps when
// it comes: together they lose a hundredth of the wait, or what short naps would have lost.
constexpr auto kBusy = 20us;
constexpr auto kBusyWhileAwaited = 100us;  // Who waits leaves a core idle.
constexpr auto kShortNap = 200us;
constexpr auto kShortNapWhileAwaited = 50us;
constexpr auto kLongestNap = 2ms;
constexpr int kNapShare = 4;       // Of the time without progress, of a short nap.
constexpr int kLongNapShare = 50;  // Of the time without progress, of the ranks' naps together.
constexpr unsigned long kTimerSlackNs = 1000;  // By default Linux adds 50 us to each nap.

/// What this thread has had of the processor. Unlike the time that passes, it does not grow while
/// other processes have the core.
std::chrono::nanoseconds processor_time() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

/// Whether MPI yields the core in each look that finds nothing, as Open MPI does by itself where
/// ranks outnumber cores. Returns what was so before. The switch is one of Open MPI's own library
/// (opal/runtime/opal_progress.h); with another MPI nothing happens.
bool let_mpi_yield(bool yields) {
  using Switch = bool (*)(bool);
  const auto set =
      reinterpret_cast<Switch>(::dlsym(RTLD_DEFAULT, "opal_progress_set_yield_when_idle"));
  return set != nullptr && set(yields);
}

}  // namespace

MpiWorker::MpiWorker() {
  // What a look at requests of several communicators finds wrong goes to the handler of the first,
  // or of the second before MPI 4 (MPI 4.0, section 9.3); Open MPI asks that of the request.
  for (MPI_Comm comm : {MPI_COMM_SELF, MPI_COMM_WORLD}) {
    check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }
  thread_ = std::thread([this] { run(); });
}

MpiWorker::~MpiWorker() {
  {
    const std::lock_guard lock(mutex_);
    is_stopping_ = true;
    is_abandoned_ = std::uncaught_exceptions() > 0;
  }
  wake_.notify_all();
  thread_.join();
}

std::shared_ptr<MpiWorker> MpiWorker::shared() {
  static std::mutex mutex;
  static std::weak_ptr<MpiWorker> current;
  const std::lock_guard lock(mutex);
  auto worker = current.lock();
  if (!worker) {
    worker = std::make_shared<MpiWorker>();
    current = worker;
  }
  return worker;
}

Pending MpiWorker::submit(const char* call, Start start) {
  auto operation = std::make_shared<Operation>();
  operation->call = call;
  operation->start = std::move(start);
  auto done = operation->done.get_future().share();
  {
    const std::lock_guard lock(mutex_);
    submitted_.push_back(std::move(operation));
  }
  wake_.notify_all();
  return Pending([self = shared_from_this(), done] { self->wait(done); });
}

void MpiWorker::wait(std::shared_future<void> done) {
  {
    const std::lock_guard lock(mutex_);
    ++num_waiting_;
  }
  wake_.notify_all();
  done.wait();
  {
    const std::lock_guard lock(mutex_);
    --num_waiting_;
  }
  done.get();
}

void MpiWorker::run() {
  prctl(PR_SET_TIMERSLACK, kTimerSlackNs);
  MPI_Comm_size(MPI_COMM_WORLD, &num_ranks_);
  const bool yielded = let_mpi_yield(false);
  std::unique_lock lock(mutex_);
  while (true) {
    if (requests_.empty()) {
      wake_.wait(lock, [this] { return !submitted_.empty() || is_stopping_; });
    }
    if (is_abandoned_ || (requests_.empty() && submitted_.empty())) break;
    const auto operations = std::exchange(submitted_, {});
    lock.unlock();
    for (const auto& operation : operations) start(operation);
    poll();
    lock.lock();
    rest(lock);
  }
  let_mpi_yield(yielded);
  // MPI may still write to the buffers of what is under way, so they stay for ever.
  if (is_abandoned_) new auto(std::move(owners_));
}

void MpiWorker::start(const std::shared_ptr<Operation>& operation) {
  const size_t first = requests_.size();
  try {
    operation->start(requests_);
  } catch (...) {
    operation->is_settled = true;
    operation->done.set_exception(std::current_exception());
    std::erase(requests_, MPI_REQUEST_NULL);  // That of the call which failed.
  }
  operation->num_requests = requests_.size() - first;
  owners_.resize(requests_.size(), operation);
  if (operation->num_requests == 0 && !operation->is_settled) operation->done.set_value();
  last_progress_ = Clock::now();
}

void MpiWorker::poll() {
  if (requests_.empty()) return;
  indices_.resize(requests_.size());
  statuses_.resize(requests_.size());
  int num_complete = 0;
  const auto before = processor_time();
  const int status = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(),
                                  &num_complete, indices_.data(), statuses_.data());
  note_progress(num_complete, processor_time() - before);
  if (status != MPI_SUCCESS && status != MPI_ERR_IN_STATUS) {
    for (size_t k = 0; k < requests_.size(); ++k) complete(k, status);
    num_complete = 0;
  }
  for (size_t k = 0; k < static_cast<size_t>(num_complete); ++k) {
    complete(static_cast<size_t>(indices_[k]),
             status == MPI_ERR_IN_STATUS ? statuses_[k].MPI_ERROR : MPI_SUCCESS);
  }
  forget_complete();
}

void MpiWorker::note_progress(int num_complete, std::chrono::nanoseconds look) {
  time_of_looks_ += look;
  if (++num_looks_ % kLooks == 0) {
    cheapest_look_ = std::min(cheapest_look_, std::exchange(time_of_looks_, 0ns) / kLooks);
  }
  const bool is_long = look > std::max<std::chrono::nanoseconds>(kIdleLook, 2 * cheapest_look_);
  const bool was_long = std::exchange(last_look_was_long_, is_long);
  const auto now = Clock::now();
  if (num_complete > 0) {
    last_progress_ = now;
  } else if (look > kMoving || (is_long && was_long)) {
    last_progress_ += (now - last_progress_) / 2;  // Of many, one in error matters little.
  }
}

void MpiWorker::complete(size_t index, int status) {
  Operation& operation = *owners_[index];
  requests_[index] = MPI_REQUEST_NULL;
  --operation.num_requests;
  if (operation.is_settled) return;
  try {
    check(status, operation.call);
    if (operation.num_requests > 0) return;
    operation.done.set_value();
  } catch (...) {
    operation.done.set_exception(std::current_exception());
  }
  operation.is_settled = true;
}

void MpiWorker::forget_complete() {
  size_t kept = 0;
  for (size_t k = 0; k < requests_.size(); ++k) {
    if (requests_[k] == MPI_REQUEST_NULL) continue;
    requests_[kept] = requests_[k];
    owners_[kept] = std::move(owners_[k]);
    ++kept;
  }
  requests_.resize(kept);
  owners_.resize(kept);
}

void MpiWorker::rest(std::unique_lock<std::mutex>& lock) {
  if (requests_.empty() || !submitted_.empty() || last_look_was_long_) return;
  const auto idle = Clock::now() - last_progress_;
  const bool is_awaited = num_waiting_ > 0;
  if (idle < (is_awaited ? kBusyWhileAwaited : kBusy)) return;
  const auto short_nap =
      std::min<Clock::duration>(is_awaited ? kShortNapWhileAwaited : kShortNap, idle / kNapShare);
  const auto long_nap = std::min<Clock::duration>(kLongestNap, idle / kLongNapShare / num_ranks_);
  wake_.wait_for(lock, std::max<Clock::duration>(short_nap, long_nap));
}

}  // namespace temper

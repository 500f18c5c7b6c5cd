// SPDX-License-Identifier: Apache-2.0
#include "comm/mpi_worker.h"

#include <sys/prctl.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "comm/mpi_check.h"

namespace temper {
namespace {

using namespace std::chrono_literals;

// A look that finds nothing to do takes about a microsecond; a longer one has moved data.
constexpr auto kIdleLook = 4us;

// So long after the last progress the worker looks again at once; then it naps, longer and longer.
// It never yields: where other jobs share the core, that costs whole time slices, and a nap does
// not.
constexpr auto kBusy = 20us;
constexpr auto kBusyWhileAwaited = 100us;  // Who waits leaves a core idle.
constexpr auto kLongestNap = 200us;
constexpr auto kLongestNapWhileAwaited = 50us;
constexpr int kNapShare = 4;                   // Of the time without progress.
constexpr unsigned long kTimerSlackNs = 1000;  // By default Linux adds 50 us to each nap.

}  // namespace

MpiWorker::MpiWorker() : thread_([this] { run(); }) {}

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
  std::unique_lock lock(mutex_);
  while (true) {
    if (requests_.empty()) {
      wake_.wait(lock, [this] { return !submitted_.empty() || is_stopping_; });
    }
    if (is_abandoned_) break;
    if (requests_.empty() && submitted_.empty()) return;
    const auto operations = std::exchange(submitted_, {});
    lock.unlock();
    for (const auto& operation : operations) start(operation);
    poll();
    lock.lock();
    rest(lock);
  }
  // MPI may still write to the buffers of what is under way, so they stay for ever.
  new auto(std::move(owners_));
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
  const auto before = Clock::now();
  const int status = MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(),
                                  &num_complete, indices_.data(), statuses_.data());
  const auto after = Clock::now();
  if (num_complete > 0 || after - before > kIdleLook) last_progress_ = after;
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
  if (requests_.empty() || !submitted_.empty()) return;
  const auto idle = Clock::now() - last_progress_;
  const bool is_awaited = num_waiting_ > 0;
  if (idle < (is_awaited ? kBusyWhileAwaited : kBusy)) return;
  const auto longest = is_awaited ? kLongestNapWhileAwaited : kLongestNap;
  wake_.wait_for(lock, std::min<Clock::duration>(idle / kNapShare, longest));
}

}  // namespace temper

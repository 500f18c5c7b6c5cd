// SPDX-License-Identifier: Apache-2.0
#include "train/background_save.h"

#include <chrono>
#include <exception>
#include <thread>

#include "comm/agree.h"
#include "core/error.h"
#include "core/progress_bar.h"

namespace temper {
namespace {

enum Status : int64_t { kWritten = 0, kBusy = 1, kFailed = 2 };  // In the order that max needs.

}  // namespace

void BackgroundSave::start(const RunState& state) {
  if (saver_.needs_rest()) return save_last(state);
  start(state, StoreUse::kGoesOn);
}

void BackgroundSave::start(const RunState& state, StoreUse use) {
  finish();
  watch_.restart();
  saver_.begin(state, use);
  is_under_way_ = true;
}

void BackgroundSave::save_last(const RunState& state) {
  start(state, StoreUse::kRests);
  finish();
}

void BackgroundSave::poll() {
  if (is_under_way_) publish_if_written();
}

void BackgroundSave::finish() {
  if (!is_under_way_) return;
  ProgressBar bar("saving files", saver_.num_files(), ProgressBar::Unit::kCount);
  while (!publish_if_written()) {
    bar.show(saver_.num_written());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

bool BackgroundSave::publish_if_written() {
  int64_t status = kBusy;
  std::exception_ptr failure;
  try {
    if (saver_.is_written()) status = kWritten;
  } catch (const Error&) {
    status = kFailed;
    failure = std::current_exception();
  }
  reduce_words(ranks_, {&status, 1}, ReduceOp::kMax);
  if (status == kBusy) return false;
  is_under_way_ = false;
  if (status == kWritten) {
    saver_.publish();
    last_seconds_ = watch_.seconds();
    ++num_published_;
    return true;
  }
  saver_.abandon();
  if (failure) std::rethrow_exception(failure);
  throw CheckpointError("another rank could not write its part of the checkpoint",
                        "see that rank's message; the last published checkpoint is untouched");
}

}  // namespace temper

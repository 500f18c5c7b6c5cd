// SPDX-License-Identifier: Apache-2.0
#include "app/ending.h"

#include <c10/util/Exception.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <string_view>
#include <thread>

#include "core/error.h"
#include "core/launched_rank.h"
#include "core/log.h"

namespace temper {
namespace {

struct Failure {
  ExitCode code = ExitCode::kInternal;
  std::string message;
};

constexpr const char* kMemoryRemedy =
    "\n  try: lower data.micro_batch, set train.recompute to true, use more ranks at stage 3, or "
    "four bits: method qlora";
constexpr const char* kBugRemedy = "\n  try: report this message; it is a bug in temper";

// LibTorch has no type of its own for a host that is out of memory.
bool is_out_of_memory(const c10::Error& error) {
  const std::string_view message = error.what_without_backtrace();
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) != nullptr ||
         message.find("can't allocate memory") != std::string_view::npos;
}

// What the exception in flight means for the user.
Failure current_failure() {
  try {
    throw;
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    if (is_out_of_memory(error)) return {ExitCode::kOutOfMemory, message + kMemoryRemedy};
    return {ExitCode::kInternal, message + kBugRemedy};
  } catch (const std::bad_alloc&) {
    return {ExitCode::kOutOfMemory, std::string("the host has no memory left") + kMemoryRemedy};
  } catch (const std::exception& error) {
    return {ExitCode::kInternal, error.what() + std::string(kBugRemedy)};
  }
}

// What is wrong for all ranks alike, such as a typo in the configuration, is thrown by all: rank 0
// speaks first, and its abort, or srun, which ends them all then, silences the others.
void let_rank_0_speak_first(int rank, ExitCode code) {
  if (rank == 0 || code == ExitCode::kInternal || code == ExitCode::kOutOfMemory) return;
  std::this_thread::sleep_for(std::chrono::seconds(3));
}

}  // namespace

int run_alone(const std::function<int()>& verb) {
  try {
    return verb();
  } catch (...) {
    const Failure failure = current_failure();
    let_rank_0_speak_first(launched_rank(), failure.code);
    keep_status();
    std::fprintf(stderr, "%s\n", failure.message.c_str());
    return static_cast<int>(failure.code);
  }
}

int run_under_mpi(const std::function<int(const MpiSession&)>& verb) {
  const MpiSession session;
  try {
    return verb(session);
  } catch (...) {
    const Failure failure = current_failure();
    let_rank_0_speak_first(session.rank(), failure.code);
    keep_status();
    std::fprintf(stderr, "rank %d: %s\n", session.rank(), failure.message.c_str());
    session.abort(failure.code);
  }
}

void end_process(int code) {
  std::cout.flush();
  std::fflush(nullptr);
  std::quick_exit(code);
}

}  // namespace temper

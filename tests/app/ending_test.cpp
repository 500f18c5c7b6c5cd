// SPDX-License-Identifier: Apache-2.0
#include "app/ending.h"

#include <c10/util/Exception.h>
#include <unistd.h>

#include <boost/test/unit_test.hpp>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>

#include "core/error.h"
#include "io/temporary_folder.h"

using namespace temper;

namespace {

const c10::SourceLocation kHere{"function", "file.cpp", 1};

// What `work` writes to standard error.
std::string errors_of(const std::function<void()>& work) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "stderr";
  std::fflush(stderr);
  const int kept = ::dup(STDERR_FILENO);
  std::FILE* file = std::fopen(path.c_str(), "w");
  ::dup2(::fileno(file), STDERR_FILENO);
  work();
  std::fflush(stderr);
  ::dup2(kept, STDERR_FILENO);
  ::close(kept);
  std::fclose(file);
  return content_of(path);
}

template <typename Thrown>
void require_ending(const Thrown& thrown, ExitCode code, const std::string& message) {
  int ending = -1;
  const std::string text = errors_of([&] { ending = run_alone([&]() -> int { throw thrown; }); });
  BOOST_TEST(ending == static_cast<int>(code));
  BOOST_TEST(text.starts_with(message), "the message is: " << text);
  BOOST_TEST(text.find("\n  try: ") != std::string::npos, "the message is: " << text);
}

}  // namespace

BOOST_AUTO_TEST_SUITE(ending)

BOOST_AUTO_TEST_CASE(a_verb_that_returns_decides_its_own_code) {
  BOOST_TEST(run_alone([] { return 19; }) == 19);
  BOOST_TEST(errors_of([] { run_alone([] { return 0; }); }) == "");
}

BOOST_AUTO_TEST_CASE(each_error_has_its_exit_code) {
  require_ending(ConfigError("c", "r"), ExitCode::kConfiguration, "c\n  try: r\n");
  require_ending(DataError("d", "r"), ExitCode::kData, "d\n  try: r\n");
  require_ending(ModelError("m", "r"), ExitCode::kModel, "m\n  try: r\n");
  require_ending(CheckpointError("p", "r"), ExitCode::kCheckpoint, "p\n  try: r\n");
  require_ending(CommError("q", "r"), ExitCode::kComm, "q\n  try: r\n");
}

BOOST_AUTO_TEST_CASE(no_memory_is_told_with_what_to_lower) {
  require_ending(std::bad_alloc(), ExitCode::kOutOfMemory,
                 "the host has no memory left\n  try: lower data.micro_batch");
  require_ending(c10::Error(kHere, "DefaultCPUAllocator: can't allocate memory: 9 bytes"),
                 ExitCode::kOutOfMemory,
                 "DefaultCPUAllocator: can't allocate memory: 9 bytes\n  try: lower");
  require_ending(c10::OutOfMemoryError(kHere, "CUDA out of memory"), ExitCode::kOutOfMemory,
                 "CUDA out of memory");
}

BOOST_AUTO_TEST_CASE(anything_else_is_a_bug_of_ours) {
  require_ending(std::logic_error("a reduce without a buffer"), ExitCode::kInternal,
                 "a reduce without a buffer\n  try: report this message");
  require_ending(c10::Error(kHere, "shapes do not fit"), ExitCode::kInternal,
                 "shapes do not fit\n  try: report this message");
}

BOOST_AUTO_TEST_SUITE_END()

// SPDX-License-Identifier: Apache-2.0
#include "zero/state_file.h"

#include <ATen/ATen.h>

#include <boost/test/unit_test.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/error.h"
#include "io/says.h"
#include "io/temporary_folder.h"
#include "support/resident_memory.h"

namespace temper {
namespace {

namespace fs = std::filesystem;
using testing::resident_file_bytes;

BOOST_AUTO_TEST_SUITE(state_file)

BOOST_AUTO_TEST_CASE(what_was_released_comes_back) {
  const TemporaryFolder folder;
  constexpr int64_t kSize = int64_t{1} << 22;
  StateFile file(folder.path(), 2 * StateFile::bytes_of(kSize, at::kFloat));
  const at::Tensor first = file.take(kSize, at::kFloat), second = file.take(kSize, at::kFloat);
  BOOST_TEST(second.abs().max().item<float>() == 0.0F);
  first.copy_(at::arange(kSize));
  const int64_t used = resident_file_bytes();
  file.release(first);
  BOOST_TEST(used - resident_file_bytes() > 3 * kSize);
  BOOST_TEST(at::equal(first, at::arange(kSize).to(at::kFloat)));
  BOOST_TEST(file.has(first.narrow(0, 5, 7)));
  BOOST_TEST(!file.has(at::zeros({5})));
  BOOST_CHECK_THROW(file.take(1, at::kFloat), std::logic_error);
}

// So a killed process leaves nothing, and two of them share a folder.
BOOST_AUTO_TEST_CASE(the_file_has_no_name) {
  const TemporaryFolder folder;
  StateFile one(folder.path(), 1 << 20), other(folder.path(), 1 << 20);
  one.take(100, at::kFloat).fill_(1.0);
  BOOST_TEST(other.take(100, at::kFloat).abs().max().item<float>() == 0.0F);
  BOOST_TEST(fs::is_empty(folder.path()));
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_hold_it_is_refused_in_words) {
  const TemporaryFolder folder;
  const fs::path missing = folder.path() / "missing", plain = folder.path() / "plain";
  std::ofstream(plain) << "text";
  BOOST_CHECK_EXCEPTION(StateFile(missing, 4096), LaunchError,
                        says("missing cannot be used: No such file"));
  BOOST_CHECK_EXCEPTION(StateFile(plain, 4096), LaunchError,
                        says("plain cannot be written to: Not a dir"));
  BOOST_CHECK_EXCEPTION(StateFile("/proc", 4096), LaunchError, says("/proc cannot be written to"));
  BOOST_CHECK_EXCEPTION(StateFile("/dev/shm", 4096), LaunchError,
                        says("/dev/shm is memory itself"));
  constexpr int64_t kTooMany = int64_t{1} << 50;
  BOOST_CHECK_EXCEPTION(StateFile(folder.path(), kTooMany), LaunchError,
                        says("must hold 1125899906842624 bytes of each rank, but had "));
  BOOST_CHECK_EXCEPTION(StateFile(folder.path(), kTooMany), LaunchError,
                        says("set optimizer.offload to a folder on a local disk"));
  fs::remove(plain);
  BOOST_TEST(fs::is_empty(folder.path()));
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

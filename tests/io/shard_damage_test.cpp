// SPDX-License-Identifier: Apache-2.0
#include <boost/test/unit_test.hpp>
#include <fstream>

#include "core/error.h"
#include "core/hash.h"
#include "io/shard_file.h"
#include "io/temporary_folder.h"
#include "io/token_shard.h"

namespace temper {
namespace {

struct Fixture {
  Fixture() {
    ShardContent content = counting_conversations(12, 20);
    content.instead["chat_template"] = std::string(9000, 't');
    content.instead["chat_template_sha256"] = to_hex(sha256(std::string(9000, 't')));
    content.instead["origin"] = std::string(9000, 'o');
    write_shard(path, content);
  }

  // Reads the whole shard; what is wrong, or nothing.
  std::string complaint() const {
    try {
      TokenShard(path).verify_all();
      return "";
    } catch (const DataError& error) {
      return error.what();
    }
  }

  TemporaryFolder folder;
  std::filesystem::path path = folder / "shard.h5";
};

BOOST_FIXTURE_TEST_SUITE(shard_damage, Fixture)

BOOST_AUTO_TEST_CASE(a_file_that_ends_anywhere_too_early_is_refused) {
  BOOST_TEST(complaint() == "");
  auto size = static_cast<int64_t>(std::filesystem::file_size(path));
  while (size > 0) {
    size -= size > 6000 ? 997 : 1;
    std::filesystem::resize_file(path, static_cast<uintmax_t>(std::max<int64_t>(size, 0)));
    BOOST_REQUIRE(complaint().find("is no HDF5 file, or a damaged one (HDF5 says ") !=
                  std::string::npos);
  }
}

// Nothing but gaps between objects can change without being noticed.
BOOST_AUTO_TEST_CASE(damage_to_any_byte_is_named_or_without_effect) {
  const std::string whole = content_of(path);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto put_at = [&](size_t at, char byte) {
    file.seekp(static_cast<std::streamoff>(at));
    file.put(byte).flush();
  };
  int num_named = 0;
  int num_unseen = 0;
  for (size_t at = 0; at < whole.size(); at += at < 64 ? 1 : 3) {  // The superblock whole.
    const bool is_inside_text = at > 0 && whole[at] == whole[at - 1] && whole[at] >= 'o';
    if (is_inside_text && at % 100 != 0) continue;
    put_at(at, static_cast<char>(~whole[at]));
    (complaint().empty() ? num_unseen : num_named) += 1;
    put_at(at, whole[at]);
  }
  BOOST_TEST(complaint() == "");
  BOOST_TEST(num_named > 1000);
  BOOST_TEST(num_unseen < num_named / 2);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "core/hash.h"

#include <boost/test/unit_test.hpp>
#include <utility>

namespace temper {
namespace {

// FIPS 180-2, appendix B.
constexpr const char* kOfNothing =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
constexpr const char* kOfAbc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
constexpr const char* kOfMillionA =
    "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

BOOST_AUTO_TEST_SUITE(hash)

BOOST_AUTO_TEST_CASE(digests_are_the_standards) {
  BOOST_TEST(to_hex(sha256("")) == kOfNothing);
  BOOST_TEST(to_hex(sha256("abc")) == kOfAbc);
  BOOST_TEST(to_hex(sha256(std::string(1000000, 'a'))) == kOfMillionA);
}

BOOST_AUTO_TEST_CASE(pieces_give_the_digest_of_the_whole) {
  Sha256 hash;
  hash.update("a");
  hash.update("");
  Sha256 moved = std::move(hash);
  moved.update("bc");
  BOOST_TEST(to_hex(moved.finish()) == kOfAbc);
}

BOOST_AUTO_TEST_CASE(finishing_starts_afresh) {
  Sha256 hash;
  hash.update("something else");
  hash.finish();
  hash.update("abc");
  BOOST_TEST(to_hex(hash.finish()) == kOfAbc);
  BOOST_TEST(to_hex(hash.finish()) == kOfNothing);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "io/shard_header.h"

#include <sys/file.h>

#include <array>
#include <boost/test/unit_test.hpp>

#include "io/says.h"
#include "io/shard_file.h"
#include "io/temporary_folder.h"
#include "io/token_shard.h"

namespace temper {
namespace {

struct Fixture {
  void expect_refusal(const std::string& text) {
    BOOST_CHECK_EXCEPTION(TokenShard{path}, DataError, says(path.string() + ' ' + text));
  }

  // What the reader says of a good shard with one attribute changed before it was fingerprinted.
  void expect_attribute_refusal(const std::string& name, const ShardAttribute& value,
                                const std::string& text) {
    ShardContent content = counting_conversations(6, 9);
    content.instead[name] = value;
    write_shard(path, content);
    expect_refusal(text);
  }

  void expect_spoilt_refusal(const std::function<void(hid_t)>& spoil, const std::string& text) {
    write_shard(path, counting_documents(6, 9), spoil);
    expect_refusal(text);
  }

  TemporaryFolder folder;
  std::filesystem::path path = folder / "shard.h5";
};

BOOST_FIXTURE_TEST_SUITE(shard_header, Fixture)

BOOST_AUTO_TEST_CASE(what_is_no_shard_says_so) {
  BOOST_CHECK_EXCEPTION(TokenShard{path}, DataError, says("opening it failed: No such file"));
  put(path, "");
  expect_refusal("is no HDF5 file, or a damaged one (HDF5 says ");
  put(path, std::string(10000, 'x'));
  expect_refusal("is no HDF5 file, or a damaged one (HDF5 says ");
  expect_spoilt_refusal([](hid_t file) { H5Adelete(file, "format"); },
                        "has no readable attribute format");
}

BOOST_AUTO_TEST_CASE(another_format_or_version_is_refused) {
  expect_attribute_refusal("format", "other", "is no token shard: its format is 'other'");
  expect_attribute_refusal("format_version", int64_t{2},
                           "was made by a newer version: its format version is 2; known is 1\n"
                           "  try: use a newer temper");
  expect_attribute_refusal("format_version", int64_t{0}, "has the unknown format version 0");
  expect_attribute_refusal("kind", "dpo", "has the unknown kind 'dpo'");
}

BOOST_AUTO_TEST_CASE(counts_that_cannot_be_are_refused) {
  expect_attribute_refusal("vocab_size", int64_t{0}, "has vocab_size 0; wanted 1 to 2147483648");
  expect_attribute_refusal("eos_token_id", int64_t{1000}, "has eos_token_id 1000; wanted 0 to 999");
  expect_attribute_refusal("eos_token_id", int64_t{-1}, "has eos_token_id -1");
  expect_attribute_refusal("block_bytes", int64_t{0}, "has block_bytes 0; wanted 1 to 1073741824");
  expect_attribute_refusal("num_tokens", int64_t{0}, "has num_tokens 0; wanted 1 to ");
  expect_attribute_refusal("num_tokens", int64_t{1} << 62, "has num_tokens 4611686018427387904");
  expect_attribute_refusal("num_documents", int64_t{0}, "has num_documents 0; wanted 1 to ");
  expect_attribute_refusal("num_targets", int64_t{0}, "has no target");
  expect_attribute_refusal("num_targets", int64_t{26}, "has num_targets 26, but only 25 tokens");
  ShardContent content = counting_documents(6, 9);
  content.instead["num_targets"] = int64_t{3};
  write_shard(path, content);
  expect_refusal("has num_targets 3; a shard of kind pretrain has 24");
}

BOOST_AUTO_TEST_CASE(datasets_of_other_sizes_than_stated_are_refused) {
  expect_attribute_refusal("num_tokens", int64_t{29},
                           "has a dataset /tokens of shape [31]; wanted [29]");
  expect_attribute_refusal("num_documents", int64_t{5},
                           "has a dataset /document_offsets of shape [7]; wanted [6]");
  expect_attribute_refusal("block_bytes", int64_t{16},
                           "has a dataset /tokens_sha256 of shape [1, 32]; wanted [4, 32]");
  expect_attribute_refusal(
      "vocab_size", int64_t{70000},
      "has a dataset /tokens of another type; wanted unsigned little-endian of "
      "4 bytes");
}

BOOST_AUTO_TEST_CASE(what_the_fingerprint_covers_cannot_be_changed_unseen) {
  const std::string zeros(64, '0');
  expect_attribute_refusal("fingerprint", zeros,
                           "is damaged or was altered: its fingerprint is " + zeros);
  expect_attribute_refusal("chat_template_sha256", zeros,
                           "is damaged or was altered: its chat_template_sha256 is " + zeros);
  expect_attribute_refusal("chat_template", "",
                           "is damaged or was altered: its chat_template_sha256 is ");
  expect_spoilt_refusal(
      [](hid_t file) {
        H5Ldelete(file, "tokens_sha256", H5P_DEFAULT);
        const std::array<uint8_t, 32> table{};
        add_dataset(file, "tokens_sha256", H5T_STD_U8LE, {1, 32}, table.data());
      },
      "is damaged or was altered: its fingerprint is ");
}

BOOST_AUTO_TEST_CASE(attributes_of_another_type_are_refused) {
  const auto replace = [](const char* name, const ShardAttribute& value) {
    return [name, value](hid_t file) {
      H5Adelete(file, name);
      add_attribute(file, name, value);
    };
  };
  expect_spoilt_refusal(replace("vocab_size", "1000"),
                        "has an attribute vocab_size that is not one 64-bit integer");
  expect_spoilt_refusal(replace("kind", int64_t{1}),
                        "has an attribute kind that is not one string of fixed length");
  expect_spoilt_refusal(
      [](hid_t file) {
        H5Adelete(file, "kind");
        const hid_t type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, H5T_VARIABLE);
        const hid_t space = H5Screate(H5S_SCALAR);
        H5Aclose(H5Acreate2(file, "kind", type, space, H5P_DEFAULT, H5P_DEFAULT));
      },
      "has an attribute kind that is not one string of fixed length");
}

// Replaces the dataset of 30 tokens of two bytes.
void replace_tokens(hid_t file, hid_t type, const std::vector<hsize_t>& lengths,
                    const std::function<void(hid_t)>& set_layout) {
  H5Ldelete(file, "tokens", H5P_DEFAULT);
  const hid_t space = H5Screate_simple(static_cast<int>(lengths.size()), lengths.data(), nullptr);
  const hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  set_layout(creation);
  H5Dclose(H5Dcreate2(file, "tokens", type, space, H5P_DEFAULT, creation, H5P_DEFAULT));
}

BOOST_AUTO_TEST_CASE(datasets_of_another_type_or_layout_are_refused) {
  const auto expect = [&](hid_t type, const std::vector<hsize_t>& lengths,
                          const std::function<void(hid_t)>& set_layout, const std::string& text) {
    ShardContent content = counting_documents(6, 9);
    write_shard(path, content,
                [&](hid_t file) { replace_tokens(file, type, lengths, set_layout); });
    expect_refusal(text);
  };
  const auto plain = [](hid_t) {};
  const std::vector<hsize_t> right{30};
  expect(H5T_STD_I16LE, right, plain, "has a dataset /tokens of another type");
  expect(H5T_STD_U16BE, right, plain, "has a dataset /tokens of another type");
  expect(H5T_IEEE_F32LE, right, plain, "has a dataset /tokens of another type");
  expect(H5T_STD_U16LE, {2, 15}, plain, "has a dataset /tokens of shape [2, 15]; wanted [30]");
  expect(H5T_STD_U16LE, {}, plain, "has a dataset /tokens of shape []; wanted [30]");
  expect(H5T_STD_U16LE, right, plain, "has a dataset /tokens without any data");
  const hsize_t chunk = 5;
  expect(
      H5T_STD_U16LE, right, [&](hid_t list) { H5Pset_chunk(list, 1, &chunk); },
      "has a dataset /tokens that is not in one piece");
  expect(
      H5T_STD_U16LE, right, [](hid_t list) { H5Pset_layout(list, H5D_COMPACT); },
      "has a dataset /tokens that is not in one piece");
  expect(
      H5T_STD_U16LE, right,
      [&](hid_t list) {
        H5Pset_chunk(list, 1, &chunk);
        H5Pset_deflate(list, 4);
      },
      "has a dataset /tokens that is not in one piece");
  expect(
      H5T_STD_U16LE, right, [](hid_t list) { H5Pset_external(list, "/etc/passwd", 0, 60); },
      "has a dataset /tokens whose data is in other files");
  expect(
      H5T_STD_U16LE, right,
      [&](hid_t list) {
        const hid_t space = H5Screate_simple(1, right.data(), nullptr);
        H5Pset_virtual(list, space, "other.h5", "tokens", space);
      },
      "has a dataset /tokens that is not in one piece");
}

BOOST_AUTO_TEST_CASE(links_and_missing_datasets_are_refused) {
  const auto drop = [](hid_t file) { H5Ldelete(file, "tokens", H5P_DEFAULT); };
  expect_spoilt_refusal(drop, "has no dataset /tokens");
  expect_spoilt_refusal(
      [&](hid_t file) {
        drop(file);
        H5Lcreate_soft("/tokens", file, "tokens", H5P_DEFAULT, H5P_DEFAULT);
      },
      "has a link in place of the dataset /tokens");
  expect_spoilt_refusal(
      [&](hid_t file) {
        drop(file);
        H5Lcreate_external("other.h5", "/tokens", file, "tokens", H5P_DEFAULT, H5P_DEFAULT);
      },
      "has a link in place of the dataset /tokens");
  expect_spoilt_refusal(
      [&](hid_t file) {
        drop(file);
        H5Gclose(H5Gcreate2(file, "tokens", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
      },
      "has no readable dataset /tokens");
}

BOOST_AUTO_TEST_CASE(offsets_that_do_not_rise_from_0_to_the_end_are_refused) {
  const auto expect = [&](const std::vector<uint64_t>& offsets, const std::string& text) {
    ShardContent content;
    content.documents = {{1, 2, 3}, {4}, {5, 6}};
    content.offsets_instead = offsets;
    write_shard(path, content);
    BOOST_CHECK_EXCEPTION(TokenShard{path}, DataError, says("/document_offsets " + text));
  };
  expect({0, 3, 3, 6}, "does not rise: offset 2 is 3 after 3");
  expect({0, 4, 3, 6}, "does not rise: offset 2 is 3 after 4");
  expect({1, 3, 4, 6}, "begins with 1, not 0");
  expect({0, 3, 4, 5}, "ends with 5; wanted the number of tokens, 6");
  expect({0, 3, 4, ~uint64_t{0}}, "does not rise: offset 3 is -1 after 4");
}

BOOST_AUTO_TEST_CASE(a_file_that_a_writer_has_locked_is_read) {
  write_shard(path, counting_documents(6, 9));
  const int descriptor = ::open(path.c_str(), O_RDWR);
  BOOST_REQUIRE(::flock(descriptor, LOCK_EX) == 0);
  BOOST_CHECK_NO_THROW(TokenShard{path});
  ::close(descriptor);
}

BOOST_AUTO_TEST_CASE(names_that_this_version_does_not_know_are_ignored) {
  write_shard(path, counting_documents(6, 9), [](hid_t file) {
    add_attribute(file, "language", "en");
    const uint8_t byte = 1;
    add_dataset(file, "more", H5T_STD_U8LE, {1}, &byte);
  });
  BOOST_CHECK_NO_THROW(TokenShard{path});
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

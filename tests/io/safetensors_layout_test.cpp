// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_layout.h"

#include <boost/test/unit_test.hpp>

#include "io/safetensors_file.h"
#include "io/temporary_folder.h"

namespace temper {
namespace {

BOOST_AUTO_TEST_SUITE(safetensors_layout)

BOOST_AUTO_TEST_CASE(tensors_lie_back_to_back_in_the_order_given_from_a_page_on) {
  const SafetensorsLayout layout({{"z", DType::kBF16, {3, 2}},
                                  {"a", DType::kF32, {}},
                                  {"empty", DType::kF32, {0, 4}},
                                  {"m", DType::kU8, {5}}});
  BOOST_TEST(layout.header().size() == 4096u);
  BOOST_TEST((layout.tensors()[0].bytes == Range{4096, 4108}));
  BOOST_TEST((layout.tensors()[1].bytes == Range{4108, 4112}));
  BOOST_TEST((layout.tensors()[2].bytes == Range{4112, 4112}));
  BOOST_TEST((layout.tensors()[3].bytes == Range{4112, 4117}));
  BOOST_TEST(layout.data_bytes() == 21);
  BOOST_TEST(layout.file_bytes() == 4117);
}

BOOST_AUTO_TEST_CASE(the_header_is_what_the_reader_reads) {
  std::vector<TensorSpec> specs;
  for (int i = 0; i < 200; ++i) {
    specs.push_back({"layer \"" + std::to_string(i) + "\" \u00e9", DType::kF16, {i, 7}});
  }
  const SafetensorsLayout layout(specs);
  BOOST_TEST(layout.header().size() % 4096 == 0u);
  BOOST_TEST(layout.header().size() > 4096u);
  const TemporaryFolder folder;
  put(folder / "file",
      layout.header() + std::string(static_cast<size_t>(layout.data_bytes()), 'x'));
  const SafetensorsFile file(folder / "file");
  BOOST_REQUIRE(file.tensors().size() == layout.tensors().size());
  for (const SafetensorsTensor& tensor : layout.tensors()) {
    const SafetensorsTensor* read = file.find(tensor.name);
    BOOST_REQUIRE(read != nullptr);
    BOOST_TEST((read->bytes == tensor.bytes));
    BOOST_TEST((read->shape == tensor.shape));
    BOOST_TEST((read->dtype == tensor.dtype));
  }
  BOOST_TEST(file.metadata().at("format") == "pt");
}

BOOST_AUTO_TEST_CASE(a_header_that_fills_its_page_is_not_padded_by_another) {
  for (size_t length = 3900; length < 4100; ++length) {
    const SafetensorsLayout layout({{std::string(length, 'n'), DType::kU8, {1}}});
    const size_t unpadded = layout.header().find_last_not_of(' ') + 1;
    BOOST_TEST(layout.header().size() == (unpadded + 4095) / 4096 * 4096);
  }
}

BOOST_AUTO_TEST_CASE(what_no_file_can_hold_is_refused) {
  const auto layout_of = [](std::vector<TensorSpec> specs) { return SafetensorsLayout(specs); };
  BOOST_CHECK_THROW(layout_of({{"a", DType::kU8, {1}}, {"a", DType::kU8, {1}}}),
                    std::invalid_argument);
  BOOST_CHECK_THROW(layout_of({{"__metadata__", DType::kU8, {1}}}), std::invalid_argument);
  BOOST_CHECK_THROW(layout_of({{"a", DType::kU8, {-1}}}), std::invalid_argument);
  BOOST_CHECK_THROW(layout_of({{"a", DType::kF4, {1}}}), std::invalid_argument);
  BOOST_CHECK_THROW(layout_of({{"a", DType::kU8, {int64_t{1} << 40, int64_t{1} << 40}}}),
                    std::invalid_argument);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace
}  // namespace temper

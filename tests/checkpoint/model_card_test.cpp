// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/model_card.h"

#include <boost/test/unit_test.hpp>

#include "io/temporary_folder.h"

namespace temper {
namespace {

TrainingData data_of(std::vector<DataOrigin> sources) {
  return {.shards = {{"train.h5", "", "sft", std::string(64, 'a'), 3, 30, 10},
                     {"held.h5", "first", "pretrain", std::string(64, 'b'), 1, 9, 8}},
          .sources = std::move(sources)};
}

std::string card_of(const TrainingData& data, const std::string& base_license = "",
                    MethodOptions::Kind kind = MethodOptions::Kind::kFull) {
  MethodOptions method;
  method.kind = kind;
  return model_card(
      {.base = "models/some", .base_license = base_license, .method = method, .data = data});
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(model_card_of_a_run)

BOOST_AUTO_TEST_CASE(one_licence_of_all_is_stated) {
  const std::string card = card_of(data_of({{"a", "MIT", ""}, {"b", "mit", ""}}));
  BOOST_TEST(has(card, "\nlicense: mit\n"), card);
  BOOST_TEST(has(card, "names no licence of its own"), card);
  BOOST_TEST(has(card_of(data_of({{"a", "MIT", ""}}), "mit"), "\nlicense: mit\n"));
}

BOOST_AUTO_TEST_CASE(a_licence_that_is_not_that_of_all_is_not_stated) {
  const std::string several = card_of(data_of({{"a", "MIT", ""}, {"b", "Apache-2.0", ""}}));
  BOOST_TEST(has(several, "\nlicense: other\n"), several);
  BOOST_TEST(has(several, "| a | MIT | not stated |"), several);
  BOOST_TEST(has(several, "several licences"), several);
  const std::string other_base = card_of(data_of({{"a", "MIT", ""}}), "gemma");
  BOOST_TEST(has(other_base, "\nlicense: other\n"), other_base);
  BOOST_TEST(has(other_base, "The base model's licence is gemma."), other_base);
  const std::string silent = card_of(data_of({{"a", "MIT", ""}, {"b", "", ""}}), "mit");
  BOOST_TEST(!has(silent, "\nlicense:"), silent);
  BOOST_TEST(has(silent, "so none is stated for the result"), silent);
}

BOOST_AUTO_TEST_CASE(a_licence_that_the_hub_does_not_know_has_a_name) {
  BOOST_TEST(has(card_of(data_of({{"a", "LicenseRef-Ours", ""}})),
                 "\nlicense: other\nlicense_name: licenseref-ours\n"));
  BOOST_TEST(!has(card_of(data_of({{"a", "our own: ask", ""}})), "license_name"));
}

BOOST_AUTO_TEST_CASE(data_sets_of_the_hub_are_named_once) {
  const std::string hub = "https://huggingface.co/datasets/";
  const std::string card = card_of(data_of({{"a", "", hub + "some/set/"},
                                            {"b", "", hub + "some/set?row=1"},
                                            {"c", "", hub + "some/set/tree/main"},
                                            {"d", "", "https://else.where/datasets/x"}}));
  BOOST_TEST(has(card, "\ndatasets:\n  - \"some/set\"\ntags:"), card);
}

BOOST_AUTO_TEST_CASE(names_of_files_make_no_markup) {
  const std::string card = card_of(data_of({{"a|b<script>_c_\n[d](e)", "MIT", "x\\y"}}));
  BOOST_TEST(has(card, "| a\\|b\\<script>\\_c\\_ \\[d\\](e) | MIT | x\\\\y |"), card);
}

BOOST_AUTO_TEST_CASE(an_adapter_says_what_it_is) {
  const std::string card = card_of(data_of({{"a", "MIT", ""}}), "", MethodOptions::Kind::kQlora);
  BOOST_TEST(has(card, "\nlibrary_name: peft\n"), card);
  BOOST_TEST(has(card, "\ntags:\n  - temper\n  - \"qlora\"\n  - \"sft\"\n---\n"), card);
  BOOST_TEST(has(card, "\n# Adapter (qlora) of some\n"), card);
  BOOST_TEST(has(card, "| held.h5 | hold-out first | pretrain | 1 | 9 | 8 | bbbbbbbbbbbb |"), card);
}

BOOST_AUTO_TEST_CASE(the_licence_of_a_base_is_that_of_its_card) {
  const TemporaryFolder folder;
  BOOST_TEST(license_in_card(folder.path()) == "");
  const auto in_card = [&](const std::string& text) {
    put(folder / "README.md", text);
    return license_in_card(folder.path());
  };
  BOOST_TEST(in_card("---\ntags: [a]\nlicense: 'apache-2.0'\r\n---\nlicense: no\n") ==
             "apache-2.0");
  BOOST_TEST(in_card("---\nlicense: other\nlicense_name: llama9\n---\n") == "llama9");
  BOOST_TEST(in_card("---\nlicense: other\n---\n") == "other");
  BOOST_TEST(in_card("---\nlicense: [mit, isc]\n---\n") == "");
  BOOST_TEST(in_card("---\nlicense:\n---\n") == "");
  BOOST_TEST(in_card("license: mit\n") == "");
  BOOST_TEST(in_card("") == "");
}

BOOST_AUTO_TEST_CASE(figures_go_into_header_and_text) {
  const std::string card = card_of(data_of({{"a", "MIT", ""}}));
  const std::string told = with_figures(card, 7, {{"held|out", 90, 2.5, 2.25, 0.75}, {"no", 1}});
  BOOST_TEST(has(told, "\nmodel-index:\n  - name: \"Fine-tuned some\"\n    results:\n"), told);
  BOOST_TEST(has(told, "          - type: loss\n            value: 2.25\n"), told);
  BOOST_TEST(has(told, "          - type: bits_per_byte\n            value: 0.75\n---\n"), told);
  BOOST_TEST(has(told, "| held\\|out | 2.5000 | 2.2500 | 9.4877 | 0.7500 | 90 |\n"), told);
  BOOST_TEST(has(told, "| no |  | not finite | not finite |  | 1 |\n\n## Data\n"), told);
  BOOST_TEST(has(told, "after step 7,"), told);
  BOOST_TEST(with_figures(card, 7, {}) == card);
  const std::string foreign = "---\nlicense: mit\n---\n# Theirs\n## Data\n";
  BOOST_TEST(with_figures(foreign, 7, {{"h", 1}}) == foreign);
}

BOOST_AUTO_TEST_SUITE_END()

}  // namespace temper

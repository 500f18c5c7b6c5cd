// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/model_card.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <set>
#include <sstream>
#include <string_view>

#include "checkpoint/companion_files.h"
#include "core/concat.h"
#include "core/error.h"
#include "core/message_text.h"
#include "io/file.h"

namespace temper {
namespace {

// What the hub knows licences as, between blanks; others are `other` with a name.
// Source: huggingface.co/docs/hub/repositories-licenses.
constexpr std::string_view kHubLicenses =
    " afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsl-1.0 cc"
    " cc-by-2.0 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0"
    " cc-by-nc-nd-4.0 cc-by-nc-sa-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-sharing-1.0"
    " epl-2.0 gemma gfdl gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1 lgpl-3.0 llama3 mit mpl-2.0"
    " odbl odc-by pddl unlicense wtfpl ";
constexpr std::string_view kHubDatasets = "https://huggingface.co/datasets/";
constexpr size_t kMaxListed = 100;  // Rows of a table; arbitrary.

bool is_slug(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.';
  });
}

// A string in YAML, which takes those of JSON.
std::string yaml_text(const std::string& text) {
  return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
}

// In a table's cell: on one line, with nothing that Markdown or HTML would take for its own.
std::string cell(const std::string& text) {
  std::string shown;
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < ' ') {
      shown += ' ';
    } else if (std::string_view("\\|`*_<[]").find(c) != std::string_view::npos) {
      shown += {'\\', c};
    } else {
      shown += c;
    }
  }
  return shown.empty() ? "not stated" : shown;
}

bool is_evaluated(const DataShard& shard) { return !shard.holdout.empty(); }

// In small letters, as the hub writes them; an empty one stands for sources without a licence.
std::set<std::string> licenses_of(const ModelCardFacts& facts) {
  std::set<std::string> licenses;
  for (const DataOrigin& source : facts.data.sources) {
    licenses.insert(to_lower_ascii(source.license));
  }
  return licenses;
}

// For what all of these allow.
std::string license_lines(std::set<std::string> licenses, const std::string& base_license) {
  if (licenses.empty() || licenses.contains("")) return "";
  if (!base_license.empty()) licenses.insert(to_lower_ascii(base_license));
  if (licenses.size() > 1) return "license: other\n";
  const std::string& license = *licenses.begin();
  if (is_slug(license) && kHubLicenses.find(concat(' ', license, ' ')) != kHubLicenses.npos) {
    return concat("license: ", license, '\n');
  }
  const bool is_named = is_slug(license) && license != "other";
  return concat("license: other\n", is_named ? concat("license_name: ", license, '\n') : "");
}

// Those of the hub that sources say they come from.
std::string dataset_lines(const TrainingData& data) {
  std::set<std::string> names;
  for (const DataOrigin& source : data.sources) {
    if (!source.origin.starts_with(kHubDatasets)) continue;
    std::string name = source.origin.substr(kHubDatasets.size());
    name = name.substr(0, name.find_first_of("?#"));
    while (name.ends_with('/')) name.pop_back();
    if (!name.empty() && std::ranges::count(name, '/') <= 1) names.insert(name);
  }
  std::string lines;
  for (const std::string& name : names) lines += concat("  - ", yaml_text(name), '\n');
  return lines.empty() ? "" : "datasets:\n" + lines;
}

const char* library_of(const MethodOptions& method) {
  if (!method.has_adapter()) return "transformers";
  return method.kind == MethodOptions::Kind::kBottleneck ? "adapter-transformers" : "peft";
}

std::string header(const ModelCardFacts& facts) {
  std::set<std::string> tags;
  for (const DataShard& shard : facts.data.shards) {
    if (!is_evaluated(shard)) tags.insert(shard.kind);
  }
  if (facts.method.has_adapter()) tags.insert(name_of(facts.method.kind));
  std::string text =
      concat("---\n", license_lines(licenses_of(facts), facts.base_license),
             "base_model: ", yaml_text(facts.base), "\nlibrary_name: ", library_of(facts.method),
             "\npipeline_tag: text-generation\n", dataset_lines(facts.data), "tags:\n  - temper\n");
  for (const std::string& tag : tags) text += concat("  - ", yaml_text(tag), '\n');
  return text + "---\n";
}

std::string shard_table(const std::vector<DataShard>& shards) {
  std::string text =
      "| shard | use | kind | documents | tokens | targets | fingerprint |\n"
      "|---|---|---|--:|--:|--:|---|\n";
  for (size_t i = 0; i < std::min(shards.size(), kMaxListed); ++i) {
    const DataShard& shard = shards[i];
    text += concat("| ", cell(shard.path), " | ",
                   is_evaluated(shard) ? "hold-out " + cell(shard.holdout) : "training", " | ",
                   shard.kind, " | ", shard.num_documents, " | ", shard.num_tokens, " | ",
                   shard.num_targets, " | ", shard.fingerprint.substr(0, 12), " |\n");
  }
  if (shards.size() <= kMaxListed) return text;
  return concat(text, "\nand ", shards.size() - kMaxListed, " more.\n");
}

std::string source_table(const std::vector<DataOrigin>& sources) {
  std::string text = "| source | licence | origin |\n|---|---|---|\n";
  for (size_t i = 0; i < std::min(sources.size(), kMaxListed); ++i) {
    text += concat("| ", cell(sources[i].path), " | ", cell(sources[i].license), " | ",
                   cell(sources[i].origin), " |\n");
  }
  if (sources.size() <= kMaxListed) return text;
  return concat(text, "\nand ", sources.size() - kMaxListed, " more.\n");
}

std::string license_note(const ModelCardFacts& facts) {
  const std::set<std::string> licenses = licenses_of(facts);
  std::string text =
      facts.base_license.empty()
          ? "The folder of the base model names no licence of its own, which also applies."
          : concat("The base model's licence is ", cell(facts.base_license), ".");
  if (licenses.contains("") || licenses.empty()) {
    return text + " Not all training data has a stated licence, so none is stated for the result.";
  }
  if (licenses.size() > 1) return text + " The training data has several licences.";
  return concat(text, " All training data has the licence ",
                cell(facts.data.sources.front().license), ".");
}

// What was done, for those who want to do it again.
std::string training_section(const ModelCardFacts& facts) {
  if (facts.configuration.empty()) return "";
  std::string text = "\n## Training\n\n";
  if (!facts.command.empty()) text += concat("```\n", facts.command, "\n```\n\n");
  text += "| | |\n|---|---|\n";
  for (const auto& [name, value] : facts.settings) {
    text += concat("| ", cell(name), " | ", cell(value), " |\n");
  }
  return concat(text, "\n<details><summary>All that decides the result</summary>\n\n```\n",
                facts.configuration, facts.configuration.ends_with('\n') ? "" : "\n",
                "```\n\n</details>\n");
}

// As people read a loss.
std::string rounded(const std::optional<double>& number) {
  if (!number) return "not finite";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.4f", *number);
  return text.data();
}

std::string figure_table(int64_t step, const std::vector<CardFigure>& figures) {
  std::string text = concat("\n## Hold-outs\n\nLosses after step ", step,
                            ", in nats a target, on what was held back from training.\n\n"
                            "| hold-out | before | after | perplexity | bits per byte | targets |\n"
                            "|---|--:|--:|--:|--:|--:|\n");
  for (const CardFigure& figure : figures) {
    const auto perplexity = figure.loss ? std::optional(std::exp(*figure.loss)) : std::nullopt;
    text += concat("| ", cell(figure.holdout), " | ", figure.before ? rounded(figure.before) : "",
                   " | ", rounded(figure.loss), " | ", rounded(perplexity), " | ",
                   figure.bits_per_byte ? rounded(figure.bits_per_byte) : "", " | ",
                   figure.num_targets, " |\n");
  }
  return text;
}

// Source: huggingface.co/docs/hub/model-cards, "Evaluation results".
std::string model_index(const std::string& name, const std::vector<CardFigure>& figures) {
  std::string text = concat("model-index:\n  - name: ", yaml_text(name), "\n    results:\n");
  for (const CardFigure& figure : figures) {
    if (!figure.loss) continue;
    text +=
        concat("      - task:\n          type: text-generation\n        dataset:\n          name: ",
               yaml_text(figure.holdout), "\n          type: hold-out\n        metrics:\n",
               "          - type: loss\n            value: ", Json(*figure.loss).dump(), '\n');
    if (!figure.bits_per_byte) continue;
    text += concat("          - type: bits_per_byte\n            value: ",
                   Json(*figure.bits_per_byte).dump(), '\n');
  }
  return text;
}

// The sections on data and licence in a folder's card that temper wrote; empty: there is none.
std::string data_sections(const std::filesystem::path& folder) {
  const std::string card = card_in(folder);
  const size_t begin = card.find("\n## Data\n");
  if (begin == std::string::npos || card.find("\n  - temper\n") > begin) return "";
  std::string sections = card.substr(begin);
  for (size_t at = 0; (at = sections.find("\n## ", at)) != std::string::npos; at += 5) {
    sections.insert(at + 1, "#");
  }
  return sections;
}

}  // namespace

std::string model_card(const ModelCardFacts& facts) {
  const std::string name = cell(std::filesystem::path(facts.base).filename().string());
  const std::string method = name_of(facts.method.kind);
  const bool is_adapter = facts.method.has_adapter();
  std::string text = concat(
      header(facts), "\n# ", is_adapter ? concat("Adapter (", method, ") of ") : "Fine-tuned ",
      name, "\n\nMade with temper from ", cell(facts.base), ": ",
      is_adapter ? concat("an adapter of method ", method, " was trained")
                 : "all weights were trained",
      ". This page says what the run knows; how good the answers are is not part of it.\n");
  if (facts.has_data_template) {
    text += "\nIts chat template is the one that rendered the training data, not the base's.\n";
  }
  return concat(text, training_section(facts), "\n## Data\n\n", shard_table(facts.data.shards),
                "\nWhat was trained on was made of these sources; licences and origins are those "
                "that the recipes state.\n\n",
                source_table(facts.data.sources), "\n## Licence\n\n", license_note(facts), '\n');
}

std::string with_figures(const std::string& card, int64_t step,
                         const std::vector<CardFigure>& figures) {
  constexpr std::string_view kEndOfHeader = "\n---\n", kTitle = "\n# ", kData = "\n## Data\n";
  const size_t header_end = card.find(kEndOfHeader);
  const size_t title = card.find(kTitle, header_end);
  const size_t data = card.find(kData, title);
  const bool is_ours = card.starts_with("---\n") && data != std::string::npos &&
                       card.find("\n  - temper\n") < header_end;
  const bool is_finite = std::ranges::any_of(
      figures, [](const CardFigure& figure) { return figure.loss.has_value(); });
  if (!is_ours || figures.empty()) return card;
  const size_t name = title + kTitle.size();
  std::string text = card;
  text.insert(data, figure_table(step, figures));
  if (is_finite) {
    text.insert(header_end + 1,
                model_index(card.substr(name, card.find('\n', name) - name), figures));
  }
  return text;
}

std::string merged_model_card(const MergedCardFacts& facts) {
  const std::string name = cell(facts.base.filename().string());
  std::set<std::string> licenses;
  std::string parts, data;
  for (const auto& [path, weight] : facts.parts) {
    const std::string license = license_in_card(path);
    const std::string shown = cell(path.string());
    licenses.insert(to_lower_ascii(license));
    parts += concat("| ", shown, " | ", weight, " | ", cell(license), " |\n");
    const std::string sections = data_sections(path);
    if (!sections.empty()) data += concat("\n## What ", shown, " was trained on\n", sections);
  }
  const bool is_adapter = facts.kind == MergedCardFacts::Kind::kAdapter;
  const bool is_mixture = facts.kind == MergedCardFacts::Kind::kMixture;
  return concat("---\n", license_lines(licenses, license_in_card(facts.base)),
                "base_model: ", yaml_text(facts.base.string()),
                "\nlibrary_name: ", is_adapter ? "peft" : "transformers",
                "\npipeline_tag: text-generation\ntags:\n  - temper\n",
                is_mixture ? "" : "  - lora\n", "  - merge\n---\n\n# ",
                is_adapter   ? "Combined adapter of "
                : is_mixture ? "Mixture with "
                             : "Merged ",
                name, "\n\nMade with temper from ",
                is_mixture ? "these models, whose weights were added up"
                           : concat(cell(facts.base.string()), " and these adapters"),
                ". Licences are those that their cards state.\n\n| ",
                is_mixture ? "model" : "adapter", " | weight | licence |\n|---|--:|---|\n", parts,
                data);
}

std::string card_in(const std::filesystem::path& folder) {
  if (!is_there(folder / kModelCard)) return {};
  return read_file(folder / kModelCard, FilePurpose::kModel);
}

std::string license_in_card(const std::filesystem::path& folder) {
  std::istringstream lines;
  try {
    lines.str(card_in(folder));
  } catch (const ModelError&) {
    return {};  // Nobody trains on what a base's card says.
  }
  const auto value_of = [](const std::string& line, std::string_view key) {
    std::string value = line.substr(key.size());
    const size_t begin = value.find_first_not_of(" \t'\"");
    const size_t end = value.find_last_not_of(" \t\r'\"");
    return begin == std::string::npos ? "" : value.substr(begin, end - begin + 1);
  };
  std::string line, license, name;
  if (!std::getline(lines, line) || !line.starts_with("---")) return {};
  while (std::getline(lines, line) && !line.starts_with("---")) {
    if (line.starts_with("license:")) license = value_of(line, "license:");
    if (line.starts_with("license_name:")) name = value_of(line, "license_name:");
  }
  const bool is_plain = std::ranges::all_of(license, [](char c) { return c >= ' ' && c <= '~'; });
  if (!is_plain || license.starts_with('[')) return {};
  return license == "other" && !name.empty() ? name : license;
}

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "config/key_rules.h"
#include "config/run_config.h"

/// The keys of what is trained. A visitor is a Section, a SectionWriter or a KeyCollector.
namespace temper::keys {

template <typename Visitor>
void visit_lora_modules(Visitor& section, LoraOptions& lora) {
  using namespace rules;
  section.texts("targets", lora.targets, kModule,
                {"Modules that are adapted, by the ends of their paths; all-linear is all matrices "
                 "of the blocks."});
  section.text("target_pattern", lora.target_pattern, kAnyText,
               {"In place of targets: a regular expression for a module's whole path."});
  section.integers("layers", lora.layers, kLayer, {"Only these blocks are adapted; [] is all."});
  section.list("rank_pattern", lora.rank_pattern,
               {"Another rank for some modules; the first entry that fits counts."},
               [](auto& item, auto& one) {
                 item.text("module", one.module, kSomeText, {"The modules that have this rank."});
                 item.integer("rank", one.rank, kRank, {"Their rank."});
               });
  section.list("alpha_pattern", lora.alpha_pattern,
               {"Another alpha for some modules; the first entry that fits counts."},
               [](auto& item, auto& one) {
                 item.text("module", one.module, kSomeText, {"The modules that have this alpha."});
                 item.real("alpha", one.alpha, kPositive, {"Their alpha."});
               });
}

template <typename Visitor>
void visit_lora(Visitor& section, LoraOptions& lora) {
  using namespace rules;
  section.integer("rank", lora.rank, kRank, {"The rank of what is added to each matrix."});
  section.real("alpha", lora.alpha, kPositive,
               {"What is added is scaled by alpha / rank, or with use_rslora by alpha / "
                "sqrt(rank)."});
  section.real("dropout", lora.dropout, kBelowOne,
               {"The share of the additions' inputs that training sets to zero."});
  visit_lora_modules(section, lora);
  section.flag("use_rslora", lora.uses_rslora,
               {"Scales by alpha / sqrt(rank), which suits high ranks."});
  section.real("plus_ratio", lora.plus_ratio, kPositive,
               {"LoRA+: the second matrix learns so many times faster than the first."});
  section.flag("use_dora", lora.uses_dora,
               {"DoRA: the length of each row of the sum is trained, too."});
  section.choice("init", lora.init, kLoraInits,
                 {"What the additions begin with: nothing (kaiming, gaussian), or the principal "
                  "parts of the matrix (pissa)."});
  section.integer(
      "pissa_niter", lora.pissa_iterations, kIterations,
      {"Principal parts are found by so many randomised iterations; 0: exactly.", "iterations"});
  section.texts("modules_to_save", lora.saved.modules, kModule,
                {"Whole modules that are trained beside the additions, such as lm_head, "
                 "embed_tokens or norm."});
  section.integers("trainable_tokens", lora.saved.tokens, kTokenId,
                   {"Tokens whose rows of the embedding are trained, such as new ones."});
  section.flag("train_head_rows", lora.saved.trains_head_rows,
               {"Their rows of a head that is not tied are trained, too."});
}

template <typename Visitor>
void visit_prefix(Visitor& root, MethodOptions& method) {
  using namespace rules;
  root.section("prefix", {"Of method prefix."}, [&](auto& section) {
    section.integer("tokens", method.prefix.num_tokens, kVirtualTokens,
                    {"Keys and values before each document, in every block.", "tokens"});
    section.real("deviation", method.prefix.deviation, kNotNegative,
                 {"The standard deviation of the numbers that they begin with; 0: zeros."});
    section.integer(
        "projection", method.prefix.projection, kWidthOrNone,
        {"They are trained through a hidden layer of this width; 0: directly.", "elements"});
  });
}

template <typename Visitor>
void visit_prompt(Visitor& root, MethodOptions& method) {
  using namespace rules;
  root.section("prompt", {"Of method prompt."}, [&](auto& section) {
    section.integer("tokens", method.prompt.num_tokens, kVirtualTokens,
                    {"Embeddings before each document.", "tokens"});
    section.choice("init", method.prompt.init, kPromptInits,
                   {"What they begin with: normal numbers, the embeddings of random tokens "
                    "(vocabulary), or of token_ids (tokens)."});
    section.integers("token_ids", method.prompt.token_ids, kTokenId,
                     {"What init: tokens begins with, repeated or cut."});
  });
}

template <typename Visitor>
void visit_method(Visitor& root, MethodOptions& method) {
  using namespace rules;
  root.choice("method", method.kind, kMethods, {"What of the model is trained, and how."});
  root.section("adapter", {"Of every method but full."}, [&](auto& section) {
    section.text("start", method.start, kFolderOrNone,
                 {"An adapter to begin with, as peft or AdapterHub saves it; \"\": a new one."});
    section.integer("seed", method.seed, kSeed, {"Of the initial values and of dropout."});
  });
  root.section("lora", {"Of the methods lora and qlora."},
               [&](auto& section) { visit_lora(section, method.lora); });
  visit_prefix(root, method);
  root.section("bottleneck", {"Of method bottleneck."}, [&](auto& section) {
    section.choice("placement", method.bottleneck.placement, kPlacements,
                   {"Behind attention and MLP (houlsby), or behind the MLP alone (pfeiffer)."});
    section.real("reduction_factor", method.bottleneck.reduction_factor, kReduction,
                 {"The model's width is so many times that of the small networks."});
    section.choice("activation", method.bottleneck.activation, kActivations,
                   {"Between their two products; auto: swish for houlsby, relu for pfeiffer."});
    section.text("name", method.bottleneck.name, kAdapterName,
                 {"The adapter's name in its files."});
  });
  visit_prompt(root, method);
}

template <typename Visitor>
void visit_quantise(Visitor& section, QuantisationOptions& quantise) {
  using namespace rules;
  section.choice("type", quantise.kind, kFourBitKinds, {"The sixteen values of four bits."});
  section.flag("double", quantise.is_double, {"The scales of blocks are quantised, too."});
}

}  // namespace temper::keys

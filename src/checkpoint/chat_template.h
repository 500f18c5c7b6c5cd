// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace temper {

/// SHA-256, hex, of the text of each chat template that transformers renders conversations by with
/// a model's folder: the default one, and `tool_use` if there is one for conversations with tools.
/// Empty if it has none.
///
/// They are the files chat_template.jinja and additional_chat_templates/tool_use.jinja if the first
/// is there, else the `chat_template` of tokenizer_config.json: a text, or a list of names and
/// texts.
/// Throws: ModelError if a file cannot be read, or says something else.
/// Source: transformers 5.24, tokenization_utils_base.py, from_pretrained and get_chat_template.
std::vector<std::string> chat_template_sha256s(const std::filesystem::path& folder);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "io/file.h"

namespace temper {

/// The file that transformers looks for a model's chat template in first.
inline constexpr const char* kChatTemplate = "chat_template.jinja";

/// SHA-256, hex, of the text of each chat template that transformers renders conversations by with
/// a model's folder: the default one, and `tool_use` if there is one for conversations with tools.
/// Empty if it has none.
///
/// They are the files chat_template.jinja and additional_chat_templates/tool_use.jinja. Where the
/// folder has no chat_template.jinja and nothing in additional_chat_templates, they are in the
/// `chat_template` of tokenizer_config.json: a text, or a list of names and texts.
/// Throws: ModelError if a file cannot be read, or says something else.
/// Source: transformers 5.24, tokenization_utils_base.py, from_pretrained and get_chat_template.
std::vector<std::string> chat_template_sha256s(const std::filesystem::path& folder);

/// Makes `text` the one chat template of a model's small files: it is chat_template.jinja, and all
/// others are taken out, also that of tokenizer_config.json.
void set_chat_template(const std::string& text, std::vector<TextFile>& files);

/// The text of chat_template.jinja in the folder of an adapter: what it was trained with in place
/// of its base's own. Nothing if it has none. Throws: ModelError if it cannot be read.
std::optional<std::string> own_chat_template(const std::filesystem::path& adapter);

}  // namespace temper

// SPDX-License-Identifier: Apache-2.0
#include "app/completion.h"

#include <algorithm>

#include "core/concat.h"

namespace temper {
namespace {

// A key that an override can set, and the values that it takes, if they are few.
struct OverrideKey {
  std::string path, sentence;
  std::vector<std::string> values;
};

std::vector<std::string> values_of(const KeyEntry& key) {
  if (key.kind == KeyEntry::Kind::kFlag) return {"true", "false"};
  if (!key.range.contains("enum")) return {};
  return key.range["enum"].get<std::vector<std::string>>();
}

// Lists are overridden as a whole: what is in their items has no override of its own.
void append_overrides(const KeyEntry& entry, std::vector<OverrideKey>& keys) {
  if (entry.kind != KeyEntry::Kind::kSection) {
    keys.push_back({entry.path, entry.sentence, values_of(entry)});
    return;
  }
  for (const KeyEntry& one : entry.below) append_overrides(one, keys);
}

std::vector<OverrideKey> override_keys(const KeyEntry& table) {
  std::vector<OverrideKey> keys;
  append_overrides(table, keys);
  return keys;
}

bool takes_overrides(const VerbHelp& verb) {
  return std::ranges::find(verb.positionals, "overrides", &ArgumentHelp::name) !=
         verb.positionals.end();
}

std::string words(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : " ") + part;
  return text;
}

std::vector<std::string> verb_names(const ProgramHelp& help) {
  std::vector<std::string> names;
  for (const VerbHelp& verb : help.verbs) names.push_back(verb.name);
  return names;
}

std::vector<std::string> option_names(const VerbHelp& verb) {
  std::vector<std::string> names;
  for (const ArgumentHelp& option : verb.options) names.push_back(option.name);
  return names;
}

// Puts a backslash before each of some characters.
std::string escaped(const std::string& text, const std::string& characters) {
  std::string result;
  for (const char c : text) {
    if (characters.find(c) != std::string::npos) result += '\\';
    result += c;
  }
  return result;
}

// A word in single quotes, for any of the three shells.
std::string in_apostrophes(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

// The values of the choices at a verb's positionals, such as a shell's name.
std::vector<std::string> positional_choices(const VerbHelp& verb) {
  std::vector<std::string> values;
  for (const ArgumentHelp& one : verb.positionals) {
    values.insert(values.end(), one.choices.begin(), one.choices.end());
  }
  return values;
}

std::string bash_values(const ProgramHelp& help, const std::vector<OverrideKey>& keys) {
  std::string cases;
  for (const VerbHelp& verb : help.verbs) {
    for (const ArgumentHelp& option : verb.options) {
      if (option.value.empty()) continue;
      cases += concat("    ", verb.name, "/", option.name,
                      ") values=", in_apostrophes(words(option.choices)), " ;;\n");
    }
  }
  std::string overrides;
  for (const OverrideKey& key : keys) {
    if (key.values.empty()) continue;
    overrides +=
        concat("      ", key.path, ") values=", in_apostrophes(words(key.values)), " ;;\n");
  }
  return concat("  case $verb/$before in\n", cases,
                "    */=) case ${COMP_WORDS[COMP_CWORD - 2]} in\n", overrides,
                "      *) return ;;\n    esac ;;\n    *) is_value= ;;\n  esac\n");
}

// Of an option [description], and :VALUE: with what completes it where one follows.
std::string zsh_option(const ArgumentHelp& option) {
  std::string spec = concat(option.has_many ? "*" : "", option.name, "[",
                            escaped(option.description, "[]:\\"), "]");
  if (!option.value.empty()) {
    spec += concat(":", escaped(option.value, ":\\"), ":",
                   option.choices.empty() ? "_files" : "(" + words(option.choices) + ")");
  }
  return in_apostrophes(spec);
}

std::string zsh_positional(const ArgumentHelp& positional, int number) {
  const bool is_overrides = positional.name == "overrides";
  const std::string place = positional.has_many ? "*" : std::to_string(number);
  return in_apostrophes(concat(place, ":", escaped(positional.name, ":"), ":",
                               is_overrides ? "_temper_overrides"
                               : positional.choices.empty()
                                   ? "_files"
                                   : "(" + words(positional.choices) + ")"));
}

// Of what follows a key's "=".
std::string zsh_values(const std::vector<OverrideKey>& keys) {
  std::string cases;
  for (const OverrideKey& key : keys) {
    if (key.values.empty()) continue;
    cases += concat("      ", key.path, ") compadd -- ", words(key.values), " ;;\n");
  }
  return concat(
      "  if [[ $PREFIX == *=* ]]; then\n    local key=${PREFIX%%=*}\n"
      "    compset -P 1 '*='\n    case $key in\n",
      cases, "      *) _files ;;\n    esac\n    return\n  fi\n");
}

std::string zsh_verb(const VerbHelp& verb) {
  std::string text = concat("    ", verb.name, ") _arguments");
  for (const ArgumentHelp& option : verb.options) text += " \\\n      " + zsh_option(option);
  int number = 0;
  for (const ArgumentHelp& one : verb.positionals) {
    text += " \\\n      " + zsh_positional(one, ++number);
  }
  return text + " ;;\n";
}

std::string fish_option(const VerbHelp& verb, const ArgumentHelp& option) {
  std::string line =
      concat("complete -c temper -n '__fish_seen_subcommand_from ", verb.name, "' -l ",
             option.name.substr(2), " -d ", in_apostrophes(option.description));
  if (!option.value.empty()) {
    line += option.choices.empty() ? " -r" : " -x -a " + in_apostrophes(words(option.choices));
  }
  return line + "\n";
}

}  // namespace

std::string bash_completion(const ProgramHelp& help, const KeyEntry& table) {
  const std::vector<OverrideKey> keys = override_keys(table);
  std::string paths, options, with_overrides;
  for (const OverrideKey& key : keys) paths += (paths.empty() ? "" : " ") + key.path + "=";
  for (const VerbHelp& verb : help.verbs) {
    options += concat("    ", verb.name, ") options=", in_apostrophes(words(option_names(verb))),
                      " others=", in_apostrophes(words(positional_choices(verb))), " ;;\n");
    if (takes_overrides(verb)) with_overrides += (with_overrides.empty() ? "" : "|") + verb.name;
  }
  return concat(
      "# Made by `temper completion bash`; to be sourced.\n"
      "_temper() {\n"
      "  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}\n"
      "  local verb='' options='' others='' values='' is_value=yes one\n"
      "  local verbs=",
      in_apostrophes(words(verb_names(help))),
      "\n"
      "  for one in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
      "    [[ \" $verbs \" != *\" $one \"* ]] || { verb=$one; break; }\n"
      "  done\n"
      "  if [[ -z $verb ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W \"$verbs --help --version\" -- \"$word\")\n"
      "    return\n"
      "  fi\n"
      "  case $verb in\n",
      options,
      "  esac\n"
      "  [[ $word != = ]] || { before='=' word=''; COMP_CWORD=$((COMP_CWORD + 1)); }\n",
      bash_values(help, keys),
      "  if [[ $is_value ]]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -W \"$values\" -- \"$word\")\n"
      "    return\n"
      "  fi\n"
      "  mapfile -t COMPREPLY < <(compgen -W \"$options $others\" -- \"$word\")\n"
      "  [[ $word != -* && -z $others ]] || return\n"
      "  COMPREPLY=()\n"
      "  case $verb in\n"
      "    ",
      with_overrides.empty() ? "''" : with_overrides,
      ")\n"
      "      mapfile -t COMPREPLY < <(compgen -W ",
      in_apostrophes(paths),
      " -- \"$word\")\n"
      "      [[ -z ${COMPREPLY[*]} ]] || compopt -o nospace ;;\n"
      "  esac\n"
      "  mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"$word\")\n"
      "  compopt -o filenames\n"
      "}\n"
      "complete -o default -F _temper temper\n");
}

std::string zsh_completion(const ProgramHelp& help, const KeyEntry& table) {
  std::string verbs, cases, keys;
  for (const VerbHelp& verb : help.verbs) {
    verbs += "    " + in_apostrophes(escaped(verb.name, ":") + ":" + verb.description) + "\n";
    cases += zsh_verb(verb);
  }
  const std::vector<OverrideKey> overrides = override_keys(table);
  for (const OverrideKey& key : overrides) {
    keys += "    " + in_apostrophes(key.path + ":" + key.sentence) + "\n";
  }
  return concat(
      "#compdef temper\n# Made by `temper completion zsh`.\n"
      "_temper_overrides() {\n",
      zsh_values(overrides), "  local -a keys=(\n", keys,
      "  )\n"
      "  _describe key keys -S =\n}\n"
      "_temper() {\n  local context state line\n  typeset -A opt_args\n"
      "  local -a verbs=(\n",
      verbs,
      "  )\n"
      "  _arguments -C '(-h --help)'{-h,--help}'[help]' '--version[version]' \\\n"
      "    '1:verb:->verb' '*::argument:->argument'\n"
      "  case $state in\n    verb) _describe verb verbs ;;\n"
      "    argument) case $words[1] in\n",
      cases,
      "    esac ;;\n  esac\n}\n"
      "if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _temper \"$@\"; "
      "else compdef _temper temper; fi\n");
}

std::string fish_completion(const ProgramHelp& help, const KeyEntry& table) {
  std::string text = "# Made by `temper completion fish`; to be sourced.\n", with_overrides;
  for (const VerbHelp& verb : help.verbs) {
    text += concat("complete -c temper -n __fish_use_subcommand -f -a ", verb.name, " -d ",
                   in_apostrophes(verb.description), "\n");
    for (const ArgumentHelp& option : verb.options) text += fish_option(verb, option);
    for (const std::string& value : positional_choices(verb)) {
      text += concat("complete -c temper -n '__fish_seen_subcommand_from ", verb.name, "' -f -a ",
                     value, "\n");
    }
    if (takes_overrides(verb)) with_overrides += " " + verb.name;
  }
  for (const OverrideKey& key : override_keys(table)) {
    std::string values = key.path + "=";
    for (const std::string& value : key.values) values += " " + key.path + "=" + value;
    text += concat("complete -c temper -n '__fish_seen_subcommand_from", with_overrides, "' -a ",
                   in_apostrophes(values), " -d ", in_apostrophes(key.sentence), "\n");
  }
  return text;
}

}  // namespace temper

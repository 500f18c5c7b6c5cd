// SPDX-License-Identifier: Apache-2.0
#include "app/man_page.h"

#include <array>
#include <utility>

#include "config/problem.h"
#include "core/concat.h"
#include "core/exit_code.h"

namespace temper {
namespace {

constexpr std::array<std::pair<ExitCode, const char*>, 11> kEndings = {{
    {ExitCode::kFinished, "Finished."},
    {ExitCode::kInternal, "A bug in temper."},
    {ExitCode::kConfiguration, "The configuration or the command line."},
    {ExitCode::kData, "A token shard, requests or answers, or too many steps without a target."},
    {ExitCode::kModel, "A model folder."},
    {ExitCode::kCheckpoint, "A checkpoint."},
    {ExitCode::kComm, "A collective failed, or a peer was lost."},
    {ExitCode::kNonFinite, "Too many steps without a finite loss and gradient."},
    {ExitCode::kOutOfMemory, "Out of memory."},
    {ExitCode::kRefused, "The launch was refused; nothing was touched."},
    {ExitCode::kResume, "Stopped on request after saving: start the same command again."},
}};

// Text as roff takes it, in lines of at most 80: a backslash and a hyphen are written out, and a
// point or an apostrophe that begins a line is no request.
std::string roff(const std::string& text) {
  constexpr size_t kLongest = 80;
  std::string result;
  size_t line = 0;   // Where it begins, in `result`,
  size_t space = 0;  // and its last space.
  for (const char c : text) {
    if (result.size() - line >= kLongest && space > line) {
      result[space] = '\n';
      line = space + 1;
      if (result[line] == '.' || result[line] == '\'') result.insert(line, "\\&");
    }
    if (result.size() == line && (c == '.' || c == '\'')) result += "\\&";
    if (c == ' ') space = result.size();
    if (c == '\\' || c == '-') result += '\\';
    result += c == '\\' ? 'e' : c;
  }
  return result;
}

std::string bold(const std::string& text) { return "\\fB" + roff(text) + "\\fR"; }
std::string italic(const std::string& text) { return "\\fI" + roff(text) + "\\fR"; }

std::string title(const std::string& name, int section, const std::string& version) {
  return concat(".\\\" SPDX-License-Identifier: Apache-2.0\n.TH ", roff(name), " ", section,
                " \"\" \"", roff(version), "\"\n");
}

std::string entry(const std::string& tag, const std::string& text) {
  return concat(".TP\n", tag, "\n", roff(text), "\n");
}

std::string argument_text(const ArgumentHelp& argument) {
  std::string text = argument.description;
  if (!text.empty() && !text.ends_with('.')) text += ".";
  if (!argument.choices.empty()) text += concat(" One of: ", joined(argument.choices), ".");
  if (!argument.default_text.empty()) text += concat(" Default: ", argument.default_text, ".");
  return text.empty() ? argument.name : text;
}

std::string synopsis(const VerbHelp& verb) {
  std::string line = bold("temper " + verb.name);
  if (!verb.options.empty()) line += " [" + italic("option") + " ...]";
  for (const ArgumentHelp& one : verb.positionals) {
    const std::string name = italic(one.name) + (one.has_many ? " ..." : "");
    line += one.is_required ? " " + name : " [" + name + "]";
  }
  return line;
}

std::string verb_text(const VerbHelp& verb) {
  std::string text = concat(".SS ", roff(verb.name), "\n", roff(verb.description), ".\n.PP\n",
                            synopsis(verb), "\n");
  for (const ArgumentHelp& one : verb.positionals) {
    text += entry(italic(one.name), argument_text(one));
  }
  for (const ArgumentHelp& one : verb.options) {
    const std::string value = one.value.empty() ? "" : " " + italic(one.value);
    text += entry(bold(one.name) + value, argument_text(one));
  }
  return text;
}

std::string key_text(const KeyEntry& key) {
  if (key.kind == KeyEntry::Kind::kSection || key.kind == KeyEntry::Kind::kList) {
    std::string text = entry(bold(key.path), concat(key.sentence, " (", type_name(key), ")"));
    for (const KeyEntry& one : key.below) text += key_text(one);
    return text;
  }
  const std::string value = default_text(key);
  const std::string note = key.is_required ? "required"
                           : value.empty() ? "no default"
                                           : "default " + value;
  return entry(
      bold(key.path),
      concat(key.sentence, " ", type_name(key), ": ", key.has_many ? "each " : "", key.expected,
             key.unit.empty() ? "" : " (" + key.unit + ")", "; ", note, "."));
}

}  // namespace

std::string program_page(const ProgramHelp& help) {
  std::string page = title("TEMPER", 1, help.version);
  page += concat(
      ".SH NAME\ntemper \\- fine\\-tune language models on Slurm clusters\n"
      ".SH SYNOPSIS\n",
      bold("temper"), " ", italic("verb"), " [", italic("option"), " ...] [", italic("argument"),
      " ...]\n.SH DESCRIPTION\n", roff(help.description),
      "\nVerbs that say so run under srun or mpirun, as so many ranks as are started.\n"
      "An override, such as ",
      bold("train.max_steps=10"), ", sets a key of the configuration.\n.SH VERBS\n");
  for (const VerbHelp& verb : help.verbs) page += verb_text(verb);
  page += ".SH EXIT STATUS\n";
  for (const auto& [code, text] : kEndings) {
    page += entry(bold(std::to_string(static_cast<int>(code))), text);
  }
  return page + ".SH SEE ALSO\n.BR temper\\-config (5),\n.BR mpirun (1),\n.BR srun (1)\n";
}

std::string config_page(const KeyEntry& table, const std::string& version) {
  std::string page = title("TEMPER-CONFIG", 5, version);
  page +=
      ".SH NAME\ntemper\\-config \\- the configuration of a run of temper\n.SH DESCRIPTION\n"
      "A YAML file of sections and their keys.\n"
      "Paths are relative to the folder in which a command is started.\n.SH KEYS\n";
  for (const KeyEntry& key : table.below) page += key_text(key);
  return page + ".SH SEE ALSO\n.BR temper (1)\n";
}

}  // namespace temper

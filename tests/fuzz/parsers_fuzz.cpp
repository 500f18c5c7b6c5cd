// SPDX-License-Identifier: Apache-2.0
// The fuzz targets of every file that temper reads; each run chooses one.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "fuzz/parsers.h"

namespace temper {
namespace {

const Parser* chosen = nullptr;

void choose(std::string_view option) {
  static std::vector<Parser> all = data_parsers();
  const std::vector<Parser> more = configuration_parsers();
  all.insert(all.end(), more.begin(), more.end());
  for (const Parser& parser : all) {
    if (option == "--parser=" + std::string(parser.name)) chosen = &parser;
  }
}

// Seeds must be what the parser reads to its end, or a fuzzer finds nothing behind them.
void write_seeds(const Parser& parser, const std::filesystem::path& corpus) {
  const Seeds seeds = parser.seeds();
  for (size_t i = 0; i < seeds.size(); ++i) {
    parser.parse(seeds[i]);
    put(corpus / ("seed-" + std::to_string(i)), seeds[i]);
  }
}

}  // namespace
}  // namespace temper

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  const std::string_view option = *argc > 2 ? (*argv)[1] : "";
  temper::choose(option);
  if (temper::chosen == nullptr) {
    std::fputs("usage: fuzz.parsers --parser=NAME [libFuzzer's options] CORPUS or FILE\n", stderr);
    std::exit(1);
  }
  const std::filesystem::path corpus = (*argv)[*argc - 1];
  if (std::filesystem::is_directory(corpus)) temper::write_seeds(*temper::chosen, corpus);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    temper::chosen->parse(std::string(reinterpret_cast<const char*>(data), size));
  } catch (const temper::Error&) {  // Refused in words.
  }
  return 0;
}

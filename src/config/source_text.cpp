// SPDX-License-Identifier: Apache-2.0
#include "config/source_text.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>

#include "core/concat.h"
#include "core/error.h"
#include "core/message_text.h"

namespace temper {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

class File {
 public:
  // Not blocking: opening a named pipe would otherwise wait for its writer.
  explicit File(const std::string& path)
      : descriptor_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

[[noreturn]] void refuse_too_large(const std::string& path) {
  throw ConfigError(
      concat(path, " is larger than ", kLargestConfigBytes, " bytes: not a configuration"),
      "give the YAML file of the run");
}

void require_small_regular_file(const File& file, const std::string& path) {
  struct stat status {};
  if (::fstat(file.descriptor(), &status) != 0 || !S_ISREG(status.st_mode)) {
    throw ConfigError(concat(path, " is not a regular file"),
                      "give a file, which every rank can read");
  }
  if (static_cast<uintmax_t>(status.st_size) > kLargestConfigBytes) refuse_too_large(path);
}

std::string read_all(const File& file, const std::string& path) {
  std::string text;
  std::array<char, 16384> buffer{};
  while (text.size() <= kLargestConfigBytes) {
    const ssize_t count = ::read(file.descriptor(), buffer.data(), buffer.size());
    if (count == 0) return text;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      throw ConfigError(concat(path, " cannot be read: ", std::strerror(errno)),
                        "look at the file system");
    }
    text.append(buffer.data(), static_cast<size_t>(count));
  }
  refuse_too_large(path);  // It grows while it is read.
}

bool is_forbidden_control(char byte) {
  const auto code = static_cast<unsigned char>(byte);
  return (code < 0x20 && byte != '\t' && byte != '\n' && byte != '\r') || code == 0x7F;
}

bool is_indentation(std::string_view text, size_t line_begin, size_t position) {
  const std::string_view before = text.substr(line_begin, position - line_begin);
  return std::all_of(before.begin(), before.end(), [](char c) { return c == ' ' || c == '\t'; });
}

}  // namespace

std::string read_config_file(const std::string& path) {
  const File file(path);
  if (file.descriptor() < 0) {
    throw ConfigError(concat(path, " cannot be opened: ", std::strerror(errno)),
                      "check the path of the configuration");
  }
  require_small_regular_file(file, path);
  std::string text = read_all(file, path);
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  return text;
}

std::vector<Problem> find_text_problems(std::string_view text) {
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF")) {
    return {{.what = "the text is UTF-16", .remedy = "save it as UTF-8"}};
  }
  int line = 1;
  size_t line_begin = 0;
  for (size_t i = 0; i < text.size();) {
    const size_t size = utf8_character_size(text.substr(i));
    const auto where = [&] { return concat("line ", line, ", column ", i - line_begin + 1); };
    if (size == 0 || is_forbidden_control(text[i])) {
      return {{.what = concat(where(), " has the byte ", quote(text.substr(i, 1))),
               .remedy = "save the file as plain text in UTF-8"}};
    }
    if (text[i] == '\t' && is_indentation(text, line_begin, i)) {
      return {
          {.what = concat(where(), " has a tab as indentation"), .remedy = "indent with spaces"}};
    }
    i += size;
    if (text[i - size] == '\n') {
      ++line;
      line_begin = i;
    }
  }
  return {};
}

}  // namespace temper

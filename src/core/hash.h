// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace temper {

/// A SHA-256 digest.
using Digest = std::array<uint8_t, 32>;

/// SHA-256 of bytes that arrive in pieces. OpenSSL uses the processor's SHA instructions.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void update(std::span<const std::byte> bytes);
  void update(std::string_view text);

  /// The digest of all bytes so far; starts afresh.
  Digest finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

Digest sha256(std::span<const std::byte> bytes);
Digest sha256(std::string_view text);

/// Lower-case hexadecimal, 64 characters.
std::string to_hex(const Digest& digest);

}  // namespace temper

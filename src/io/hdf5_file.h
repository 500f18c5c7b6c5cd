// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <hdf5.h>

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/range.h"

namespace temper {

/// Owns one HDF5 identifier.
class Hdf5Handle {
 public:
  using Close = herr_t (*)(hid_t);

  Hdf5Handle(hid_t id, Close close) : id_(id), close_(close) {}
  Hdf5Handle(Hdf5Handle&& other) noexcept
      : id_(std::exchange(other.id_, H5I_INVALID_HID)), close_(other.close_) {}
  Hdf5Handle& operator=(Hdf5Handle&&) = delete;
  ~Hdf5Handle() {
    if (id_ >= 0) close_(id_);
  }

  bool is_open() const { return id_ >= 0; }
  operator hid_t() const { return id_; }

 private:
  hid_t id_;
  Close close_;
};

/// Keeps HDF5 from printing its errors to the terminal; they go into our messages instead.
class QuietHdf5 {
 public:
  QuietHdf5();
  QuietHdf5(const QuietHdf5&) = delete;
  QuietHdf5& operator=(const QuietHdf5&) = delete;
  ~QuietHdf5();

 private:
  H5E_auto2_t print_ = nullptr;
  void* data_ = nullptr;
};

/// A file whose layout HDF5 explains: attributes of the root, and where the data of its datasets
/// lies. Opened read-only and without locks, which some parallel file systems refuse.
///
/// One at a time in the process, since HDF5 need not have been built for threads: others wait.
/// Throws: DataError, with HDF5's own reason.
class Hdf5File {
 public:
  enum class Element { kUint8, kUint16, kUint32, kUint64 };

  explicit Hdf5File(const std::filesystem::path& path);

  /// An attribute that must be one 64-bit integer.
  int64_t integer(const std::string& attribute) const;

  bool has_attribute(const std::string& attribute) const;

  /// An attribute that must be one string of fixed length.
  std::string text(const std::string& attribute) const;

  /// The bytes of a dataset in the file, which must have this type and shape, little-endian and in
  /// one piece: no chunks, filters, external files, virtual parts or links.
  Range payload(const std::string& dataset, Element element,
                const std::vector<int64_t>& shape) const;

 private:
  [[noreturn]] void refuse(const std::string& problem) const;
  void require_hard_link(const std::string& dataset) const;
  void require_plain_storage(const std::string& dataset, hid_t handle) const;
  void require_shape(const std::string& dataset, hid_t handle,
                     const std::vector<int64_t>& shape) const;

  std::unique_lock<std::mutex> turn_;
  QuietHdf5 quiet_;
  std::string name_;
  Hdf5Handle access_;  // Closing it would wipe the reason why the file could not be opened.
  Hdf5Handle file_;
};

int64_t num_bytes(Hdf5File::Element element);

}  // namespace temper

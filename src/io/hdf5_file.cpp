// SPDX-License-Identifier: Apache-2.0
#include "io/hdf5_file.h"

#include <algorithm>

#include "core/concat.h"
#include "core/error.h"
#include "core/message_text.h"

namespace temper {
namespace {

constexpr size_t kMaxTextBytes = size_t{64} << 20;  // More than any chat template or origin needs.

// After a damaged file HDF5 1.10.8 cannot close what it lost track of, and says so when the process
// ends: "infinite loop closing library". We close what we open ourselves.
std::unique_lock<std::mutex> take_turn() {
  static std::mutex mutex;
  [[maybe_unused]] static const herr_t is_at_exit_off = H5dont_atexit();
  return std::unique_lock(mutex);
}

// The innermost entry of HDF5's error stack says what happened, the others who had called.
std::string hdf5_reason() {
  std::string reason;
  const auto take_first = [](unsigned depth, const H5E_error2_t* error, void* out) -> herr_t {
    if (depth == 0) {
      *static_cast<std::string*>(out) = concat(error->func_name, ": ", error->desc);
    }
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, &reason);
  return reason.empty() ? "" : " (HDF5 says " + reason + ")";
}

hid_t access_without_locks() {
  const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  H5Pset_file_locking(access, /*use_file_locking=*/0, /*ignore_when_disabled=*/1);
  return access;
}

hid_t type_of(Hdf5File::Element element) {
  switch (element) {
    case Hdf5File::Element::kUint8: return H5T_STD_U8LE;
    case Hdf5File::Element::kUint16: return H5T_STD_U16LE;
    case Hdf5File::Element::kUint32: return H5T_STD_U32LE;
    case Hdf5File::Element::kUint64: break;
  }
  return H5T_STD_U64LE;
}

}  // namespace

QuietHdf5::QuietHdf5() {
  H5Eget_auto2(H5E_DEFAULT, &print_, &data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

QuietHdf5::~QuietHdf5() { H5Eset_auto2(H5E_DEFAULT, print_, data_); }

Hdf5File::Hdf5File(const std::filesystem::path& path)
    : turn_(take_turn()),
      name_(path.string()),
      access_(access_without_locks(), H5Pclose),
      file_(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access_), H5Fclose) {
  if (!file_.is_open()) refuse("is no HDF5 file, or a damaged one" + hdf5_reason());
}

void Hdf5File::refuse(const std::string& problem) const {
  throw DataError(concat(name_, ' ', problem),
                  "copy the file again, or make it again as datasets/FORMAT.md describes");
}

int64_t Hdf5File::integer(const std::string& attribute) const {
  const Hdf5Handle handle(H5Aopen(file_, attribute.c_str(), H5P_DEFAULT), H5Aclose);
  if (!handle.is_open()) refuse(concat("has no readable attribute ", attribute, hdf5_reason()));
  const Hdf5Handle type(H5Aget_type(handle), H5Tclose);
  const Hdf5Handle space(H5Aget_space(handle), H5Sclose);
  if (H5Tequal(type, H5T_STD_I64LE) <= 0 || H5Sget_simple_extent_type(space) != H5S_SCALAR) {
    refuse(concat("has an attribute ", attribute, " that is not one 64-bit integer"));
  }
  int64_t value = 0;
  if (H5Aread(handle, H5T_NATIVE_INT64, &value) < 0) {
    refuse(concat("has an attribute ", attribute, " that cannot be read", hdf5_reason()));
  }
  return value;
}

bool Hdf5File::has_attribute(const std::string& attribute) const {
  return H5Aexists(file_, attribute.c_str()) > 0;
}

std::string Hdf5File::text(const std::string& attribute) const {
  const Hdf5Handle handle(H5Aopen(file_, attribute.c_str(), H5P_DEFAULT), H5Aclose);
  if (!handle.is_open()) refuse(concat("has no readable attribute ", attribute, hdf5_reason()));
  const Hdf5Handle type(H5Aget_type(handle), H5Tclose);
  const Hdf5Handle space(H5Aget_space(handle), H5Sclose);
  if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
      H5Sget_simple_extent_type(space) != H5S_SCALAR || H5Tget_size(type) > kMaxTextBytes) {
    refuse(concat("has an attribute ", attribute, " that is not one string of fixed length"));
  }
  std::string value(H5Tget_size(type), '\0');
  if (H5Aread(handle, type, value.data()) < 0) {
    refuse(concat("has an attribute ", attribute, " that cannot be read", hdf5_reason()));
  }
  if (H5Tget_strpad(type) == H5T_STR_NULLTERM)
    value.resize(std::min(value.size(), value.find('\0')));
  value.resize(value.find_last_not_of('\0') + 1);
  return value;
}

Range Hdf5File::payload(const std::string& dataset, Element element,
                        const std::vector<int64_t>& shape) const {
  require_hard_link(dataset);
  const Hdf5Handle handle(H5Dopen2(file_, dataset.c_str(), H5P_DEFAULT), H5Dclose);
  if (!handle.is_open()) refuse(concat("has no readable dataset /", dataset, hdf5_reason()));
  const Hdf5Handle type(H5Dget_type(handle), H5Tclose);
  if (H5Tequal(type, type_of(element)) <= 0) {
    refuse(concat("has a dataset /", dataset, " of another type; wanted unsigned little-endian of ",
                  num_bytes(element), " bytes"));
  }
  require_shape(dataset, handle, shape);
  require_plain_storage(dataset, handle);
  int64_t bytes = num_bytes(element);
  for (const int64_t length : shape) bytes *= length;
  const haddr_t offset = H5Dget_offset(handle);
  if (offset == HADDR_UNDEF) refuse(concat("has a dataset /", dataset, " without any data"));
  const auto begin = static_cast<int64_t>(offset);
  return {begin, begin + bytes};
}

// Neither a soft link, which may go in circles, nor one into another file.
void Hdf5File::require_hard_link(const std::string& dataset) const {
  H5L_info_t link;
  if (H5Lget_info(file_, dataset.c_str(), &link, H5P_DEFAULT) < 0) {
    refuse(concat("has no dataset /", dataset, hdf5_reason()));
  }
  if (link.type != H5L_TYPE_HARD) {
    refuse(concat("has a link in place of the dataset /", dataset, "; links are not followed"));
  }
}

void Hdf5File::require_plain_storage(const std::string& dataset, hid_t handle) const {
  const Hdf5Handle creation(H5Dget_create_plist(handle), H5Pclose);
  if (H5Pget_external_count(creation) != 0) {
    refuse(concat("has a dataset /", dataset, " whose data is in other files"));
  }
  if (H5Pget_layout(creation) != H5D_CONTIGUOUS || H5Pget_nfilters(creation) != 0) {
    refuse(concat("has a dataset /", dataset,
                  " that is not in one piece (chunked, compact, filtered or virtual)"));
  }
}

void Hdf5File::require_shape(const std::string& dataset, hid_t handle,
                             const std::vector<int64_t>& shape) const {
  const Hdf5Handle space(H5Dget_space(handle), H5Sclose);
  const int rank = H5Sget_simple_extent_ndims(space);
  std::vector<hsize_t> lengths(static_cast<size_t>(std::max(rank, 0)));
  if (rank > 0) H5Sget_simple_extent_dims(space, lengths.data(), nullptr);
  const std::vector<int64_t> found(lengths.begin(), lengths.end());
  if (found != shape) {
    refuse(concat("has a dataset /", dataset, " of shape ", to_text(found), "; wanted ",
                  to_text(shape)));
  }
}

int64_t num_bytes(Hdf5File::Element element) {
  return static_cast<int64_t>(H5Tget_size(type_of(element)));
}

}  // namespace temper

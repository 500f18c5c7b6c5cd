// SPDX-License-Identifier: Apache-2.0
#include "zero/state_file.h"

#include <ATen/ops/from_blob.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "core/concat.h"
#include "core/error.h"

namespace temper {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kPageBytes = 4096;

int64_t in_pages(int64_t num_bytes) {
  return (num_bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
}

[[noreturn]] void refuse(const fs::path& folder, const std::string& reason) {
  throw LaunchError(concat("optimizer.offload ", folder.string(), reason),
                    "set optimizer.offload to a folder on a local disk of each node, or leave it "
                    "out");
}

struct FileSystem {
  long type;
  const char* what;
};

// Those of linux/magic.h, and by their own sources Lustre, GPFS, BeeGFS, CIFS and SMB 2.
constexpr std::array kUnfit = {FileSystem{TMPFS_MAGIC, "memory itself (tmpfs)"},
                               FileSystem{RAMFS_MAGIC, "memory itself (ramfs)"},
                               FileSystem{NFS_SUPER_MAGIC, "a network file system (NFS)"},
                               FileSystem{CEPH_SUPER_MAGIC, "a network file system (Ceph)"},
                               FileSystem{AFS_SUPER_MAGIC, "a network file system (AFS)"},
                               FileSystem{SMB_SUPER_MAGIC, "a network file system (SMB)"},
                               FileSystem{0x0BD00BD0, "a network file system (Lustre)"},
                               FileSystem{0x47504653, "a network file system (GPFS)"},
                               FileSystem{0x19830326, "a network file system (BeeGFS)"},
                               FileSystem{0xFF534D42, "a network file system (CIFS)"},
                               FileSystem{0xFE534D42, "a network file system (SMB 2)"}};

// The bytes that are free there.
int64_t require_local_disk(const fs::path& folder) {
  struct statfs status {};
  if (::statfs(folder.c_str(), &status) != 0) {
    refuse(folder, concat(" cannot be used: ", std::strerror(errno)));
  }
  const auto unfit = std::ranges::find(kUnfit, status.f_type, &FileSystem::type);
  if (unfit != kUnfit.end()) refuse(folder, concat(" is ", unfit->what, ", not a local disk"));
  return static_cast<int64_t>(status.f_bavail) * status.f_bsize;
}

// Some file systems make no file without a name: there it loses its name at once.
int open_nameless(const fs::path& folder) {
  int file = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
    std::string name = (folder / "temper-state-XXXXXX").string();
    file = ::mkostemp(name.data(), O_CLOEXEC);
    if (file >= 0) ::unlink(name.c_str());
  }
  if (file < 0) refuse(folder, concat(" cannot be written to: ", std::strerror(errno)));
  return file;
}

}  // namespace

StateFile::StateFile(const fs::path& folder, int64_t num_bytes) : num_bytes_(num_bytes) {
  if (num_bytes == 0) return;
  const int64_t free_bytes = require_local_disk(folder);
  const int file = open_nameless(folder);
  const int reason = ::posix_fallocate(file, 0, num_bytes);
  void* const data = reason != 0 ? MAP_FAILED
                                 : ::mmap(nullptr, static_cast<size_t>(num_bytes),
                                          PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  const int error = reason != 0 ? reason : errno;
  ::close(file);
  if (data == MAP_FAILED) {
    refuse(folder, concat(" must hold ", num_bytes, " bytes of each rank, but had ", free_bytes,
                          " free: ", std::strerror(error)));
  }
  data_ = static_cast<std::byte*>(data);
}

StateFile::~StateFile() {
  if (data_ != nullptr) ::munmap(data_, static_cast<size_t>(num_bytes_));
}

int64_t StateFile::bytes_of(int64_t num_elements, at::ScalarType dtype) {
  return in_pages(num_elements * static_cast<int64_t>(c10::elementSize(dtype)));
}

at::Tensor StateFile::take(int64_t num_elements, at::ScalarType dtype) {
  const int64_t begin = num_taken_;
  num_taken_ += bytes_of(num_elements, dtype);
  if (num_taken_ > num_bytes_) throw std::logic_error("StateFile: more than was asked for");
  return at::from_blob(data_ + begin, {num_elements}, dtype);
}

bool StateFile::has(const at::Tensor& tensor) const {
  if (!tensor.defined()) return false;
  const auto* const begin = static_cast<const std::byte*>(tensor.const_data_ptr());
  return begin >= data_ && begin < data_ + num_bytes_;
}

// Of a shared mapping nothing is lost: what was written is in the kernel's cache of the file.
void StateFile::release(const at::Tensor& part) const {
  const int64_t begin = static_cast<const std::byte*>(part.const_data_ptr()) - data_;
  const int64_t first = in_pages(begin);
  const int64_t last = (begin + static_cast<int64_t>(part.nbytes())) / kPageBytes * kPageBytes;
  if (begin < 0 || last > num_bytes_) throw std::logic_error("StateFile: a tensor of another");
  if (first < last) ::madvise(data_ + first, static_cast<size_t>(last - first), MADV_DONTNEED);
}

}  // namespace temper

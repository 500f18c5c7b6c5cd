// SPDX-License-Identifier: Apache-2.0
// To be preloaded: the file system has space, but the user's quota is used up.
#include <fcntl.h>

#include <cerrno>

extern "C" int fallocate(int, int, off_t, off_t) {
  errno = EDQUOT;
  return -1;
}

# SPDX-License-Identifier: Apache-2.0
# What everything of ours is compiled with: the targets temper_warnings and temper_options.

add_library(temper_warnings INTERFACE)
target_compile_options(temper_warnings INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion $<$<BOOL:${TEMPER_WERROR}>:-Werror>)
# GCC 12 warns of overlaps and overflows in "a" + std::string that cannot happen.
# https://gcc.gnu.org/bugzilla/show_bug.cgi?id=105651
target_compile_options(temper_warnings INTERFACE
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict> $<$<CXX_COMPILER_ID:GNU>:-Wno-stringop-overflow>
  $<$<CXX_COMPILER_ID:GNU>:-Wno-array-bounds>)
# Clang counts a loop that it does not unroll although asked to as a warning, signs to what
# -Wconversion means, and a function whose only calls are where `if constexpr` discards them, as
# those of kernels are in a build without any, as unneeded.
target_compile_options(temper_warnings INTERFACE
  $<$<CXX_COMPILER_ID:Clang>:-Wno-pass-failed> $<$<CXX_COMPILER_ID:Clang>:-Wno-sign-conversion>
  $<$<CXX_COMPILER_ID:Clang>:-Wno-unneeded-internal-declaration>)

add_library(temper_options INTERFACE)
if(TEMPER_MARCH AND CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
  target_compile_options(temper_options INTERFACE -march=${TEMPER_MARCH})
endif()
target_compile_definitions(temper_options INTERFACE $<$<CONFIG:Debug>:_GLIBCXX_ASSERTIONS>)

if(TEMPER_SANITIZE)
  # Not vptr: it needs the type information that LibTorch hides.
  set(flags -fsanitize=${TEMPER_SANITIZE} -fno-sanitize=vptr)
  target_compile_options(temper_options INTERFACE
    ${flags} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(temper_options INTERFACE ${flags})
endif()

# LibTorch has 200,000 symbols, and each test program is linked with it.
find_program(TEMPER_LLD ld.lld)
if(TEMPER_LLD)
  target_link_options(temper_options INTERFACE -fuse-ld=lld)
endif()

# CCACHE_BASEDIR lets a second clone reuse what the first one compiled; CCACHE_DEPEND saves running
# the preprocessor first on what nobody has compiled yet; the sloppiness is what
# ccache asks for to accept precompiled headers.
find_program(TEMPER_CCACHE ccache)
if(TEMPER_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER
    env CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1 CCACHE_DEPEND=1
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
    ${TEMPER_CCACHE})
  target_compile_options(temper_options INTERFACE $<$<CXX_COMPILER_ID:GNU>:-fpch-preprocess>
    "$<$<CXX_COMPILER_ID:Clang>:SHELL:-Xclang -fno-pch-timestamp>")
endif()

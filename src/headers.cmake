# SPDX-License-Identifier: Apache-2.0
# The target temper_headers compiles every header by itself: one file for each, which includes it
# and nothing else.
#
# Reading ATen takes longer than all the rest, so the two headers that bring it are precompiled.
# That hides nothing: a header is compiled behind a precompiled one only where it includes that one
# itself, directly or through others of ours, and so has all of its declarations in any case.

# temper_check_headers(<module> <headers...>)
function(temper_check_headers module)
  foreach(header IN LISTS ARGN)
    set(seen "")
    temper_included(${module}/${header})
    set(first plain)
    if("ATen/ATen.h" IN_LIST seen)
      set(first ATen/ATen.h)
    elseif("ATen/core/Tensor.h" IN_LIST seen)
      set(first ATen/core/Tensor.h)
    endif()
    set(stub ${PROJECT_BINARY_DIR}/headers/${module}/${header}.cpp)
    file(CONFIGURE OUTPUT ${stub} CONTENT "#include \"${module}/${header}\"\n")
    temper_header_group(${first})
    target_sources(${group} PRIVATE ${stub})
    target_link_libraries(${group} PRIVATE temper_${module})
  endforeach()
endfunction()

# Appends to `seen` what a header of ours includes, directly or through other headers of ours.
macro(temper_included header)
  file(STRINGS ${PROJECT_SOURCE_DIR}/src/${header} lines REGEX "^#include [<\"]")
  list(TRANSFORM lines REPLACE "^#include [<\"]([^>\"]+)[>\"].*" "\\1")
  list(REMOVE_ITEM lines ${seen} "")
  list(APPEND seen ${lines})
  list(APPEND unread ${lines})
  while(unread)
    list(POP_FRONT unread next)
    if(EXISTS ${PROJECT_SOURCE_DIR}/src/${next})
      temper_included(${next})
    endif()
  endwhile()
endmacro()

# Sets `group` to the target of headers behind a precompiled one, or behind none.
macro(temper_header_group precompiled)
  string(MAKE_C_IDENTIFIER "temper_headers_${precompiled}" group)
  if(NOT TARGET ${group})
    add_library(${group} OBJECT EXCLUDE_FROM_ALL)
    target_link_libraries(${group} PRIVATE temper_options temper_warnings)
    if(NOT ${precompiled} STREQUAL plain)
      target_precompile_headers(${group} PRIVATE <${precompiled}>)
    endif()
    if(NOT TARGET temper_headers)
      add_custom_target(temper_headers)
    endif()
    add_dependencies(temper_headers ${group})
  endif()
endmacro()

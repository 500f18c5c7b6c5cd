# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` leaves in a prefix, which can be moved afterwards:
#
#   bin/temper                   and in lib/temper what it loads of LibTorch
#   share/temper/                launch/, slurm/, configs/ and datasets/, as in a checkout
#   share/man, share/doc, share/modulefiles, and completions where bash, zsh and fish look for them
#
# The component `bundle`, which launch/package installs as well, adds to lib/temper all other
# libraries but glibc, MPI, and what MPI loads: those are the other machine's.
include(GNUInstallDirs)

set(libraries lib/temper)
set(scripts ${CMAKE_INSTALL_DATADIR}/temper)

option(TEMPER_INSTALL_TORCH "Install LibTorch's libraries beside the program" ON)

# Beside LibTorch, the folders outside the system's of libraries that are linked.
set(rpath "$ORIGIN/../${libraries}")
if(NOT TEMPER_INSTALL_TORCH)
  list(APPEND rpath ${TEMPER_TORCH}/lib)
endif()
get_target_property(yaml yaml-cpp::yaml-cpp LOCATION)
foreach(library IN LISTS MPI_C_LIBRARIES HDF5_C_LIBRARIES OPENSSL_CRYPTO_LIBRARY yaml)
  if(IS_ABSOLUTE "${library}")
    cmake_path(GET library PARENT_PATH folder)
    if(NOT folder IN_LIST CMAKE_C_IMPLICIT_LINK_DIRECTORIES)
      list(APPEND rpath ${folder})
    endif()
  endif()
endforeach()
list(REMOVE_DUPLICATES rpath)
set_target_properties(temper PROPERTIES INSTALL_RPATH "${rpath}")
# DT_RPATH, unlike DT_RUNPATH, is also where what a library loads in turn is looked for.
target_link_options(temper PRIVATE LINKER:--disable-new-dtags)

install(TARGETS temper RUNTIME_DEPENDENCY_SET temper_libraries)
cmake_path(GET TEMPER_TORCH PARENT_PATH torch_folder)
set(system "^ld-linux" "^lib(c|m|dl|rt|pthread|util|resolv)\\.so" "^libmpi[._]")
if(TEMPER_INSTALL_TORCH)
  install(RUNTIME_DEPENDENCY_SET temper_libraries
    PRE_EXCLUDE_REGEXES ${system} POST_INCLUDE_REGEXES "^${torch_folder}/" POST_EXCLUDE_REGEXES ".*"
    LIBRARY DESTINATION ${libraries})
endif()
install(RUNTIME_DEPENDENCY_SET temper_libraries
  PRE_EXCLUDE_REGEXES ${system} POST_EXCLUDE_REGEXES "^${torch_folder}/"
  LIBRARY DESTINATION ${libraries} COMPONENT bundle EXCLUDE_FROM_ALL)

install(DIRECTORY launch slurm configs datasets DESTINATION ${scripts} USE_SOURCE_PERMISSIONS
  REGEX "/(__pycache__|site\\.env|packaging)$" EXCLUDE
  # These need the sources.
  REGEX "/launch/(build|test|families|package|quickstart|quickstart-table)$" EXCLUDE)
install(FILES README.md CHANGELOG.md LICENSE TYPE DOC)
install(FILES launch/packaging/modulefile
  DESTINATION ${CMAKE_INSTALL_DATADIR}/modulefiles/temper RENAME ${PROJECT_VERSION})

# The scripts look for the program where a build in their checkout leaves it.
install(CODE "
  set(folder \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${scripts}/build/release\")
  file(MAKE_DIRECTORY \${folder})
  file(CREATE_LINK ../../../../bin/temper \${folder}/temper SYMBOLIC)")

# temper_install_output(<file> <arguments...>): what the program prints.
function(temper_install_output file)
  install(CODE "
    set(file \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${file}\")
    message(STATUS \"Installing: \${file}\")
    cmake_path(GET file PARENT_PATH folder)
    file(MAKE_DIRECTORY \${folder})
    execute_process(COMMAND $<TARGET_FILE:temper> ${ARGN}
      OUTPUT_FILE \${file} COMMAND_ERROR_IS_FATAL ANY)")
endfunction()
temper_install_output(${CMAKE_INSTALL_MANDIR}/man1/temper.1 man temper)
temper_install_output(${CMAKE_INSTALL_MANDIR}/man5/temper-config.5 man temper-config)
temper_install_output(${CMAKE_INSTALL_DATADIR}/bash-completion/completions/temper completion bash)
temper_install_output(${CMAKE_INSTALL_DATADIR}/zsh/site-functions/_temper completion zsh)
temper_install_output(${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d/temper.fish
  completion fish)

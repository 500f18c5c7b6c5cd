# SPDX-License-Identifier: Apache-2.0
# How tests are declared, from the CMakeLists.txt in tests/<folder>/. <path> is <folder>/<file>
# without .cpp, and CTest knows the test as <folder>.<file>. TORCH: the test includes LibTorch.

# Tests run side by side by CTest's slots, of which launch/test has four a core: a test takes four;
# five with ranks, which wait for each other; and one where it says WAITS, since it mostly waits for
# other processes. None takes more: it would begin when all others are over, and run alone.
# Those with the label quick are what launch/test --quick runs.

# temper_unit_test(<path> [TORCH] USES <modules> [LIBRARIES <targets>] [TIMEOUT <seconds>])
# One process, no MPI. Where TEMPER_UNITY is on, the files of a folder make one program, and each is
# a suite of it; but one that replaces functions of libc (extern "C", support/file_calls.h) or
# operator new has a program of its own.
function(temper_unit_test path)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH" "TIMEOUT" "USES;LIBRARIES")
  temper_test_program(unit)
  add_dependencies(temper_unit_tests ${program})
  add_test(NAME ${name} COMMAND ${program} ${suite})
  temper_test_properties(${name} unit quick)
endfunction()

# temper_mpi_test(<path> [TORCH] RANKS <n...> USES <modules> [LIBRARIES ...] [TIMEOUT ...])
# One CTest entry per world size: <folder>.<file>.np<ranks>.
function(temper_mpi_test path)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH" "TIMEOUT" "RANKS;USES;LIBRARIES")
  list(APPEND arg_LIBRARIES MPI::MPI_C)
  temper_test_program(mpi)
  foreach(ranks IN LISTS arg_RANKS)
    add_test(NAME ${name}.np${ranks}
      COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_PREFLAGS} ${MPIEXEC_NUMPROC_FLAG} ${ranks}
              $<TARGET_FILE:${program}> ${suite})
    set(labels mpi)
    if(ranks EQUAL 2)
      list(APPEND labels quick)
    endif()
    temper_test_properties(${name}.np${ranks} ${labels})
    if(ranks GREATER 1)
      set_tests_properties(${name}.np${ranks} PROPERTIES PROCESSORS 5)
    endif()
  endforeach()
endfunction()

# temper_python_test(<name> COMMAND <script> <args...> [WAITS] [TIMEOUT <seconds>]
#                    [PYTHON <variable>] [LABELS <labels>])
# Runs a script, named from the root of the project, with the tests' Python, or that which another
# variable of launch/env names. Its environment has TEMPER_BINARY, TEMPER_BUILD_DIR, and all that
# launch/env sets.
function(temper_python_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "WAITS" "TIMEOUT;PYTHON" "COMMAND;LABELS")
  if(NOT arg_PYTHON)
    set(arg_PYTHON TEMPER_TESTS_PYTHON)
  endif()
  add_test(NAME ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    COMMAND bash -c "source launch/env && exec \"$${arg_PYTHON}\" \"$@\"" -- ${arg_COMMAND})
  temper_test_properties(${name} python ${arg_LABELS})
endfunction()

# The rest is for the functions above and reads their arguments.

# Adds the file of `path` to a test program with the main of tests/support, and sets `name`, of the
# test; `program`; and `suite`, the argument that chooses this file in it, where it has others.
macro(temper_test_program kind)
  string(REPLACE "/" "." name ${path})
  cmake_path(GET path FILENAME file)
  set(program ${name})
  set(suite "")
  file(STRINGS ${file}.cpp replaced REGEX
    "^extern \"C\"|^void\\* operator new|^#include \"support/file_calls.h\"")
  if(TEMPER_UNITY AND NOT replaced)
    cmake_path(GET path PARENT_PATH folder)
    set(program ${folder}.${kind}_tests)
    set(suite --run_test=${file})
  endif()
  if(NOT TARGET ${program})
    add_executable(${program} $<TARGET_OBJECTS:temper_${kind}_main>)
    target_include_directories(${program} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
    target_link_libraries(${program} PRIVATE
      Boost::unit_test_framework temper_options temper_warnings)
  endif()
  if(suite)
    temper_add_suite()
  else()
    target_sources(${program} PRIVATE ${file}.cpp)
  endif()
  list(TRANSFORM arg_USES PREPEND temper_)
  target_link_libraries(${program} PRIVATE ${arg_USES} ${arg_LIBRARIES})
  get_target_property(precompiled ${program} PRECOMPILE_HEADERS_REUSE_FROM)
  if(arg_TORCH AND NOT precompiled)
    target_link_libraries(${program} PRIVATE Torch::Torch)
    temper_precompile_torch(${program})
  endif()
endmacro()

# Adds a file to a program of several. Each becomes a suite and a namespace, so that what two files
# name alike stays apart; all that any file of the folder includes stands before them, since an
# include within a namespace would declare its contents there.
macro(temper_add_suite)
  get_target_property(files ${program} TEMPER_FILES)
  if(NOT files)
    set(files "")
    cmake_language(EVAL CODE "cmake_language(DEFER CALL temper_write_suites ${program})")
  endif()
  set_target_properties(${program} PROPERTIES TEMPER_FILES "${files};${file}")
endmacro()

# Writes the sources of a program of several files, five of them to a source.
function(temper_write_suites program)
  get_target_property(files ${program} TEMPER_FILES)
  list(REMOVE_ITEM files "")
  # GCC takes each included file for a header, in which a case's fixture may not be anonymous.
  target_compile_options(${program} PRIVATE
    $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  while(files)
    list(LENGTH files left)
    set(includes "")
    set(suites "")
    set(number 0)
    while(files AND number LESS 5)
      list(POP_FRONT files file)
      math(EXPR number "${number} + 1")
      set(source ${CMAKE_CURRENT_SOURCE_DIR}/${file}.cpp)
      set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
      file(STRINGS ${source} lines REGEX "^#include ")
      list(APPEND includes ${lines})
      string(APPEND suites
        "BOOST_AUTO_TEST_SUITE(${file})\n"
        "namespace temper { using namespace ::temper; }\n"
        "namespace temper::testing { using namespace ::temper::testing; }\n"
        "#include \"${source}\"\n"
        "BOOST_AUTO_TEST_SUITE_END()\n")
    endwhile()
    list(REMOVE_DUPLICATES includes)
    list(JOIN includes "\n" includes)
    set(written ${CMAKE_CURRENT_BINARY_DIR}/${program}.${left}.cpp)
    file(CONFIGURE OUTPUT ${written} CONTENT
      "${includes}\nnamespace temper::testing {}\n${suites}" @ONLY)
    target_sources(${program} PRIVATE ${written})
  endwhile()
endfunction()

# OMP_WAIT_POLICY: threads that wait for each other would look without a pause, which takes a core
# from other tests, and many times the work of a tiny model.
# TORCHDYNAMO_DISABLE: bitsandbytes would import torch's compiler, which takes a second.
# OMPI_*, PRTE_*: run as root in a container, more ranks than cores, no network, no binding that
# would put the ranks of two tests on one core. Leaks are not looked for: LibTorch keeps its state
# to the end.
set(TEMPER_TEST_ENVIRONMENT
  OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive TORCHDYNAMO_DISABLE=1
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
  OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none
  OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_plm=isolated
  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
  TEMPER_BINARY=${PROJECT_BINARY_DIR}/temper TEMPER_BUILD_DIR=${PROJECT_BINARY_DIR})

# temper_test_properties(<test> <labels...>)
function(temper_test_properties test)
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)  # A lost rank shows as a time-out, not as a hang.
  endif()
  set(slots 4)
  if(arg_WAITS)
    set(slots 1)
  endif()
  # Until a first run has measured them, those that may take longest begin, and those that take a
  # second, which are of C++, come last: else a core has nothing to do while a long one ends.
  set(labels ${ARGN})
  set(cost ${arg_TIMEOUT})
  if("python" IN_LIST labels)
    math(EXPR cost "${cost} + 1000")
  endif()
  set_tests_properties(${test} PROPERTIES
    TIMEOUT ${arg_TIMEOUT} COST ${cost} PROCESSORS ${slots} LABELS "${ARGN}"
    ENVIRONMENT "${TEMPER_TEST_ENVIRONMENT}")
endfunction()

# SPDX-License-Identifier: Apache-2.0
# How tests are declared, from the CMakeLists.txt in tests/<folder>/. <path> is <folder>/<file>
# without .cpp, and CTest knows the test as <folder>.<file>. TORCH: the test includes LibTorch.

# temper_unit_test(<path> [TORCH] USES <modules> [LIBRARIES <targets>] [TIMEOUT <seconds>])
# One process, no MPI.
function(temper_unit_test path)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH" "TIMEOUT" "USES;LIBRARIES")
  temper_test_program(unit_main)
  add_dependencies(temper_unit_tests ${name})
  add_test(NAME ${name} COMMAND ${name})
  temper_test_properties(${name} LABELS unit)
endfunction()

# temper_mpi_test(<path> [TORCH] RANKS <n...> USES <modules> [LIBRARIES ...] [TIMEOUT ...])
# One CTest entry per world size: <folder>.<file>.np<ranks>.
function(temper_mpi_test path)
  cmake_parse_arguments(PARSE_ARGV 1 arg "TORCH" "TIMEOUT" "RANKS;USES;LIBRARIES")
  list(APPEND arg_LIBRARIES MPI::MPI_C)
  temper_test_program(mpi_main)
  foreach(ranks IN LISTS arg_RANKS)
    add_test(NAME ${name}.np${ranks}
      COMMAND ${MPIEXEC_EXECUTABLE} ${MPIEXEC_PREFLAGS} ${MPIEXEC_NUMPROC_FLAG} ${ranks}
              $<TARGET_FILE:${name}>)
    temper_test_properties(${name}.np${ranks} LABELS mpi PROCESSORS ${ranks})
  endforeach()
endfunction()

# temper_python_test(<name> COMMAND <script> <args...> [PROCESSORS <n>] [TIMEOUT <seconds>]
#                    [PYTHON <variable>])
# Runs a script, named from the root of the project, with the tests' Python, or that which another
# variable of launch/env names. Its environment has TEMPER_BINARY, TEMPER_BUILD_DIR, and all that
# launch/env sets.
function(temper_python_test name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "PROCESSORS;TIMEOUT;PYTHON" "COMMAND")
  if(NOT arg_PROCESSORS)
    set(arg_PROCESSORS 1)
  endif()
  if(NOT arg_PYTHON)
    set(arg_PYTHON TEMPER_TESTS_PYTHON)
  endif()
  add_test(NAME ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    COMMAND bash -c "source launch/env && exec \"$${arg_PYTHON}\" \"$@\"" -- ${arg_COMMAND})
  temper_test_properties(${name} LABELS python PROCESSORS ${arg_PROCESSORS})
endfunction()

# The rest is for the functions above and reads their arguments.

# Adds the test program of `path` with the main of tests/support, and sets `name`.
macro(temper_test_program main)
  string(REPLACE "/" "." name ${path})
  cmake_path(GET path FILENAME file)
  add_executable(${name} ${file}.cpp $<TARGET_OBJECTS:temper_${main}>)
  list(TRANSFORM arg_USES PREPEND temper_)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${arg_USES} ${arg_LIBRARIES}
    Boost::unit_test_framework temper_options temper_warnings)
  if(arg_TORCH)
    target_link_libraries(${name} PRIVATE Torch::Torch)
    temper_precompile_torch(${name})
  endif()
endmacro()

# OMPI_*, PRTE_*: run as root in a container, more ranks than cores, no network, no binding that
# would put the ranks of two tests on one core. Leaks are not looked for: LibTorch keeps its state
# to the end.
set(TEMPER_TEST_ENVIRONMENT
  OMP_NUM_THREADS=1
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
  OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none
  OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_plm=isolated
  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1
  TEMPER_BINARY=${PROJECT_BINARY_DIR}/temper TEMPER_BUILD_DIR=${PROJECT_BINARY_DIR})

macro(temper_test_properties test)
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)  # A lost rank shows as a time-out, not as a hang.
  endif()
  set_tests_properties(${test} PROPERTIES
    TIMEOUT ${arg_TIMEOUT} ENVIRONMENT "${TEMPER_TEST_ENVIRONMENT}" ${ARGN})
endmacro()

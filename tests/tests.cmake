# Every tests/*_test.c is a program of cmocka tests; every tests/fuzz_*.c is a fuzzer in fuzz
# builds and a replay of tests/corpus/NAME in all others.
pkg_check_modules(cmocka IMPORTED_TARGET cmocka)
find_package(Python3 COMPONENTS Interpreter)

if(cmocka_FOUND)
  file(GLOB programs CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/*_test.c)
  file(GLOB support CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/support*.c)
  foreach(source ${programs})
    get_filename_component(name ${source} NAME_WE)
    add_executable(${name} ${source} ${support})
    target_compile_definitions(${name} PRIVATE REPO_DIR="${CMAKE_SOURCE_DIR}")
    # Of the source, since a target's own options come before those it inherits.
    set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS -Wno-frame-larger-than)
    target_link_libraries(${name} PRIVATE server PkgConfig::cmocka)
    if(name MATCHES "^bench_serve_")
      target_link_libraries(${name} PRIVATE generator)
    endif()
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES TIMEOUT 600 LABELS unit)
  endforeach()
  set_tests_properties(threads_test engine_test PROPERTIES LABELS threads)
  # Under a sanitizer a seed takes ten times as long.
  if(SANITIZE)
    set_tests_properties(sim_test PROPERTIES ENVIRONMENT FIRSTLIGHT_SIM_SEEDS=100)
  endif()
  # Its malloc fails when told to.
  foreach(name conn_fault_test serve_fault_test)
    target_link_options(${name} PRIVATE LINKER:--wrap=malloc,--wrap=calloc,--wrap=realloc)
  endforeach()
  # So does each call of OpenSSL.
  foreach(call SSL_new BIO_new SSL_read_ex SSL_write_ex SSL_shutdown)
    target_link_options(tls_fault_test PRIVATE LINKER:--wrap=${call})
  endforeach()
  # Clocks that only the test moves.
  target_link_options(conn_limits_test PRIVATE LINKER:--wrap=uv_now)
  target_link_options(measure_test PRIVATE LINKER:--wrap=now_ns)
  # And here malloc is counted.
  target_link_options(steps_memory_test PRIVATE
                      LINKER:--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free)
else()
  message(STATUS "cmocka not found: unit tests are not built (tests/run.sh installs it)")
endif()

# AMX and AVX-VNNI where there is neither: cpu_amx.c over a model of its registers, cpu_avxvnni.c
# in another encoding, behind the same cases.
if(cmocka_FOUND AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set_source_files_properties(tests/amx_model.c tests/vnni_twin.c PROPERTIES COMPILE_OPTIONS -O3)
  foreach(name cpu_kernels ops)
    add_executable(${name}_amx ${CMAKE_SOURCE_DIR}/tests/${name}_test.c tests/amx_model.c
                   tests/vnni_twin.c ${support})
    target_compile_definitions(${name}_amx PRIVATE REPO_DIR="${CMAKE_SOURCE_DIR}")
    target_link_libraries(${name}_amx PRIVATE server PkgConfig::cmocka)
    add_test(NAME ${name}_amx COMMAND ${name}_amx)
    set_tests_properties(${name}_amx PROPERTIES TIMEOUT 600 LABELS unit)
  endforeach()
endif()

# The CUDA backend on the host: the .cu files as C++ under tests/simt, behind the same cases as
# the cpu backend. A build with CUDA has the real ones and would clash. Under the race detector
# only kernels are watched: the emulator tells it what a thread is and what orders them.
if(cmocka_FOUND AND NOT cuda)
  file(GLOB kernel_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
  foreach(source ${kernel_files})
    get_filename_component(name ${source} NAME_WE)
    set(copy ${CMAKE_BINARY_DIR}/simt/${name}.cpp)
    file(CONFIGURE OUTPUT ${copy} CONTENT "#include \"${source}\"\n")
    list(APPEND emulated ${copy})
  endforeach()
  file(GLOB simt_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/simt/*.cpp)
  file(GLOB host_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.c
       ${CMAKE_SOURCE_DIR}/models/*.c)
  add_library(simt STATIC ${emulated} ${host_files} ${simt_files})
  target_include_directories(simt BEFORE PUBLIC ${CMAKE_SOURCE_DIR}/tests/simt)
  target_compile_definitions(simt PRIVATE WITH_CUDA)
  target_compile_options(simt PRIVATE
    $<$<COMPILE_LANGUAGE:CXX>:-O2;-Wno-unknown-pragmas;-ffp-contract=off>)
  target_link_libraries(simt PUBLIC flags PkgConfig::libcjson PkgConfig::utf8proc PkgConfig::pcre2)
  if(SANITIZE MATCHES "thread")
    set_source_files_properties(${simt_files} PROPERTIES COMPILE_OPTIONS
      "-fno-sanitize=thread;-fno-tree-loop-distribute-patterns;-DSIMT_TSAN")
  endif()

  function(simt_program name source)
    add_executable(${name} ${source} ${support})
    target_compile_definitions(${name} PRIVATE REPO_DIR="${CMAKE_SOURCE_DIR}")
    target_link_libraries(${name} PRIVATE simt PkgConfig::cmocka)
  endfunction()
  # A case fails when a line of a kernel takes more cycles per phase of shared memory than
  # SIMT_BANKS. Further arguments: the environment.
  function(simt_case name program)
    add_test(NAME ${name} COMMAND ${program})
    set_tests_properties(${name} PROPERTIES TIMEOUT 600 LABELS simt
                         ENVIRONMENT "FIRSTLIGHT_BACKEND=cuda;SIMT_BANKS=1;${ARGN}")
  endfunction()

  simt_program(simt_test ${CMAKE_SOURCE_DIR}/tests/simt_test.cpp)
  target_compile_options(simt_test PRIVATE -Wno-unknown-pragmas)
  simt_case(simt_test simt_test)
  # It makes conflicts on purpose, to see them counted.
  set_tests_properties(simt_test PROPERTIES ENVIRONMENT FIRSTLIGHT_BACKEND=cuda)
  foreach(name ops attention sampling forward)
    simt_program(${name}_simt ${CMAKE_SOURCE_DIR}/tests/${name}_test.c)
    simt_case(${name}_simt ${name}_simt)
  endforeach()
  # Each kernel of the product's table by itself, on all shapes that it takes, and in other orders.
  foreach(kernel "skinny half" "skinny" "tile 64" "tile 128" "turned" "wgmma")
    string(REPLACE " " "_" name ${kernel})
    simt_case(ops_simt_${name} ops_simt FIRSTLIGHT_LINEAR=${kernel} SIMT_SM=90)
    simt_case(ops_simt_${name}_shuffled ops_simt FIRSTLIGHT_LINEAR=${kernel} SIMT_SM=90 SIMT_SEED=7)
    set_tests_properties(ops_simt_${name}_shuffled PROPERTIES LABELS "simt;shuffled")
  endforeach()
  foreach(case ops forward)
    simt_case(${case}_simt_sm103 ${case}_simt SIMT_SM=103)
  endforeach()
  simt_program(cuda_fault ${CMAKE_SOURCE_DIR}/tests/cuda_fault.c)
  simt_case(cuda_fault cuda_fault SIMT_SM=90)
  # A layer's kernels one behind the other, each started before the last one's end.
  add_test(NAME cuda_layer COMMAND cuda_fault test_health)
  set_tests_properties(cuda_layer PROPERTIES TIMEOUT 300 LABELS "simt;race"
                       ENVIRONMENT "FIRSTLIGHT_BACKEND=cuda;SIMT_SM=90")
  foreach(name upload memory)
    simt_program(cuda_${name} ${CMAKE_SOURCE_DIR}/tests/cuda_${name}.c)
    simt_case(cuda_${name} cuda_${name})
  endforeach()
  simt_program(cuda_graphs ${CMAKE_SOURCE_DIR}/tests/cuda_graphs.c)
  simt_case(cuda_graphs cuda_graphs)
  simt_case(cuda_graphs_eager cuda_graphs SIMT_EAGER=1 SIMT_SM=90)
  set_tests_properties(cuda_graphs_eager PROPERTIES LABELS "simt;shuffled")
  # What the race detector gets: slow there, so each kernel once; of attention the small steps that
  # reach every barrier.
  set_tests_properties(simt_test ops_simt ops_simt_wgmma PROPERTIES LABELS "simt;race")
  set_tests_properties(sampling_simt PROPERTIES LABELS "simt;long race")
  add_test(NAME attention_barriers COMMAND attention_simt test_barriers)
  set_tests_properties(attention_barriers PROPERTIES TIMEOUT 300 LABELS "simt;race"
                       ENVIRONMENT "FIRSTLIGHT_BACKEND=cuda;SIMT_BANKS=1")
  # Devices of 99 KB a block give wide halves to the prompts' kernel alone.
  simt_case(attention_simt_sm86 attention_simt SIMT_SM=86 SIMT_SEED=5)
  set_tests_properties(attention_simt_sm86 PROPERTIES LABELS "simt;shuffled")
  simt_case(forward_simt_sm90 forward_simt SIMT_SM=90 SIMT_SEED=3)
  set_tests_properties(forward_simt_sm90 PROPERTIES LABELS "simt;shuffled")
endif()

file(GLOB fuzzers CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz_*.c)
foreach(source ${fuzzers})
  get_filename_component(name ${source} NAME_WE)
  string(REPLACE "fuzz_" "" target ${name})
  if(WITH_FUZZ)
    add_executable(${name} ${source})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    add_executable(${name} ${source} ${CMAKE_SOURCE_DIR}/tests/replay.c)
    add_test(NAME ${name}_corpus
             COMMAND ${name} ${CMAKE_SOURCE_DIR}/tests/corpus/${target})
    set_tests_properties(${name}_corpus PROPERTIES TIMEOUT 300 LABELS unit)
  endif()
  target_link_libraries(${name} PRIVATE server)
  list(APPEND fuzzer_names ${name})
endforeach()
add_custom_target(fuzzers DEPENDS ${fuzzer_names})

if(Python3_FOUND AND NOT WITH_FUZZ)
  add_test(NAME tidy COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/tidy.py)
  set_tests_properties(tidy PROPERTIES LABELS tidy)
  add_test(NAME openapi COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/openapi.py
           --binary $<TARGET_FILE:firstlight>)
  set_tests_properties(openapi PROPERTIES LABELS e2e TIMEOUT 300)
  add_test(NAME e2e COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/e2e.py
           --binary $<TARGET_FILE:firstlight>)
  add_test(NAME workers COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/workers.py
           --binary $<TARGET_FILE:firstlight>)
  add_test(NAME door COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/door.py
           --binary $<TARGET_FILE:firstlight>)
  set_tests_properties(e2e door workers PROPERTIES LABELS e2e TIMEOUT 900)
  add_test(NAME bench COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/bench.py
           --steps $<TARGET_FILE_DIR:firstlight>/bench_steps)
  add_test(NAME report COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/report.py
           --ops $<TARGET_FILE:bench_ops>)
  set_tests_properties(bench report PROPERTIES LABELS unit TIMEOUT 300)
  add_test(NAME bench_serve COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/bench_serve.py
           --binary $<TARGET_FILE:firstlight> --program $<TARGET_FILE:bench_serve>)
  set_tests_properties(bench_serve PROPERTIES LABELS e2e TIMEOUT 300)
endif()

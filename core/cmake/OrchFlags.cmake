# SPDX-License-Identifier: MIT
# Warnings, sanitizers and hardening, in one interface target that every target of ours links.
add_library(orch_flags INTERFACE)

target_compile_options(orch_flags INTERFACE
	-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes
	-Wvla -Wformat=2 -Wundef -Wimplicit-fallthrough -Wnull-dereference -Wno-overlength-strings)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
	target_compile_options(orch_flags INTERFACE -Wjump-misses-init -Wlogical-op -Wduplicated-cond)
endif()
if(ORCH_WERROR)
	target_compile_options(orch_flags INTERFACE -Werror)
endif()
target_compile_definitions(orch_flags INTERFACE _GNU_SOURCE $<$<CONFIG:Debug>:ORCH_DEBUG>)
target_include_directories(orch_flags INTERFACE ${CMAKE_SOURCE_DIR}/core ${CMAKE_SOURCE_DIR}/include)

# assert() guards our own invariants and stays on in release builds.
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELEASE "${CMAKE_C_FLAGS_RELEASE}")
string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")

if(ORCH_SANITIZE)
	target_compile_options(orch_flags INTERFACE
		-fsanitize=${ORCH_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
	target_link_options(orch_flags INTERFACE -fsanitize=${ORCH_SANITIZE})
	# What sanitizers write about each variable needs 70,000 relocations at every start, a fifth of it,
	# in a program that can be loaded anywhere.
	if(ORCH_SANITIZE MATCHES "address")
		target_link_options(orch_flags INTERFACE
			$<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:-no-pie>)
	endif()
	if(ORCH_FUZZ)
		target_compile_options(orch_flags INTERFACE -fsanitize=fuzzer-no-link)
	endif()
else()
	target_compile_options(orch_flags INTERFACE -fstack-protector-strong)
	if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
		target_compile_options(orch_flags INTERFACE -fcf-protection)
	endif()
	if(NOT CMAKE_BUILD_TYPE STREQUAL "Debug")
		target_compile_options(orch_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
	endif()
	target_link_options(orch_flags INTERFACE -Wl,-z,relro,-z,now -Wl,--as-needed)
endif()
if(ORCH_COVERAGE)
	target_compile_options(orch_flags INTERFACE --coverage)
	target_link_options(orch_flags INTERFACE --coverage)
endif()

# For what is shipped, not for tests: banned functions are compile errors there.
add_library(orch_strict INTERFACE)
target_compile_options(orch_strict INTERFACE
	"SHELL:-include ${CMAKE_SOURCE_DIR}/core/base/banned.h")

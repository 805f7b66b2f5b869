# SPDX-License-Identifier: MIT
# orch_embed(TARGET FILE SYMBOL): compiles a text file into a target as
#	extern const char SYMBOL[];	(NUL-terminated)
#	extern const size_t SYMBOL_len;	(without the NUL)
# Run as a script (cmake -P, with IN, OUT and SYMBOL) it writes that C file.
if(CMAKE_SCRIPT_MODE_FILE)
	file(READ ${IN} hex HEX)
	# One line of C for each line of text.
	string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
	string(REPLACE "'\\x0a'," "'\\n',\n" bytes "${bytes}")
	file(WRITE ${OUT} "/* Made from a text file of the source tree; do not edit. */
#include <stddef.h>

extern const char ${SYMBOL}[];
extern const size_t ${SYMBOL}_len;
const char ${SYMBOL}[] = {
${bytes}'\\0'};
const size_t ${SYMBOL}_len = sizeof(${SYMBOL}) - 1;
")
	return()
endif()

set(orch_embed_script ${CMAKE_CURRENT_LIST_FILE})
function(orch_embed target file symbol)
	set(out ${CMAKE_CURRENT_BINARY_DIR}/embed/${symbol}.c)
	add_custom_command(OUTPUT ${out}
		COMMAND ${CMAKE_COMMAND} -DIN=${file} -DOUT=${out} -DSYMBOL=${symbol}
			-P ${orch_embed_script}
		DEPENDS ${file} ${orch_embed_script}
		VERBATIM)
	target_sources(${target} PRIVATE ${out})
endfunction()

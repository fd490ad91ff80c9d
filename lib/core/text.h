/* SPDX-License-Identifier: Apache-2.0 */
/* Making one safe line of a text that may hold anything: file names, strings of a
 * file. */
#ifndef VGG_CORE_TEXT_H
#define VGG_CORE_TEXT_H

#include <stddef.h>

/* Bytes of the UTF-8 character at `text`, of which `left` bytes are there (SIZE_MAX: it
 * ends with a zero byte); 0 if it is none: overlong, a surrogate, above U+10FFFF, cut.
 * Unicode 15, table 3-7. */
size_t vgg__utf8_length(const char *text, size_t left);

/* Copy `in` to `out` of `size` bytes (at least 8), zero-ended. Control characters,
 * bytes that are not valid UTF-8, and characters that end a line or turn its direction
 * are escaped byte by byte (\x1b). What does not fit is cut with "...", never within a
 * character or an escape; `cut` says that `in` itself was cut before. */
void vgg__text_escape(const char *in, int cut, char *out, size_t size);

/* A path as an error text may have it: only its end where it is so long that what is
 * said of it would be cut, and "" if it is empty. */
const char *vgg__text_path(const char *path);

#endif

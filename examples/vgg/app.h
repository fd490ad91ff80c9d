/* SPDX-License-Identifier: Apache-2.0 */
/* What every file of the trainer binary needs: verbs, exit status, messages.
 *
 * A function that does one step of a verb returns an exit status: 0, STATUS_RUN or
 * STATUS_USAGE, after having said on stderr in one line what to do. */
#ifndef APP_H
#define APP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <vgg/vgg.h>

enum { STATUS_RUN = 1, STATUS_USAGE = 2 };

enum { TEXT_SIZE = 1024 }; /* bytes of a path, or of another text that is given */

/* Verbs, as bits: a flag says which ones it belongs to. */
enum verb { TRAIN = 1, EVAL = 2, INFO = 4, DEVICES = 8, BENCH = 16, PREDICT = 32 };

struct settings;

int train_main(struct settings *s);
int eval_main(struct settings *s);
int predict_main(struct settings *s);
int info_main(struct settings *s);
int devices_main(struct settings *s);
int bench_main(struct settings *s);

/* Name of the verb that runs, for hints; "" before it is known. */
extern const char *verb_name;

/* Print "vgg: <text>" as one line on stderr. fail() is for what went wrong in a run,
 * misuse() for a command line that can't be meant. */
int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
int misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* fail() with the library's last error, after `what` and a colon if it is not NULL. */
int fail_vgg(const char *what);

/* While muted, fail() and misuse() say nothing: for asking whether a value would do. */
void mute(bool on);

/* Bytes of the UTF-8 character at `at`; 0 if it is none. */
unsigned utf8_length(const char *at);

/* Text that came from outside, as a terminal may have it: control characters, and bytes
 * that are no UTF-8, become \xNN. Cut where `size` ends. Returns `out`. */
const char *printable(const char *text, char *out, size_t size);

/* A path as a word of a command line that a message advises; one of four static
 * buffers. */
const char *shell_word(const char *text);

/* Seconds of a clock that never goes back. */
double now_seconds(void);

/* Most memory the process has held, bytes. */
uint64_t peak_rss_bytes(void);

/* A count with a comma between thousands, for people; one of four static buffers. */
const char *grouped(uint64_t count);

/* Bytes in a unit that fits, for instance "172.4 MB"; one of four static buffers. */
const char *readable_bytes(uint64_t bytes);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* JSON out, and back in for the flat objects that this program itself writes. */
#ifndef JSON_H
#define JSON_H

#include "app.h"

/* A writer. `key` is NULL for the elements of an array and for the outermost object. */
struct json {
    FILE *file;
    unsigned depth;
    bool pretty; /* one member of the outermost object a line */
    bool fresh;  /* nothing written since the last bracket */
    char close[16];
};

void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);
void json_end(struct json *j);
void json_text(struct json *j, const char *key, const char *value);
void json_count(struct json *j, const char *key, uint64_t value);
void json_bool(struct json *j, const char *key, bool value);

/* The shortest text that reads back as the same number; null if it is not finite. */
void json_real(struct json *j, const char *key, double value);

/* A shape with an axis in front, for instance [1,16,112,112]. */
void json_shape(struct json *j, const char *key, uint32_t n, const vgg_shape *shape);

enum json_kind { JSON_TEXT, JSON_NUMBER, JSON_BOOL, JSON_NULL };

struct json_member {
    char key[64];
    enum json_kind kind;
    char text[2048]; /* the string, or the number as it stands */
    double number;   /* of a number or bool; NaN for null */
};

/* Read the next member of a flat object. `*at` begins at the text of the object and is
 * moved on. Returns 1, 0 after the closing brace, -1 if it is not a flat JSON
 * object. */
int json_next(const char **at, struct json_member *out);

/* The number or bool of a key in a flat object; `missing` if it is not there. */
double json_find_number(const char *object, const char *key, double missing);

#endif

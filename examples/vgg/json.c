/* SPDX-License-Identifier: Apache-2.0 */
/* JSON out, and back in for flat objects. The process keeps the C locale, so that
 * numbers have a point. */
#include "json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void escape(FILE *file, const char *text)
{
    fputc('"', file);
    while (*text) {
        const unsigned length = utf8_length(text);
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(file, "\\%c", c);
        else if (c < 0x20)
            fprintf(file, "\\u%04x", c);
        else if (length == 0)
            fputs("\xef\xbf\xbd", file); /* U+FFFD for a byte that is no UTF-8 */
        else
            fwrite(text, 1, length, file);
        text += length ? length : 1;
    }
    fputc('"', file);
}

/* The comma, line break and key before a value. */
static void lead(struct json *j, const char *key)
{
    if (!j->fresh && j->depth > 0)
        fputs(j->pretty && j->depth == 1 ? "," : ", ", j->file);
    if (j->pretty && j->depth == 1) fputs("\n  ", j->file);
    j->fresh = false;
    if (!key) return;
    escape(j->file, key);
    fputs(": ", j->file);
}

static void open_bracket(struct json *j, const char *key, char open, char close)
{
    lead(j, key);
    fputc(open, j->file);
    j->close[j->depth++] = close;
    j->fresh = true;
}

void json_object(struct json *j, const char *key)
{
    open_bracket(j, key, '{', '}');
}

void json_array(struct json *j, const char *key)
{
    open_bracket(j, key, '[', ']');
}

void json_end(struct json *j)
{
    j->depth--;
    if (j->pretty && j->depth == 0) fputc('\n', j->file);
    fputc(j->close[j->depth], j->file);
    if (j->depth == 0) fputc('\n', j->file);
    j->fresh = false;
}

void json_text(struct json *j, const char *key, const char *value)
{
    lead(j, key);
    escape(j->file, value);
}

void json_count(struct json *j, const char *key, uint64_t value)
{
    lead(j, key);
    fprintf(j->file, "%llu", (unsigned long long)value);
}

void json_bool(struct json *j, const char *key, bool value)
{
    lead(j, key);
    fputs(value ? "true" : "false", j->file);
}

void json_real(struct json *j, const char *key, double value)
{
    char text[32] = "null";
    lead(j, key);
    for (int digits = 6; isfinite(value) && digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    fputs(text, j->file);
}

void json_shape(struct json *j, const char *key, uint32_t n, const vgg_shape *shape)
{
    json_array(j, key);
    json_count(j, NULL, n);
    for (uint32_t i = 0; i < shape->rank; i++) json_count(j, NULL, shape->dim[i]);
    json_end(j);
}

static const char *skip_space(const char *at)
{
    return at + strspn(at, " \t\r\n");
}

/* Read a string whose opening quote is at `at`; NULL if it is malformed or too long.
 * Of \u escapes only those that escape() writes are known. */
static const char *read_string(const char *at, char *out, size_t size)
{
    size_t length = 0;
    if (*at++ != '"') return NULL;
    while (*at != '"') {
        unsigned char c = (unsigned char)*at++;
        if (c < 0x20) return NULL;
        if (c == '\\') {
            const char *const plain = "\"\\/bfnrt";
            static const char meant[] = "\"\\/\b\f\n\r\t";
            const char *known = *at ? strchr(plain, *at) : NULL;
            unsigned code;
            if (known) {
                c = (unsigned char)meant[known - plain];
                at++;
            } else if (*at == 'u' && sscanf(at + 1, "00%2x", &code) == 1 &&
                       code < 0x80) {
                c = (unsigned char)code;
                at += 5;
            } else {
                return NULL;
            }
        }
        if (length + 1 >= size) return NULL;
        out[length++] = (char)c;
    }
    out[length] = '\0';
    return at + 1;
}

static const char *read_word(const char *at, struct json_member *out)
{
    static const struct {
        const char *word;
        enum json_kind kind;
        double number;
    } words[] = {
        {"true", JSON_BOOL, 1}, {"false", JSON_BOOL, 0}, {"null", JSON_NULL, NAN}};
    for (unsigned i = 0; i < 3; i++) {
        const size_t length = strlen(words[i].word);
        if (strncmp(at, words[i].word, length) != 0) continue;
        out->kind = words[i].kind;
        out->number = words[i].number;
        snprintf(out->text, sizeof out->text, "%s", words[i].word);
        return at + length;
    }
    char *end;
    const size_t length = strspn(at, "+-.0123456789eE");
    out->kind = JSON_NUMBER;
    out->number = strtod(at, &end);
    if (length == 0 || length >= 64 || end != at + length) return NULL;
    memcpy(out->text, at, length);
    out->text[length] = '\0';
    return end;
}

int json_next(const char **at, struct json_member *out)
{
    const char *p = skip_space(*at);
    const bool first = *p == '{';
    if (!first && *p != ',' && *p != '}') return -1;
    if (*p == '}') return 0;
    p = skip_space(p + 1);
    if (first && *p == '}') return 0;
    p = read_string(p, out->key, sizeof out->key);
    if (!p) return -1;
    p = skip_space(p);
    if (*p++ != ':') return -1;
    p = skip_space(p);
    if (*p == '"') {
        out->kind = JSON_TEXT;
        p = read_string(p, out->text, sizeof out->text);
    } else {
        p = read_word(p, out);
    }
    if (!p) return -1;
    *at = p;
    return 1;
}

double json_find_number(const char *object, const char *key, double missing)
{
    struct json_member member;
    while (json_next(&object, &member) == 1)
        if (strcmp(member.key, key) == 0 && member.kind != JSON_TEXT)
            return member.number;
    return missing;
}

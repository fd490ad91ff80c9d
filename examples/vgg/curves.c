/* SPDX-License-Identifier: Apache-2.0 */
/* The training curves as SVG, written by hand.
 *
 * Losses and accuracies share one axis, as in the chapter. A series is one path; where
 * it ends stand its name and last value, moved apart so that they do not overlap. */
#include "curves.h"
#include "files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Extents in pixels: the picture, and the plot within it. */
enum { WIDTH = 820, HEIGHT = 460, LEFT = 62, RIGHT = 640, TOP = 74, BOTTOM = 404 };

enum { SERIES = 3, LABEL_GAP = 38 };

static const struct series {
    const char *name, *colour, *dash;
    size_t offset; /* of its value in struct curve_point */
} series[SERIES] = {
    {"train loss", "#2563eb", "none", offsetof(struct curve_point, loss)},
    {"train accuracy", "#c026d3", "7 4", offsetof(struct curve_point, accuracy)},
    {"test accuracy", "#15803d", "10 3 2 3", offsetof(struct curve_point, test)},
};

/* Where values land: x of an epoch, y of a value. */
struct frame {
    double first, last; /* epochs at both ends of the x axis */
    double top;         /* value at the upper end of the y axis; the lower one is 0 */
    double step;        /* between two lines of the grid */
};

static struct curve_point *add_point(struct curves *curves, double epoch)
{
    if (curves->count > 0 && curves->points[curves->count - 1].epoch == epoch)
        return &curves->points[curves->count - 1];
    if (curves->count == curves->room) {
        const size_t room = curves->room ? 2 * curves->room : 64;
        struct curve_point *points = realloc(curves->points, room * sizeof *points);
        if (!points) return NULL; /* a picture with fewer points */
        curves->points = points;
        curves->room = room;
    }
    struct curve_point *point = &curves->points[curves->count++];
    *point = (struct curve_point){epoch, NAN, NAN, NAN};
    return point;
}

void curves_step(struct curves *curves, uint64_t epoch, uint64_t batch, double loss,
                 double accuracy)
{
    const uint64_t every = curves->batches >= 5 ? curves->batches / 5 : 1;
    if (batch != curves->batches && batch % every != 0) return;
    const double at = (double)(epoch - 1) + (double)batch / (double)curves->batches;
    struct curve_point *point = add_point(curves, at);
    if (!point) return;
    point->loss = loss;
    point->accuracy = accuracy;
}

void curves_test(struct curves *curves, uint64_t epoch, double accuracy)
{
    struct curve_point *point = add_point(curves, (double)epoch);
    if (point) point->test = accuracy;
}

void curves_free(struct curves *curves)
{
    free(curves->points);
    *curves = (struct curves){0};
}

static double value_of(const struct curve_point *point, const struct series *one)
{
    double value;
    memcpy(&value, (const char *)point + one->offset, sizeof value);
    return value;
}

/* The smallest 1, 2 or 5 times a power of ten that cuts `extent` into at most
 * `parts`. */
static double round_step(double extent, unsigned parts)
{
    const double rough = extent / parts;
    double power = pow(10.0, floor(log10(rough)));
    const double ratio = rough / power;
    return power * (ratio <= 1.0   ? 1.0
                    : ratio <= 2.0 ? 2.0
                    : ratio <= 5.0 ? 5.0
                                   : 10.0);
}

static struct frame make_frame(const struct curves *curves, uint64_t epochs)
{
    double most = 1.0;
    for (size_t i = 0; i < curves->count; i++)
        if (isfinite(curves->points[i].loss)) most = fmax(most, curves->points[i].loss);
    struct frame frame = {.first = epochs > 1 ? 1.0 : 0.0, .last = (double)epochs};
    if (curves->count > 0) frame.first = fmin(frame.first, curves->points[0].epoch);
    if (frame.first < 1.0) frame.first = 0.0;
    frame.step = round_step(most, 6);
    frame.top = frame.step * ceil(most / frame.step - 1e-9);
    return frame;
}

static double x_of(const struct frame *frame, double epoch)
{
    return LEFT +
           (RIGHT - LEFT) * (epoch - frame->first) / (frame->last - frame->first);
}

static double y_of(const struct frame *frame, double value)
{
    return BOTTOM - (BOTTOM - TOP) * value / frame->top;
}

static void escape(FILE *out, const char *text)
{
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '&' || c == '<' || c == '>' || c == '"')
            fprintf(out, "&#%u;", (unsigned)c);
        else if (c >= 0x20)
            fputc(c, out);
    }
}

static void draw_head(FILE *out, const char *title)
{
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "viewBox=\"0 0 %d %d\" role=\"img\" font-family=\"Inter, 'Helvetica Neue', "
            "Arial, 'DejaVu Sans', sans-serif\">\n<title>",
            WIDTH, HEIGHT, WIDTH, HEIGHT);
    escape(out, title);
    fprintf(out,
            "</title>\n<rect width=\"%d\" height=\"%d\" rx=\"10\" fill=\"#ffffff\"/>\n"
            "<text x=\"%d\" y=\"34\" font-size=\"17\" font-weight=\"600\" "
            "fill=\"#111827\">",
            WIDTH, HEIGHT, LEFT);
    escape(out, title);
    fputs("</text>\n", out);
}

static void draw_axes(FILE *out, const struct frame *frame)
{
    fputs("<g font-size=\"12\" fill=\"#6b7280\" stroke-width=\"1\">\n", out);
    const unsigned lines = (unsigned)(frame->top / frame->step + 0.5);
    const int digits = frame->step < 0.1 ? 2 : frame->step < 1.0 ? 1 : 0;
    for (unsigned i = 0; i <= lines; i++) {
        const double y = y_of(frame, i * frame->step);
        fprintf(out,
                "<path d=\"M%d %.1fH%d\" stroke=\"%s\"/>"
                "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f</text>\n",
                LEFT, y, RIGHT, i == 0 ? "#9ca3af" : "#e5e7eb", LEFT - 10, y + 4.0,
                digits, i * frame->step);
    }
    const double step = fmax(1.0, round_step(frame->last - frame->first, 10));
    for (double epoch = ceil(frame->first / step) * step; epoch <= frame->last + 1e-9;
         epoch += step) {
        const double x = x_of(frame, epoch);
        fprintf(out,
                "<path d=\"M%.1f %dv5\" stroke=\"#9ca3af\"/>"
                "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n",
                x, BOTTOM, x, BOTTOM + 21, epoch);
    }
    fprintf(out,
            "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">epoch</text>\n</g>\n",
            0.5 * (LEFT + RIGHT), BOTTOM + 42);
}

/* One series; returns the index of its last point, -1 if it has none. */
static long draw_series(FILE *out, const struct frame *frame,
                        const struct curves *curves, const struct series *one)
{
    long last = -1;
    fprintf(out,
            "<path fill=\"none\" stroke=\"%s\" stroke-width=\"2.2\" "
            "stroke-dasharray=\"%s\" stroke-linejoin=\"round\" d=\"",
            one->colour, one->dash);
    for (size_t i = 0; i < curves->count; i++) {
        const double value = value_of(&curves->points[i], one);
        if (!isfinite(value)) continue;
        fprintf(out, "%s%.1f %.1f", last < 0 ? "M" : "L",
                x_of(frame, curves->points[i].epoch), y_of(frame, value));
        last = (long)i;
    }
    fputs(last < 0 ? "M0 0\"/>\n" : "\"/>\n", out);
    if (last < 0) return last;
    fprintf(out,
            "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.6\" fill=\"%s\" stroke=\"#fff\" "
            "stroke-width=\"1.2\"/>\n",
            x_of(frame, curves->points[last].epoch),
            y_of(frame, value_of(&curves->points[last], one)), one->colour);
    return last;
}

/* Heights of the labels: as near to their values as the gap between two allows. */
static void place_labels(const double *wanted, double *placed)
{
    unsigned order[SERIES];
    for (unsigned i = 0; i < SERIES; i++) {
        unsigned at = i;
        for (; at > 0 && wanted[order[at - 1]] > wanted[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    double least = TOP;
    for (unsigned i = 0; i < SERIES; i++) {
        placed[order[i]] = fmax(wanted[order[i]], least);
        least = placed[order[i]] + LABEL_GAP;
    }
    double most = BOTTOM;
    for (unsigned i = SERIES; i-- > 0; most -= LABEL_GAP)
        if (placed[order[i]] > most)
            placed[order[i]] = most;
        else
            most = placed[order[i]];
}

/* The legend: a sample of the line, name and last value, beside where the line ends. */
static void draw_labels(FILE *out, const struct frame *frame,
                        const struct curves *curves, const long *last)
{
    double wanted[SERIES], placed[SERIES];
    for (unsigned i = 0; i < SERIES; i++)
        wanted[i] = last[i] < 0
                        ? BOTTOM
                        : y_of(frame, value_of(&curves->points[last[i]], &series[i]));
    place_labels(wanted, placed);
    for (unsigned i = 0; i < SERIES; i++) {
        char value[32] = "no epoch yet";
        if (last[i] >= 0)
            snprintf(value, sizeof value, "%.3f",
                     value_of(&curves->points[last[i]], &series[i]));
        fprintf(out,
                "<path d=\"M%d %.1fh26\" stroke=\"%s\" stroke-width=\"2.2\" "
                "stroke-dasharray=\"%s\"/>\n"
                "<text x=\"%d\" y=\"%.1f\" font-size=\"13\" fill=\"#374151\">%s</text>"
                "<text x=\"%d\" y=\"%.1f\" font-size=\"13\" font-weight=\"600\" "
                "fill=\"%s\">%s</text>\n",
                RIGHT + 16, placed[i], series[i].colour, series[i].dash, RIGHT + 50,
                placed[i] - 1.0, series[i].name, RIGHT + 50, placed[i] + 15.0,
                series[i].colour, value);
    }
}

int curves_write(const struct curves *curves, const char *path, const char *title,
                 uint64_t epochs)
{
    struct new_file file;
    long last[SERIES];
    const int status = file_begin(&file, path);
    if (status != 0) return status;
    const struct frame frame = make_frame(curves, epochs);
    draw_head(file.file, title);
    draw_axes(file.file, &frame);
    for (unsigned i = 0; i < SERIES; i++)
        last[i] = draw_series(file.file, &frame, curves, &series[i]);
    draw_labels(file.file, &frame, curves, last);
    fputs("</svg>\n", file.file);
    return file_commit(&file);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The result of an evaluation: figures as scikit-learn's classification_report and
 * confusion_matrix show them (rows: truth, columns: prediction). */
#include "report.h"
#include "json.h"

#include <math.h>
#include <string.h>

/* Most columns a confusion matrix has on a screen. */
enum { MATRIX_MOST = 20 };

/* A class's name, else its number. */
static const char *class_name(const struct report *r, uint32_t index)
{
    static char number[16];
    const char *name = vgg_dataset_class_name(r->data, index);
    if (name) return name;
    snprintf(number, sizeof number, "%u", (unsigned)index);
    return number;
}

/* The same for a screen; names may come from a file. */
static const char *shown_name(const struct report *r, uint32_t index)
{
    static char shown[40];
    return printable(class_name(r, index), shown, sizeof shown);
}

static int name_width(const struct report *r)
{
    size_t width = strlen("weighted mean");
    for (uint32_t i = 0; i < r->classes; i++) {
        const size_t length = strlen(shown_name(r, i));
        if (length > width) width = length;
    }
    return (int)width;
}

static double auc_of(const struct report *r)
{
    double auc = NAN;
    return vgg_metrics_auc(r->metrics, &auc) == VGG_OK ? auc : NAN;
}

static void print_row(int width, const char *name, const vgg_class_metrics *row)
{
    printf("%*s     %6.4f  %6.4f  %6.4f  %8llu\n", width, name, row->precision,
           row->recall, row->f1, (unsigned long long)row->support);
}

static void print_classes(const struct report *r, int width)
{
    vgg_class_metrics row;
    printf("\n%*s  precision  recall      F1   support\n", width, "");
    for (uint32_t i = 0; i < r->classes; i++)
        if (vgg_metrics_class(r->metrics, i, &row) == VGG_OK)
            print_row(width, shown_name(r, i), &row);
    printf("\n");
    if (vgg_metrics_mean(r->metrics, VGG_AVERAGE_MACRO, &row) == VGG_OK)
        print_row(width, "macro mean", &row);
    if (vgg_metrics_mean(r->metrics, VGG_AVERAGE_WEIGHTED, &row) == VGG_OK)
        print_row(width, "weighted mean", &row);
}

/* Columns are headed by the number that stands before their class's row. */
static void print_matrix(const struct report *r, int width)
{
    uint64_t most = r->classes;
    if (r->classes > MATRIX_MOST) {
        printf("\nconfusion matrix: %u classes, see --format json\n",
               (unsigned)r->classes);
        return;
    }
    for (uint32_t i = 0; i < r->classes; i++)
        for (uint32_t k = 0; k < r->classes; k++) {
            const uint64_t count = vgg_metrics_confusion(r->metrics, i, k);
            if (count > most) most = count;
        }
    char digits[24];
    const int cell =
        2 + snprintf(digits, sizeof digits, "%llu", (unsigned long long)most);
    printf("\nconfusion matrix (rows: truth, columns: prediction)\n%*s   ", width, "");
    for (uint32_t k = 0; k < r->classes; k++) printf("%*u", cell, (unsigned)k);
    putchar('\n');
    for (uint32_t i = 0; i < r->classes; i++) {
        printf("%*s %2u", width, shown_name(r, i), (unsigned)i);
        for (uint32_t k = 0; k < r->classes; k++)
            printf("%*llu", cell,
                   (unsigned long long)vgg_metrics_confusion(r->metrics, i, k));
        putchar('\n');
    }
}

void report_text(const struct report *r)
{
    const int width = name_width(r);
    const uint64_t count = vgg_metrics_count(r->metrics);
    const double auc = auc_of(r);
    char shown[1024], epochs[64];
    printf("%s", printable(r->weights, shown, sizeof shown));
    if (r->epochs)
        printf(", trained for %s epoch%s", printable(r->epochs, epochs, sizeof epochs),
               strcmp(r->epochs, "1") == 0 ? "" : "s");
    printf("\n%s %s: %s images in %s\n", r->dataset, r->split, grouped(count),
           printable(r->folder, shown, sizeof shown));
    printf("accuracy %.4f, loss %.4f", vgg_metrics_top_k(r->metrics, 1),
           vgg_metrics_loss(r->metrics));
    if (r->classes > 5) printf(", top-5 %.4f", vgg_metrics_top_k(r->metrics, 5));
    if (isfinite(auc))
        printf(", macro ROC AUC %.4f", auc);
    else
        printf(", macro ROC AUC undefined (a class has no images)");
    putchar('\n');
    print_classes(r, width);
    print_matrix(r, width);
    printf("\n%.1f examples/sec on %s\n",
           r->seconds > 0 ? (double)count / r->seconds : 0.0, r->place);
}

static void json_class(struct json *j, const char *key, const char *name,
                       const vgg_class_metrics *row)
{
    json_object(j, key);
    if (name) json_text(j, "name", name);
    json_real(j, "precision", row->precision);
    json_real(j, "recall", row->recall);
    json_real(j, "f1", row->f1);
    json_count(j, "support", row->support);
    json_end(j);
}

static void json_classes(struct json *j, const struct report *r)
{
    json_array(j, "classes");
    for (uint32_t i = 0; i < r->classes; i++) {
        vgg_class_metrics row = {0};
        vgg_metrics_class(r->metrics, i, &row);
        json_class(j, NULL, class_name(r, i), &row);
    }
    json_end(j);
}

static void json_matrix(struct json *j, const struct report *r)
{
    json_array(j, "confusion");
    for (uint32_t i = 0; i < r->classes; i++) {
        json_array(j, NULL);
        for (uint32_t k = 0; k < r->classes; k++)
            json_count(j, NULL, vgg_metrics_confusion(r->metrics, i, k));
        json_end(j);
    }
    json_end(j);
}

void report_json(const struct report *r)
{
    vgg_class_metrics macro = {0}, weighted = {0};
    const uint64_t count = vgg_metrics_count(r->metrics);
    vgg_metrics_mean(r->metrics, VGG_AVERAGE_MACRO, &macro);
    vgg_metrics_mean(r->metrics, VGG_AVERAGE_WEIGHTED, &weighted);
    struct json j = {.file = stdout};
    json_object(&j, NULL);
    json_text(&j, "weights", r->weights);
    json_text(&j, "epochs", r->epochs ? r->epochs : "");
    json_text(&j, "dataset", r->dataset);
    json_text(&j, "data", r->folder);
    json_text(&j, "split", r->split);
    json_count(&j, "images", count);
    json_real(&j, "accuracy", vgg_metrics_top_k(r->metrics, 1));
    json_real(&j, "top5", vgg_metrics_top_k(r->metrics, 5));
    json_real(&j, "loss", vgg_metrics_loss(r->metrics));
    json_real(&j, "macro_f1", macro.f1);
    json_real(&j, "macro_auc", auc_of(r));
    json_class(&j, "macro", NULL, &macro);
    json_class(&j, "weighted", NULL, &weighted);
    json_classes(&j, r);
    json_matrix(&j, r);
    json_real(&j, "images_per_s", r->seconds > 0 ? (double)count / r->seconds : 0.0);
    json_text(&j, "device", r->device);
    json_text(&j, "precision", r->precision);
    json_text(&j, "linear_weights", r->linear_weights);
    json_end(&j);
}

# SPDX-License-Identifier: Apache-2.0
"""Write metrics_fixture.h: what scikit-learn says about a few small classifications.

Usage: make_metrics_fixture.py > metrics_fixture.h
Logits are multiples of 1/64, so they are exact in text and in f32.
"""
import warnings

import numpy as np
import sklearn
from sklearn import metrics as sk

warnings.filterwarnings("ignore")
random = np.random.default_rng(11)


def rows(n, classes, labels, signal):
    logits = random.normal(size=(n, classes))
    logits[np.arange(n), labels] += signal
    return np.round(logits * 64) / 64


def case(name, n, classes, truth, signal=1.0, repeat=1):
    labels = random.choice(truth, size=n)
    labels[: len(truth)] = truth
    logits = np.repeat(rows(n, classes, labels, signal), repeat, axis=0)
    labels = np.repeat(labels, repeat)
    if repeat > 1:  # equal scores with different truths
        labels[::repeat] = random.choice(truth, size=n)
    return name, logits, labels


def mean(labels, predicted, average):
    return sk.precision_recall_fscore_support(
        labels, predicted, average=average, zero_division=0)[:3]


def numbers(values, form="{}"):
    return ", ".join(form.format(v) for v in np.asarray(values).ravel().tolist())


def show(name, logits, labels):
    n, classes = logits.shape
    every = list(range(classes))
    shifted = logits - logits.max(axis=1, keepdims=True)
    scores = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    predicted = logits.argmax(axis=1)
    each = sk.precision_recall_fscore_support(labels, predicted, labels=every, zero_division=0)
    whole = len(set(labels)) == classes
    auc = sk.roc_auc_score(labels, scores, multi_class="ovr", labels=every) if whole else -1.0
    ranked = logits - 1e-9 * np.arange(classes)  # between equals the earlier class wins
    top = [sk.top_k_accuracy_score(labels, ranked, k=k, labels=every) if k < classes else 1.0
           for k in (1, 2, 3)]
    loss = sk.log_loss(labels, scores, labels=every)
    print(f"static const double {name}_logits[] = {{{numbers(logits)}}};")
    print(f"static const uint32_t {name}_labels[] = {{{numbers(labels)}}};")
    print(f"static const uint64_t {name}_confusion[] = "
          f"{{{numbers(sk.confusion_matrix(labels, predicted, labels=every))}}};")
    print(f"static const double {name}_classes[] = {{{numbers(np.array(each[:3]).T, '{!r}')}}};")
    return (f'{{"{name}", {n}, {classes}, {name}_logits, {name}_labels, {name}_confusion, '
            f"{name}_classes, {{{numbers(mean(labels, predicted, 'macro'), '{!r}')}}}, "
            f"{{{numbers(mean(labels, predicted, 'weighted'), '{!r}')}}}, "
            f"{{{numbers(top, '{!r}')}}}, {loss!r}, {auc!r}}},")


print("/* SPDX-License-Identifier: Apache-2.0 */")
print(f"/* Made by make_metrics_fixture.py with scikit-learn {sklearn.__version__}. */")
print("/* clang-format off */")
np.set_printoptions(floatmode="unique")
table = [show(*case("plain", 40, 5, [0, 1, 2, 3, 4])),
         show(*case("missing", 16, 4, [0, 1, 3])),
         show(*case("never_right", 12, 3, [0, 1, 2], signal=-4.0)),
         show(*case("tied", 12, 3, [0, 1, 2], repeat=3)),
         show(*case("sure", 30, 10, list(range(10)), signal=30.0))]
print("static const struct fixture fixtures[] = {")
print("\n".join(table))
print("};")

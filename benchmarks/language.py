#!/usr/bin/env python3
"""Figures of the language detector, as JSON lines.

Always: time and memory to get ready, texts per second. With `--data FILE` also accuracy by length, as written and
without accents. With `--fit` also the weights for `enrichment/language/confidence.py`, and the accuracy that weights
fitted on one half of the texts reach on the other half (pooled over five splits).

FILE holds one JSON object per line: `text`, `label` (en, es, pt or unknown), `bucket` (words: 1, 2-3, 4-10, >10).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from sms_foundation.enrichment.language import confidence as model
from sms_foundation.enrichment.language.detector import ANSWER_FROM, detect, weigh

SAMPLE_TEXTS = (
    "Hola, no hay agua caliente en el apartamento 4B desde ayer",
    "hi the heat is not working again can someone come today",
    "bom dia, o vaso ta entupido vcs podem mandar alguem?",
    "Sí",
    "ok",
    "ja paguei o aluguel ontem",
    "package was stolen from the lobby",
    "me puede llamar despues de las 5 por favor",
)
READY = """
import json, resource, time
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
from sms_foundation.enrichment.language import detect
imported = time.perf_counter()
detect("Hola")
ready = time.perf_counter()
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"import_s": round(imported - start, 3), "first_call_s": round(ready - imported, 3),
                  "ready_s": round(ready - start, 3), "memory_added_mib": round((after - before) / 1024, 1)}))
"""
BUCKETS = ("1", "2-3", "4-10", ">10")
MISTAKE_WEIGHT = 5.0
BARE_WEIGHT = 0.5  # of a text without its accents, beside the same text as written
RIDGE = 1.0

Row = dict[str, str]
Verdict = Callable[[str], tuple[str, float]]


def main() -> None:
    """Print the figures that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="labelled texts, JSON lines")
    parser.add_argument(
        "--fit", action="store_true", help="fit the confidence weights on --data and cross-validate them"
    )
    arguments = parser.parse_args()
    report("ready", **json.loads(subprocess.run([sys.executable, "-c", READY], check=True, capture_output=True).stdout))
    rows = read_rows(arguments.data) if arguments.data else []
    texts = [row["text"] for row in rows] or list(SAMPLE_TEXTS) * 500
    report("speed", texts=len(texts), texts_per_s=round(statistics.median(texts_per_second(texts) for _ in range(5))))
    if rows:
        for variant, change in VARIANTS.items():
            answers = [(detect(change(row["text"]))) for row in rows]
            report_accuracy(f"accuracy, {variant}", rows, answers)
    if rows and arguments.fit:
        fit_and_cross_validate(rows)


def report(figure: str, **values: object) -> None:
    """Print one JSON line."""
    print(json.dumps({"figure": figure, **values}))


def read_rows(path: Path) -> list[Row]:
    """The labelled texts of a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def without_accents(text: str) -> str:
    """Lower case, no diacritics, no inverted marks: how much of Spanish and Portuguese is texted."""
    bare = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) != "Mn")
    return bare.replace("¿", "").replace("¡", "").lower()


VARIANTS: dict[str, Callable[[str], str]] = {"as written": str, "without accents": without_accents}


def texts_per_second(texts: Sequence[str]) -> float:
    """Speed of one pass; there is no cache, so every pass is a cold one."""
    start = time.perf_counter()
    for text in texts:
        detect(text)
    return len(texts) / (time.perf_counter() - start)


def report_accuracy(figure: str, rows: Sequence[Row], answers: Sequence[tuple[str, float]]) -> None:
    """Shares in percent: right and wrong per length (mean of the three languages), confusion, "unknown", trust."""
    seen: Counter[tuple[str, ...]] = Counter()
    for row, (answer, trust) in zip(rows, answers, strict=True):
        label = row["label"]
        seen[label, row["bucket"]] += 1
        seen[label, row["bucket"], "right" if answer == label else "missed" if answer == "unknown" else "wrong"] += 1
        seen["pair", label, answer] += 1
        if label != "unknown":
            seen["answerable", "all"] += 1
            if answer != "unknown" and trust >= 0.7:
                seen["trusted", "all"] += 1
                seen["trusted", "right"] += answer == label

    def share(part: int, whole: int) -> float:
        return round(100 * part / whole, 2) if whole else 0.0

    def mean_share(bucket: str, outcome: str) -> float:
        return round(
            statistics.mean(share(seen[lang, bucket, outcome], seen[lang, bucket]) for lang in ("en", "es", "pt")), 2
        )

    buckets = {
        bucket: {"right": mean_share(bucket, "right"), "wrong": mean_share(bucket, "wrong")} for bucket in BUCKETS
    }
    labels, answered = Counter(row["label"] for row in rows), Counter(answer for answer, _ in answers)
    report(
        figure,
        **buckets,
        es_as_pt=share(seen["pair", "es", "pt"], labels["es"]),
        pt_as_es=share(seen["pair", "pt", "es"], labels["pt"]),
        unknown_recall=share(seen["pair", "unknown", "unknown"], labels["unknown"]),
        unknown_precision=share(seen["pair", "unknown", "unknown"], answered["unknown"]),
        trusted_coverage=share(seen["trusted", "all"], seen["answerable", "all"]),
        trusted_right=share(seen["trusted", "right"], seen["trusted", "all"]),
    )


def fit_and_cross_validate(rows: Sequence[Row]) -> None:
    """Print the weights for all rows, then the accuracy on rows that a fit has not seen."""
    evidence = {name: [weigh(change(row["text"])) for row in rows] for name, change in VARIANTS.items()}
    everything = range(len(rows))
    weights = fit(rows, evidence, everything)
    report("weights", among_answers=[round(w, 2) for w in weights[0]], an_answer=[round(w, 2) for w in weights[1]])
    for variant in VARIANTS:
        pooled_rows: list[Row] = []
        pooled_answers: list[tuple[str, float]] = []
        for split in range(5):
            shuffled = random.Random(split).sample(everything, len(rows))
            for half in (0, 1):
                weights = fit(rows, evidence, shuffled[1 - half :: 2])
                for index in shuffled[half::2]:
                    pooled_rows.append(rows[index])
                    pooled_answers.append(answer(evidence[variant][index], weights))
        report_accuracy(f"cross-validated, {variant}", pooled_rows, pooled_answers)


def answer(evidence: model.WordEvidence | None, weights: model.Weights) -> tuple[str, float]:
    """What `detect` would say with other weights."""
    trust = round(model.confidence(evidence, weights), 2) if evidence else 0.0
    return (evidence.language, trust) if evidence and trust >= ANSWER_FROM else ("unknown", 0.0)


def fit(
    rows: Sequence[Row], evidence: dict[str, list[model.WordEvidence | None]], indices: Sequence[int]
) -> model.Weights:
    """Weights of both estimates on some of the rows, each as written and without accents."""
    among: list[tuple[Sequence[float], bool, float]] = []
    an_answer: list[tuple[Sequence[float], bool, float]] = []
    for variant, weight in zip(VARIANTS, (1.0, BARE_WEIGHT), strict=True):
        for index in indices:
            found, label = evidence[variant][index], rows[index]["label"]
            if found is None:
                continue
            is_answer, is_right = label != "unknown", label == found.language
            an_answer.append(
                (model.an_answer_features(found), is_answer, weight * (1.0 if is_answer else MISTAKE_WEIGHT))
            )
            if is_answer:
                features = model.among_answers_features(found)
                case_weight = weight * (1.0 if is_right else MISTAKE_WEIGHT)
                among.append((features, is_right, case_weight))
    return fit_logistic(among), fit_logistic(an_answer)


def fit_logistic(cases: Sequence[tuple[Sequence[float], bool, float]]) -> tuple[float, ...]:
    """Ridge logistic regression by Newton's method; a case is (features, outcome, weight)."""
    size = len(cases[0][0])
    weights = [0.0] * size
    for _ in range(25):
        gradient = [-RIDGE * w for w in weights]
        hessian = [[RIDGE * (i == j) for j in range(size)] for i in range(size)]
        for features, outcome, weight in cases:
            p = 1 / (1 + math.exp(-sum(w * x for w, x in zip(weights, features, strict=True))))
            for i in range(size):
                gradient[i] += weight * (outcome - p) * features[i]
                for j in range(size):
                    hessian[i][j] += weight * p * (1 - p) * features[i] * features[j]
        step = solve(hessian, gradient)
        weights = [w + s for w, s in zip(weights, step, strict=True)]
        if max(map(abs, step)) < 1e-6:
            break
    return tuple(weights)


def solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Solve a small positive definite system by elimination."""
    size = len(right)
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(size):
        for k in range(i + 1, size):
            factor = rows[k][i] / rows[i][i]
            rows[k] = [b - factor * a for a, b in zip(rows[i], rows[k], strict=True)]
    solution = [0.0] * size
    for i in reversed(range(size)):
        solution[i] = (rows[i][size] - sum(rows[i][j] * solution[j] for j in range(i + 1, size))) / rows[i][i]
    return solution


if __name__ == "__main__":
    main()

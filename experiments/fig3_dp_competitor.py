"""Unlearning the overfitted samples against differential privacy and its baselines (Figure 3).

Command:   python -m experiments.fig3_dp_competitor --dataset npz:cifar10_small.npz --workers 2
           python -m experiments.fig3_dp_competitor --dataset npz:cifar10.npz --model cnn --width 1
Data:      a subset of CIFAR-10, 500 training and 200 test images per class
Hardware:  2 CPU cores, 14 minutes; at full size a GPU
Expected:  Otsu calls 90 to 98 % of the samples overfitted. Unlearned as published the network has
           no more test accuracy than after two epochs (early stopping), less than by DP-SGD, and
           gives away far more: LiRA finds 12 % at 1 % false positives, of those 2 %. Unlearning
           what LiRA finds best costs no test accuracy and hides some. No lower bound of DP
           (epsilon_at_least) exceeds the epsilon that was spent

Every network is trained on a random half of the training split (complementary halves in pairs), by
every defence on the same halves and from the same initialisation; each in turn is attacked with the
others as shadow models. So attackers know the training procedure, the pool of samples and, but for
``lira_plain``, the defence. The strength of a baseline that has one (early stopping, label
smoothing, dropout, weight decay) is the one of a small grid whose accuracy on one half of the test
split, with networks of another seed, is nearest to that of ``--matched``; learning rates of DP are
those with the best one. What the grids spent of privacy is not in the epsilon. All accuracies are
on the other half of the test split, remembrance samples come from the first. Cells lie under --out,
are independent, and are not measured again. Writes experiments/results/fig3_dp_competitor_DATASET*:
numbers, pictures, and a page of the pictures with what each shows and what it does not.
"""

from __future__ import annotations

import numpy as np

from dcmu_jax.applications.exposure import ATTACKS, membership_scores
from dcmu_jax.applications.overfitted import overfitted_subset
from dcmu_jax.audits.epsilon_bound import epsilon_of_one_run
from dcmu_jax.audits.population import Population
from dcmu_jax.audits.roc import separation
from dcmu_jax.reporting.defence import (
    attack_figure,
    radar_figure,
    threshold_figure,
    utility_figure,
)
from dcmu_jax.reporting.sections import Conclusion
from dcmu_jax.sweeps import mean_and_interval, run_in_pool
from experiments.arguments import parse
from experiments.fig3_cells import DEFENCES, Cells, Options, draw_inversions, steps
from experiments.writing import of_dtype, write, write_captions

LABELS = {
    "original": "original",
    "unlearned_otsu": "unlearned (Otsu, as published)",
    "unlearned_quantile": "unlearned (lowest OM)",
    "unlearned_lira": "unlearned (highest LiRA)",
    "dp_adam": "DP-Adam",
    "dp_sgd": "DP-SGD",
    "early_stopping": "early stopping",
    "label_smoothing": "label smoothing",
    "dropout": "dropout",
    "weight_decay": "weight decay",
    "output": "output defence",
}
RADAR = (
    "test accuracy",
    "hidden from LiRA",
    "hidden from LiRA, at 1 % FPR",
    "hidden from plain LiRA",
    "hidden from shadow models",
    "hidden from the loss",
    "speed",
)

CAPTIONS = {
    "utility": Conclusion(
        "A defence is worth its cost only where it lies to the left of early stopping and its "
        "like at the same height, under the attacker who knows it.",
        "That an attack finds little proves no privacy: only the rows of DP carry a bound against "
        "attacks not tried.",
    ),
    "radar": Conclusion(
        "The polygons show on which side each defence gives way; axes are scaled from 0 (all "
        "found, or chance accuracy) to 1 (nothing found, or the best accuracy).",
        "Their areas mean nothing: the axes overlap, and their order is arbitrary.",
    ),
    "roc": Conclusion(
        "At the left end a curve on the diagonal means that not even the surest guesses of LiRA "
        "are right more often than chance.",
        "The curves are of few shadows, so a stronger attacker stands higher; compare curves, and "
        "take none for a guarantee.",
    ),
    "histogram": Conclusion(
        "The threshold shows what Otsu calls overfitted in the first network of the first seed.",
        "That a sample has a small loss does not say that an attacker finds it: LiRA finds best "
        "the samples that are hard without having been seen, on whichever side they lie.",
    ),
    "inversion": Conclusion(
        "With the known images the reconstruction term already holds what is drawn, so likeness "
        "to a training image shows nothing about the network.",
        "Without them only the difference between networks counts, and a blurred image does not "
        "prove that nothing can be taken out.",
    ),
}
"""Figure -> what can be concluded from it, and what cannot."""


def chance(classes: int) -> float:
    """Accuracy (%) of guessing."""
    return 100 / classes


def attacked(defended: Population, plain: Population) -> dict:
    """Numbers of every attack, with intervals over examples."""
    member = defended.member[:, ~defended.test]
    found = {}
    for name, scores in membership_scores(defended, plain).items():
        numbers = separation(scores, member, resamples=50)
        found[name] = {"auc": numbers.auc, "tpr_at_1_percent": numbers.tpr_at_1_percent}
    return found


def audited(defended: Population, plain: Population, delta: float) -> float:
    """Epsilon that LiRA proves at least: the median over networks, each a run of its own.

    One of each pair of complementary halves; a tenth of the samples is guessed at.
    """
    scores = membership_scores(defended, plain)["lira"][::2]
    member = defended.member[::2, ~defended.test]
    guesses = scores.shape[1] // 20 * 2
    bounds = [
        epsilon_of_one_run(row, truth, guesses=guesses, delta=delta)
        for row, truth in zip(scores, member, strict=True)
    ]
    return float(np.median(bounds))


def radar_row(row: dict, best: float, fastest: float, classes: int) -> dict[str, float]:
    """A defence on the axes of the radar."""

    def hidden(attack: str) -> float:
        return float(np.clip(1 - 2 * (np.mean(row[f"{attack}_auc"]) - 0.5), 0, 1))

    utility = (np.mean(row["test_accuracy"]) - chance(classes)) / (best - chance(classes))
    numbers = (
        float(np.clip(utility, 0, 1)),
        hidden("lira"),
        float(np.clip(1 - (np.mean(row["lira_tpr_at_1_percent"]) - 0.01) / 0.99, 0, 1)),
        hidden("lira_plain"),
        hidden("shadow"),
        hidden("threshold"),
        float(fastest / max(np.mean(row["seconds"]), 1e-9)),
    )
    return dict(zip(RADAR, numbers, strict=True))


def main() -> None:
    """Measure what is not there yet, attack, write, draw."""
    options = parse(Options, __doc__)
    if options.workers > 1:
        run_in_pool(steps(options), options.workers)
    cells = Cells(options)
    rows: dict[str, dict[str, list[float]]] = {}
    about: dict[str, list[dict]] = {}
    first: dict[str, np.ndarray] = {}
    for seed in range(options.seeds):
        plain = cells.population(seed, "original")
        for name in DEFENCES:
            defended = cells.population(seed, name)
            about.setdefault(name, []).append(cells.about(seed, name))
            row = rows.setdefault(name, {})
            for attack, numbers in attacked(defended, plain).items():
                for number, value in numbers.items():
                    row.setdefault(f"{attack}_{number}", []).append(value[0])
            bound = audited(defended, plain, options.delta)
            row.setdefault("epsilon_at_least", []).append(bound)
            for number in ("test_accuracy", "member_accuracy", "seconds"):
                row.setdefault(number, []).append(about[name][-1][number])
            if seed == 0:
                first[LABELS[name]] = membership_scores(defended, plain)["lira"]
            print(seed, name, {k: round(v[-1], 3) for k, v in row.items()}, flush=True)

    figures = {
        "settings": cells.settings(),
        "attacks": ATTACKS,
        "strengths": cells.strengths(),
        "defences": {
            name: {number: mean_and_interval(values) for number, values in row.items()}
            | {"values": row, "about": about[name]}
            for name, row in rows.items()
        },
        "captions": {name: str(caption) for name, caption in CAPTIONS.items()},
    }
    stem = of_dtype(f"fig3_dp_competitor_{cells.splits.name}", options.dtype)
    labelled = {LABELS[name]: row for name, row in rows.items()}
    columns = {
        "lira_tpr_at_1_percent": "LiRA: true positives at 1 % false ones",
        "lira_auc": "LiRA: AUC",
        "shadow_auc": "shadow models: AUC",
    }
    classes = cells.splits.num_classes
    best = max(float(np.mean(row["test_accuracy"])) for row in rows.values())
    fastest = min(float(np.mean(row["seconds"])) for row in rows.values())
    shown = ("original", options.matched, "unlearned_lira", "dp_adam", "early_stopping", "output")
    polygons = {LABELS[n]: radar_row(rows[n], best, fastest, classes) for n in dict.fromkeys(shown)}
    pictures = {
        "utility": utility_figure(labelled, columns),
        "radar": radar_figure(polygons, RADAR),
        "roc": attack_figure(first, cells.members(0)),
        "histogram": threshold_figure(overfitted_subset(*cells.first_values())),
        "inversion": draw_inversions(cells),
    }
    write(stem, figures, pictures={f"{stem}_{name}": drawn for name, drawn in pictures.items()})
    captions = {f"{stem}_{name}": caption for name, caption in CAPTIONS.items()}
    title = f"Unlearning against membership inference, and its rivals: {cells.splits.name}"
    print(write_captions(stem, title, captions).read_text())


if __name__ == "__main__":
    main()

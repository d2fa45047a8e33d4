"""Effects of skills on a model: paired differences between runs with and without them, corrected for their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from sdar_benchmarks.analysis.compare import common_pairs, paired_difference
from sdar_benchmarks.analysis.statistics import holm
from sdar_benchmarks.analysis.tables import TextTable
from sdar_benchmarks.records.runs import Episode
from sdar_envs.errors import InvalidOption

__all__ = ["LEVEL", "Ablation", "Contrast", "Effect", "Measure", "ablation_markdown", "effect_table", "measure_effects"]

Measure = Literal["success", "score"]

LEVEL = 0.05
"""Adjusted p-values at or below it count as an effect: the chance that a report names any false one is at most this."""


class Contrast(NamedTuple):
    """Two conditions whose difference is the effect of skills.

    Attributes:
        name: what the effect is of, such as a skill's id.
        kind: `library` (all skills against none), `skill` (all against all but this), or `control` (skills of other
            task types against none).
        without: episodes without it.
        shown: episodes with it.
    """

    name: str
    kind: Literal["library", "skill", "control"]
    without: Sequence[Episode]
    shown: Sequence[Episode]


@dataclass(frozen=True, slots=True)
class Effect:
    """Effect of skills in one measure, over the episodes with the same task and seed.

    Attributes:
        name: as in the contrast.
        kind: as in the contrast.
        episodes: pairs.
        tasks: different tasks among them.
        mean_without: mean of the measure without the skills.
        mean_with: mean of the measure with them.
        effect: `mean_with - mean_without`.
        interval: 95 % confidence interval, by bootstrap over tasks; of this effect alone, not of all together.
        p: of the sign-flip test of no effect, whole tasks flipped.
        adjusted_p: corrected for the number of effects in the report (Holm).
        errors: pairs of which an episode ended in an error, and counts as a failure.
    """

    name: str
    kind: str
    episodes: int
    tasks: int
    mean_without: float
    mean_with: float
    effect: float
    interval: tuple[float, float]
    p: float
    adjusted_p: float
    errors: int

    @property
    def verdict(self) -> str:
        """`helps`, `harms`, or `no effect found`."""
        if self.adjusted_p > LEVEL:
            return "no effect found"
        return "helps" if self.effect > 0 else "harms"


@dataclass(frozen=True, slots=True)
class Ablation:
    """Result of an ablation.

    Attributes:
        measure: what was compared.
        effects: the library's, those of its skills from the largest, then the control's.
        warnings: to be read before the numbers.
    """

    measure: str
    effects: tuple[Effect, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the ablation as a dictionary of JSON values."""
        effects = [{**asdict(effect), "verdict": effect.verdict} for effect in self.effects]
        return {"measure": self.measure, "level": LEVEL, "effects": effects, "warnings": list(self.warnings)}


def measure_effects(
    contrasts: Sequence[Contrast], measure: Measure = "success", *, resamples: int | None = None
) -> Ablation:
    """Measure the effects of contrasts, and correct their p-values together.

    Args:
        contrasts: all effects of the report.
        measure: what is compared.
        resamples: of the intervals; None for the usual number.

    Raises:
        InvalidOption: two conditions have no task and seed in common, or were played on data that do not compare.
    """
    found = []
    for contrast in contrasts:
        groups = common_pairs(*({episode.key: episode for episode in side} for side in contrast[2:]))
        pairs = [pair for group in groups.values() for pair in group]
        if not pairs:
            raise InvalidOption(f"the runs with and without {contrast.name} have no task and seed in common.")
        errors = sum("error" in (one.status, other.status) for one, other in pairs)
        found.append((contrast, paired_difference(contrast.name, measure, pairs, resamples=resamples), errors))
    adjusted = holm([difference.test.p for _, difference, _ in found])
    effects = [
        Effect(
            name=contrast.name,
            kind=contrast.kind,
            episodes=difference.episodes,
            tasks=difference.tasks,
            mean_without=difference.mean_a,
            mean_with=difference.mean_b,
            effect=difference.difference,
            interval=difference.interval,
            p=difference.test.p,
            adjusted_p=float(p),
            errors=errors,
        )
        for (contrast, difference, errors), p in zip(found, adjusted, strict=True)
    ]
    kinds = ("library", "skill", "control")
    effects.sort(key=lambda effect: (kinds.index(effect.kind), -effect.effect, effect.name))
    return Ablation(measure, tuple(effects), tuple(_warnings(effects)))


def _warnings(effects: Sequence[Effect]) -> list[str]:
    warnings = []
    failed = [f"{effect.name} ({effect.errors} of {effect.episodes})" for effect in effects if effect.errors]
    if failed:
        warnings.append(f"episodes ended in errors, which count as failures: {', '.join(failed)}")
    if any(effect.kind == "control" and effect.verdict == "helps" for effect in effects):
        warnings.append(
            "skills of other task types help too: what helps may be any text of this kind, not what the skills say"
        )
    return warnings


def effect_table(ablation: Ablation) -> TextTable:
    """Return a table with a row for each effect."""
    rows = []
    for effect in ablation.effects:
        low, high = effect.interval
        rows.append(
            (
                effect.name,
                str(effect.episodes),
                str(effect.tasks),
                f"{effect.mean_without:.3f}",
                f"{effect.mean_with:.3f}",
                f"{effect.effect:+.3f}",
                f"{low:+.3f} to {high:+.3f}",
                f"{effect.p:.4f}",
                f"{effect.adjusted_p:.4f}",
                effect.verdict,
            )
        )
    return TextTable(
        ("skill", "n", "tasks", "without", "with", "effect", "95 % CI", "p", "adjusted p", "verdict"), tuple(rows)
    )


def ablation_markdown(ablation: Ablation, facts: Mapping[str, str]) -> str:
    """Return the report as Markdown.

    Args:
        ablation: the effects.
        facts: what was played, by name, such as the model.
    """
    table = effect_table(ablation)
    lines = ["# Skill ablation", "", *(f"- {name}: {text}" for name, text in facts.items()), ""]
    lines += ["| " + " | ".join(row) + " |" for row in (table.columns, ("---",) * len(table.columns), *table.rows)]
    lines += ["", *(f"**Note:** {warning}.\n" for warning in ablation.warnings)]
    lines += [
        f"Effects are differences in mean {ablation.measure}, paired by task and seed. *all skills* compares all "
        "skills with none; a skill's row compares all skills with all but this one, on the tasks where it was shown; "
        "*shuffled* compares skills of other task types with none, as a negative control. The intervals are of each "
        "effect alone (bootstrap over tasks). p is of a sign-flip test over tasks; adjusted p is corrected for all "
        f"rows (Holm), and counts as an effect up to {LEVEL}. A skill whose advice another one repeats shows no effect "
        "of its own.",
        "",
    ]
    return "\n".join(lines)

"""Two models on the same clips: who is right where, and whether that is more than chance."""

import math
from typing import Any


def compare_reports(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Return what two evaluations of the same clips say of each other.

    first, second: of evaluate.evaluate_model(). only_first, only_second: clips that one of them gets right. p_value:
    how often chance alone would part them so far. differ: the clips that they disagree on. Clips that only one of them
    knows, of a word that the other has not, are left out and counted.
    """
    other = {row["clip"]: row for row in second["heard"]}
    pairs = [(row, other[row["clip"]]) for row in first["heard"] if row["clip"] in other]
    pairs = [(one, two) for one, two in pairs if one["said"] == two["said"]]
    only_first = sum(one["right"] and not two["right"] for one, two in pairs)
    only_second = sum(two["right"] and not one["right"] for one, two in pairs)
    return {
        "models": [first["model"], second["model"]],
        "clips": len(pairs),
        "left_out": len(first["heard"]) + len(second["heard"]) - 2 * len(pairs),
        "accuracy": [sum(pair[n]["right"] for pair in pairs) / len(pairs) if pairs else None for n in (0, 1)],
        "both_right": sum(one["right"] and two["right"] for one, two in pairs),
        "only_first": only_first,
        "only_second": only_second,
        "p_value": mcnemar(only_first, only_second),
        "differ": [
            {"clip": one["clip"], "said": one["said"], "heard": [one["heard"], two["heard"]]}
            for one, two in pairs
            if one["heard"] != two["heard"]
        ],
    }


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the two-sided chance of a split as uneven, of clips that only one of two models gets right.

    Source: Q. McNemar, 1947; exact, by the binomial distribution.
    """
    total, least = only_first + only_second, min(only_first, only_second)
    if not total:
        return 1.0
    tail = sum(math.comb(total, k) for k in range(least + 1))
    return min(1.0, float(2 * tail / 2**total))


def render_comparison(found: dict[str, Any]) -> str:
    """Return a comparison as text."""
    names = found["models"]
    width = max(map(len, names))
    lines = [f"{found['clips']} clips that both know{_left_out(found)}"]
    for name, share, alone in zip(names, found["accuracy"], (found["only_first"], found["only_second"]), strict=True):
        told = "-" if share is None else f"{share:.2%}"
        lines.append(f"  {name:<{width}}  {told:>8} right, {alone} of them where the other is wrong")
    verdict = "no difference that these clips could show" if found["p_value"] > 0.05 else "a difference beyond chance"
    lines.append(f"  {verdict} (McNemar, p = {found['p_value']:.3g})")
    return "\n".join(lines)


def _left_out(found: dict[str, Any]) -> str:
    return f"; {found['left_out']} that only one knows are left out" if found["left_out"] else ""

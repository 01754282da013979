"""The comparisons of a model with its baseline, one a line."""

from dataclasses import dataclass
from pathlib import Path

from mbx_deploy.errors import CheckFailed
from mbx_deploy.measure.baseline import Baseline
from mbx_deploy.measure.fingerprint import changed
from mbx_deploy.measure.stream_budgets import over_budget

ACCURACIES = {"accuracy": "accuracy, all clips", "command_accuracy": "accuracy, command words"}


@dataclass(frozen=True)
class Check:
    """One comparison. passed: None where it was left out on purpose. told: got against need, as text."""

    name: str
    passed: bool | None
    told: str


def compare(old: Baseline, now: Baseline, allow_changed_bytes: bool) -> list[Check]:
    """Return the checks of what was measured now against the baseline. Margins and budgets are those of now, which are
    the baseline's unless the request has others.
    """
    checks = [_bytes_check(old, now, allow_changed_bytes), *_firmware_checks(now)]
    if now.data is None:
        if old.data is not None:
            checks.append(Check("accuracy", None, "left out"))
    else:
        checks += [_accuracy_check(name, what, old, now) for name, what in ACCURACIES.items()]
        checks += _float_checks(old, now)
    for name, most in now.budgets.to_dict().items():
        got = now.measured.get(name)
        if most is not None and got is not None:
            what = {"flash_bytes": "flash", "ram_bytes": "RAM", "instructions": "instructions per inference"}[name]
            checks.append(Check(what, got <= most, f"{got:,.0f}, need at most {most:,}"))
    if now.streams is not None:
        checks += [Check(*row) for row in over_budget(now.streams, now.measured)]
    elif old.streams is not None:
        checks.append(Check("long recordings", None, "left out"))
    return checks


def check_update(path: Path, now: Baseline) -> None:
    """Raise CheckFailed, in one line, for a baseline that its own model would not meet. path: where it would lie."""
    failed = [f"{check.name}: {check.told}" for check in compare(now, now, False) if check.passed is False]
    if failed:
        raise CheckFailed(
            f"the baseline would fail at once ({path}), {'; '.join(failed)}",
            "nothing was written; mend the model, or allow more: --float-margin",
        )


def _bytes_check(old: Baseline, now: Baseline, allowed: bool) -> Check:
    differences = []
    constant = changed(old.constants, now.constants)
    if constant:
        more = f" and {len(constant) - 3} more" if len(constant) > 3 else ""
        differences.append(f"constants: {', '.join(constant[:3])}{more}")
    for name in ("synthetic", "recordings"):
        before, found = old.stages.get(name), now.stages.get(name)
        if before is None or found is None:
            continue
        stages = changed(before.stages, found.stages)
        if before.items != found.items:
            differences.append(f"{name} inputs: got {found.items}, need {before.items}")
        elif stages:
            differences.append(
                f"{name} inputs: first at stage {stages[0]}, {len(stages)} of {len(found.stages)} stages"
            )
    if not differences:
        items = sum(found.items for name, found in now.stages.items() if name in old.stages)
        return Check("bytes", True, f"{len(now.stages['synthetic'].stages)} stages of {items} inputs are equal")
    return Check("bytes", None if allowed else False, f"changed in {'; '.join(differences)}")


def _firmware_checks(now: Baseline) -> list[Check]:
    """Return whether the program itself gives the bytes of the C on this machine."""
    if "firmware" not in now.stages:
        return []
    ours, its = now.stages["synthetic"].stages, now.stages["firmware"].stages
    differ = changed({name: ours[name] for name in its if name in ours}, its)  # another runtime tells fewer stages
    told = (
        f"differs from the C on this machine first at stage {differ[0]}" if differ else "the same bytes in the emulator"
    )
    return [Check("firmware", not differ, told)]


def _accuracy_check(name: str, what: str, old: Baseline, now: Baseline) -> Check:
    before, got = old.measured.get(name), now.measured.get(name)
    if before is None or got is None:
        return Check(what, None, "no such clips")
    least = before - now.margins.accuracy
    return Check(
        what,
        got >= least - 1e-12,
        f"{got:.2%}, need {least:.2%} (the baseline's {before:.2%}, margin {100 * now.margins.accuracy:g} points)",
    )


def _float_checks(old: Baseline, now: Baseline) -> list[Check]:
    got, real, alike = (now.measured[name] or 0.0 for name in ("accuracy", "float_accuracy", "agreement"))
    margin, before = now.margins.floating, old.measured["agreement"] or 0.0
    near = Check(
        "int8 against float",
        real - got <= margin + 1e-12,
        f"{got:.2%} against {real:.2%}, margin {100 * margin:g} points",
    )
    told = f"{alike:.2%}, need {before - margin:.2%} (the baseline's {before:.2%})"
    return [near, Check("same word as float", alike >= before - margin - 1e-12, told)]

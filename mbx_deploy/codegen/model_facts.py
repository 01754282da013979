"""What a model's file says of itself, as rows and sentences for a page. It is others' data: what is not as expected is
left out.
"""

from collections.abc import Sequence

from mbx_deploy.compiler.model import CompiledModel

Rows = list[tuple[str, str]]


def model_rows(model: CompiledModel) -> Rows:
    """Return (title, value) of a model that hears: size, digests, training, accuracy."""
    program, metadata = model.program, model.metadata
    rows = [
        ("network", f"{len(program.calls)} layers, {len(model.data):,} bytes as .tflite"),
        ("SHA-256 of the model", model.digest),
        ("SHA-256 of the front end", model.config.digest()),
    ]
    training = metadata.get("training")
    training = training if isinstance(training, dict) else {}
    for key, title in (("data_source", "data"), ("data_digest", "digest of the data"), ("epoch", "epoch")):
        if isinstance(training.get(key), str | int) and training[key] != "":
            rows.append((title, str(training[key])))
    splits = training.get("splits")
    for split, found in splits.items() if isinstance(splits, dict) else ():
        if isinstance(found, dict):
            rows.append((f"{split} clips", f"{found.get('clips')} of {found.get('speakers')} speakers"))
    accuracy = metadata.get("accuracy")
    for key, value in sorted(accuracy.items()) if isinstance(accuracy, dict) else ():
        if isinstance(value, float) and value <= 1.0:
            rows.append((f"accuracy, {str(key).replace('_', ' ')}", f"{value:.1%}"))
        elif isinstance(value, str | int | float):
            rows.append((f"accuracy, {str(key).replace('_', ' ')}", str(value)))
    return rows


def model_limits(model: CompiledModel) -> Sequence[str]:
    """Return the sentences of a model's card that say what it can't do."""
    card = model.metadata.get("card")
    limits = card.get("limits") if isinstance(card, dict) else None
    return [line for line in limits if isinstance(line, str)] if isinstance(limits, list) else []

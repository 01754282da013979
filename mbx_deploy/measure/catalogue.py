"""The shipped models: what their files say of them."""

from typing import Any

from mbx_deploy.system.resources import models_folder, resolve_model


def list_models() -> list[dict[str, Any]]:
    """Return what each shipped model's file says of it, as JSON takes it, by name."""
    return [describe_model(path.stem) for path in sorted(models_folder().glob("*.tflite"))]


def describe_model(model: str) -> dict[str, Any]:
    """Return what a shipped model's file, or another .tflite, says of it, as JSON takes it.

    "card": what was measured, see model_card.build_card(); empty where the file has none. Raises InputError.
    """
    from mbx_deploy.compiler.model import load_model

    path = resolve_model(model)
    recognizer = load_model(path)
    metadata = recognizer.metadata
    entry = {"name": path.stem, "path": str(path), "labels": list(recognizer.labels), "bytes": len(recognizer.data)}
    found = {key: metadata.get(key, {}) for key in ("accuracy", "card", "training")}
    return {**entry, **found}


def model_card(model: str) -> str:
    """Return the model card of a shipped model, or of another .tflite, as text. Raises InputError for a bad one."""
    from mbx_deploy.compiler.model import load_model
    from mbx_deploy.measure.card import render_card

    path = resolve_model(model)
    return render_card(path.stem, load_model(path).metadata)


def render_models(models: list[dict[str, Any]]) -> str:
    """Return the list as text: a model's name, size, accuracy in int8, and labels."""
    lines = []
    for model in models:
        right = model["accuracy"].get("commands_int8")
        share = f", {right:.1%} of its words right in int8 ({model['accuracy']['split']})" if right else ""
        lines.append(f"{model['name']}: {model['bytes']:,} bytes{share}; {', '.join(model['labels'])}")
    return "\n".join(lines)

"""A file of labels: a word a line, a YAML list of `- word`, or NeMo's labels.yaml."""

from pathlib import Path
from typing import Any

from mbx_deploy.errors import InputError
from mbx_deploy.system.documents import DocumentError, read_document
from mbx_deploy.system.yaml_documents import parse_yaml

MAX_LABELS = 1000
MAX_LABEL_LENGTH = 64


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the words of a file, in their order. Raises InputError for one that holds none, or one twice.

    In YAML a word is what stands there: yes, no, on and off are no truth values.
    """
    try:
        text = read_document(path).decode("utf-8-sig")
    except (DocumentError, UnicodeDecodeError) as error:
        raise InputError(f"can't read the labels ({path}): {error}", "need a text file, one word a line") from None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if path.suffix.lower() in (".yaml", ".yml") or any(line.startswith("- ") for line in lines[:2]):
        lines = _listed(text, path)
    labels = tuple(lines)
    if not 1 <= len(labels) <= MAX_LABELS or len(set(labels)) != len(labels):
        raise InputError(f"bad labels ({path}): need 1 to {MAX_LABELS} words, one a line, each once")
    if any(len(label) > MAX_LABEL_LENGTH or not label.isprintable() for label in labels):
        raise InputError(f"bad labels ({path}): need words of at most {MAX_LABEL_LENGTH} printable characters")
    return labels


def _listed(text: str, path: Path) -> list[str]:
    try:
        content: Any = parse_yaml(text.encode(), as_text=True)
    except DocumentError as error:
        raise InputError(
            f"bad labels ({path}): {error}", "need a list of `- word`, or the key labels with one"
        ) from None
    if isinstance(content, dict):
        content = content.get("labels")
    if not isinstance(content, list) or not all(isinstance(word, str) and word for word in content):
        raise InputError(f"bad labels ({path}): need a list of `- word`, or the key labels with one")
    return content

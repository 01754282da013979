"""Builds that a test has changed on purpose: their manifest says of them what is there now."""

import hashlib
import json
from pathlib import Path


def sign_again(folder: Path) -> Path:
    """Write the digests of a build's files, as they are, into its manifest; return the folder."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    there = [name for name in manifest["files"] if (folder / name).is_file()]
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in there}
    path.write_text(json.dumps(manifest))
    return folder

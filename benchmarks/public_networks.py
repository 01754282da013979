"""Public .tflite files: which build, which are refused, and why.

    python benchmarks/public_networks.py FOLDER

FOLDER holds the files under any names; each that public_networks.json lists, by its SHA-256, is built for the target
that is listed and verified again, and a verdict that is another one is told (exit 1). No file is part of this project.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

LIST = Path(__file__).with_suffix(".json")
TOOL = (sys.executable, "-m", "mbx_deploy")


def verdict_of(path: Path, target: str) -> str:
    """Return equal, different or refused."""
    with tempfile.TemporaryDirectory() as folder:
        build = f"{folder}/build"
        command = [*TOOL, "build", "--model", str(path), "--network-only", "--target", target, "-o", build]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return "refused"
        verified = subprocess.run([*TOOL, "verify", build], capture_output=True, check=False)
        return "equal" if verified.returncode == 0 else "different"


def main() -> int:
    """Compare what is in a folder with the list."""
    listed = {entry["sha256"]: entry for entry in json.loads(LIST.read_text())["networks"]}
    wrong = 0
    for path in sorted(path for path in Path(sys.argv[1]).rglob("*") if path.is_file()):
        entry = listed.get(hashlib.sha256(path.read_bytes()).hexdigest())
        if entry is None:
            continue
        found = verdict_of(path, entry["target"])
        wrong += found != entry["verdict"]
        print(f"{found}{'' if found == entry['verdict'] else ', not ' + entry['verdict']}: {path}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

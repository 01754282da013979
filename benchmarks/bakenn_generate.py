"""Runs in bakenn's own environment: a .tflite -> bakenn's C, one folder for each way to choose its kernels.

    python bakenn_generate.py MODEL.tflite TARGET FOLDER

Prints the folders' names, in JSON; none where bakenn has no profile of the target's name.
"""

import json
import sys
from pathlib import Path

from bakenn import TARGET_PROFILES, CBackendOptions, KernelPolicy, compile_tflite

POLICIES = {
    "portable": {},
    "smlad": {"kernel_policy": KernelPolicy.STATIC_PRIORITY},
    "cmsis_nn": {"kernel_policy": KernelPolicy.STATIC_PRIORITY, "enable_cmsis_nn": True},
}


def main(model: str, target: str, folder: str) -> None:
    """Write the folders."""
    profile = TARGET_PROFILES.get(target)
    if profile is None:
        print("[]")
        return
    # Without the DSP extension nothing but the portable kernels is left.
    names = list(POLICIES) if "dsp" in profile.features else ["portable"]
    for name in names:
        options = CBackendOptions(target=profile, **POLICIES[name])
        compile_tflite(model, Path(folder) / name, name="peer", backend_options=options)
    print(json.dumps(names))


if __name__ == "__main__":
    main(*sys.argv[1:])

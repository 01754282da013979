"""NeMo's checkpoints: read safely, described, computed as NeMo computes them, and made into our own models.

archive      the .nemo file: a tar of a YAML and a checkpoint, read in memory
weights      the checkpoint's tensors; nothing in it is executed
description  the YAML: what the model is, in our terms, or a refusal that names what is not supported
features     NeMo's preprocessors in float64
masked       NeMo's network with its masks, the yardstick
folding      the same network of fixed length without masks
conversion   a .nemo or an ONNX file -> a model of ours
"""

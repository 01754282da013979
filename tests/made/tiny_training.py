"""A recogniser of four words that trains in seconds: the sections of a training config."""

TINY_MODEL = {
    "blocks": 1,
    "channels": 8,
    "prologue_filters": 8,
    "prologue_kernel": 3,
    "kernels": [3],
    "epilogue_filters": 8,
    "epilogue_kernel": 3,
    "epilogue_dilation": 1,
}
TINY = {
    "labels": ["low", "high", "unknown", "silence"],
    "model": TINY_MODEL,
    "epochs": 3,
    "batch_size": 8,
    "learning_rate": 0.02,
    "ema_decay": 0.8,
    "threads": 1,
}

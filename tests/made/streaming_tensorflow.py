"""A streaming network as TensorFlow's own converter writes it: convolutions whose last rows are in tf.Variable."""

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

ROWS, CHANNELS, FILTERS, CLASSES = 2, 8, 16, 3


@functools.cache
def streaming_tflite(quantized: bool = True) -> bytes:
    """Return an int8 .tflite with a uint8 output that takes two new rows a run, or a float one. Needs TensorFlow."""
    import tensorflow as tf

    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.3, shape).astype(np.float32) for shape in ((5, 1, 8, 16), (8, 1, 16, 1), (16, 3))]

    class Streaming(tf.Module):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            self.narrow = tf.Variable(tf.zeros((1, 4, 1, CHANNELS)), trainable=False, name="narrow")
            self.wide = tf.Variable(tf.zeros((1, 6, 1, FILTERS)), trainable=False, name="wide")

        @tf.function(input_signature=[tf.TensorSpec((1, ROWS, CHANNELS), tf.float32)])  # type: ignore[untyped-decorator, unused-ignore]
        def __call__(self, rows: Any) -> Any:
            seen = tf.concat([self.narrow, tf.reshape(rows, (1, ROWS, 1, CHANNELS))], 1)
            self.narrow.assign(seen[:, ROWS:])
            seen = tf.concat([self.wide, tf.nn.relu(tf.nn.conv2d(seen, weights[0], 1, "VALID"))], 1)
            self.wide.assign(seen[:, ROWS:])
            found = tf.nn.depthwise_conv2d(seen, weights[1], [1, 1, 1, 1], "VALID")
            return tf.sigmoid(tf.matmul(tf.reshape(found, (1, FILTERS)), weights[2]))

    def samples() -> Iterator[list[np.ndarray]]:
        yield from ([rng.normal(0, 1, (1, ROWS, CHANNELS)).astype(np.float32)] for _ in range(100))

    network = Streaming()
    function = network.__call__.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], network)
    converter.experimental_enable_resource_variables = True
    if not quantized:
        return bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter._experimental_variable_quantization = True
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type, converter.inference_output_type = tf.int8, tf.uint8
    return bytes(converter.convert())

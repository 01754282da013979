"""A DS-CNN as in MLPerf Tiny's keyword spotting, from Keras through TensorFlow's int8 converter, its weights drawn.

38,592 weights; input (1, 49, 10, 1), twelve classes. Its batch norms are fitted, so that every layer's outputs vary.
"""

from typing import Any

import numpy as np

INPUT_SHAPE = (49, 10, 1)
CLASSES = 12


def draw_clips(seed: int, count: int) -> np.ndarray:
    """Return inputs that differ as recordings do, float32 (count, 49, 10, 1): slow lines, tilts, noise."""
    rng = np.random.default_rng(seed)
    lines = np.cumsum(rng.normal(0, 0.3, (count, 49, 1, 1)), axis=1)
    return (lines + rng.normal(0, 1, (count, 1, 10, 1)) + rng.normal(0, 0.5, (count, *INPUT_SHAPE))).astype(np.float32)


def dscnn_tflite(seed: int = 1, filters: int = 64, blocks: int = 4, softmax: bool = True) -> bytes:
    """Return the int8 file: CONV_2D 10x4, blocks of DEPTHWISE_CONV_2D 3x3 and CONV_2D 1x1, pool, dense, SOFTMAX."""
    import keras  # type: ignore[import-untyped, unused-ignore]
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input(INPUT_SHAPE)
    x = layers.Conv2D(filters, (10, 4), strides=(2, 2), padding="same")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.1)(x))
    for _ in range(blocks):
        x = layers.DepthwiseConv2D((3, 3), padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.1)(x))
        x = layers.Conv2D(filters, (1, 1), padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.1)(x))
    x = layers.AveragePooling2D(pool_size=(25, 5))(x)
    x = layers.Dense(CLASSES, activation="softmax" if softmax else None)(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    clips = draw_clips(seed, 32)
    for _ in range(3):  # means and variances of what the layers see
        model(clips, training=True)
    dense = model.layers[-1]
    kernel, bias = dense.get_weights()
    dense.set_weights([kernel * 6, bias])  # so that its outputs differ by more than a step
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([clip[None]] for clip in clips)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    converted: Any = converter.convert()
    return bytes(converted)

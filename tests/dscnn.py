"""A DS-CNN as in MLPerf Tiny's keyword spotting, from Keras through TensorFlow's int8 converter, its weights drawn.

38,592 weights; input (1, 49, 10, 1), twelve classes. Random weights in trained proportions: each layer's outputs vary.
"""

from typing import Any

import numpy as np

INPUT_SHAPE = (49, 10, 1)
CLASSES = 12


def dscnn_tflite(seed: int = 1, filters: int = 64, blocks: int = 4, softmax: bool = True) -> bytes:
    """Return the int8 file: CONV_2D 10x4, blocks of DEPTHWISE_CONV_2D 3x3 and CONV_2D 1x1, pool, dense, SOFTMAX."""
    import keras  # type: ignore[import-untyped, unused-ignore]
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    layers = keras.layers
    inputs = keras.Input(INPUT_SHAPE)
    x = layers.Conv2D(filters, (10, 4), strides=(2, 2), padding="same")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for _ in range(blocks):
        x = layers.DepthwiseConv2D((3, 3), padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, (1, 1), padding="same")(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.AveragePooling2D(pool_size=(25, 5))(x)
    x = layers.Dense(CLASSES, activation="softmax" if softmax else None)(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = (np.asarray(value) for value in layer.get_weights())
            drawn = [
                gamma * rng.uniform(0.5, 2.0, gamma.shape),
                beta + rng.normal(0.2, 0.3, beta.shape),
                mean,
                variance,
            ]
            layer.set_weights(drawn)
    clips = rng.normal(0.0, 1.0, (32, *INPUT_SHAPE)).astype(np.float32)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([clip[None]] for clip in clips)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    converted: Any = converter.convert()
    return bytes(converted)

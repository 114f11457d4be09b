"""The convolutional network that the peers share, in Keras, and how much it is trained."""

import keras

IMAGES, BATCH, EPOCHS = 60_000, 128, 2


def build() -> keras.Model:
    """16-32-64 channels of 3 x 3 convolutions with batch normalization, relu and pooling."""
    layers = keras.layers
    blocks = []
    for width in (16, 32, 64):
        blocks += [
            layers.Conv2D(width, 3, padding="same", use_bias=False),
            layers.BatchNormalization(momentum=0.9, epsilon=1e-5),
            layers.ReLU(),
            layers.MaxPooling2D(),
        ]
    head = [layers.GlobalAveragePooling2D(), layers.Dense(10)]
    return keras.Sequential([keras.Input((28, 28, 1)), *blocks, *head])

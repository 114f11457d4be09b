"""The beginner tutorial R4 as one script: import, read, scale, train, evaluate.

python -m benchmarks.peers.tutorial MIRROR
"""

import sys

import tensorflow as tf

from benchmarks.peers import data

(x_train, y_train), (x_test, y_test) = data.raw(sys.argv[1])
x_train, x_test = x_train / 255.0, x_test / 255.0

model = tf.keras.models.Sequential(
    [
        tf.keras.Input((28, 28)),
        tf.keras.layers.Flatten(),
        tf.keras.layers.Dense(128, activation="relu"),
        tf.keras.layers.Dropout(0.2),
        tf.keras.layers.Dense(10),
    ]
)
loss_fn = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer="adam", loss=loss_fn, metrics=["accuracy"])
model.fit(x_train, y_train, epochs=5, verbose=0)
print(model.evaluate(x_test, y_test, verbose=0))

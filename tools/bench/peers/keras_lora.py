"""A whole step of Keras 3's Embedding with lora_rank on TensorFlow: lookup, backward from a given gradient of the output, AdamW."""

from peer import batches, config, serve

import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(config["threads"])
import keras

V, D, ids = config["rows"], config["dim"], tf.constant(batches())
layer = keras.layers.Embedding(V, D, lora_rank=config["rank"], lora_alpha=16)
layer.build()
optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.0)
optimizer.build(layer.trainable_variables)
gradient = tf.random.normal([ids.shape[1], D], stddev=1e-3)


def step(places):
    with tf.GradientTape() as tape:
        out = layer(places)
    variables = layer.trainable_variables
    optimizer.apply(tape.gradient(out, variables, output_gradients=gradient), variables)
    return out


def variant(**options):
    function = tf.function(step, reduce_retracing=True, **options)
    return lambda batch: function(ids[batch]).numpy()  # waits for the result


assert len(layer.trainable_variables) == 2
serve({"tf.function": variant(), "tf.function, XLA": variant(jit_compile=True)}, Keras=keras.__version__, TensorFlow=tf.__version__)

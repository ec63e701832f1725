"""A step of a text classifier in Keras 3 on TensorFlow: Embedding (with lora_rank, where there is one), mean, softmax, Adam; with
"vectors" the same model over given vectors, which is what is left of a step without the embedding."""

from peer import batches, config, serve

import numpy
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(config["threads"])
import keras

V, D, tokens, classes = config["rows"], config["dim"], config["tokens"], config["classes"]
ids = batches().reshape(config["batches"], -1, tokens)
texts = ids.shape[1]
random = numpy.random.default_rng(0)
targets = keras.utils.to_categorical(random.integers(0, classes, texts), classes)

if config["vectors"]:
    first = keras.layers.Identity()
    inputs = [random.standard_normal((texts, tokens, D), numpy.float32)] * len(ids)
else:
    first = keras.layers.Embedding(V, D, lora_rank=config["rank"])
    inputs = list(ids)
layers = [first, keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(classes, activation="softmax")]


def variant(**options):
    model = keras.Sequential(layers)
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="categorical_crossentropy", **options)
    return lambda batch: model.train_on_batch(inputs[batch], targets)


serve({"train_on_batch": variant(jit_compile=False), "train_on_batch, XLA": variant(jit_compile=True)}, Keras=keras.__version__, TensorFlow=tf.__version__)

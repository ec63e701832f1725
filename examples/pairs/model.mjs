// The objective of job.yaml: a small network over the vectors of two items. `finetable train` runs this file.
import { tf, tfjsModel, useBestBackend } from '@finetable/tfjs';

export default async function ({ options: { units = 16 }, featureDims, classes, seed }) {
  await useBestBackend();
  const kernelInitializer = tf.initializers.glorotUniform({ seed });
  const left = tf.input({ shape: [featureDims.left], name: 'left' });
  const right = tf.input({ shape: [featureDims.right], name: 'right' });
  const product = tf.layers.multiply().apply([left, right]);
  const hidden = tf.layers.dense({ units, activation: 'relu', kernelInitializer }).apply(product);
  const regular = tf.layers.dropout({ rate: 0.1 }).apply(hidden);
  const logits = tf.layers.dense({ units: classes.match.length, kernelInitializer }).apply(regular);
  const model = tf.model({ inputs: [left, right], outputs: logits });

  const loss = (logits, { labels: { match } }) => ({
    loss: tf.losses.softmaxCrossEntropy(tf.oneHot(match, classes.match.length), logits),
    accuracy: tf.mean(tf.cast(tf.equal(tf.argMax(logits, 1), match), 'float32')),
  });
  return tfjsModel(model, loss, { labels: ['match'], optimizer: tf.train.adam(0.01), seed });
}

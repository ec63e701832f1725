// A step of a text classifier under `model.fit` of TensorFlow.js, with our layer and with tfjs' own embedding.
import { range, RandomStream } from '@finetable/core';
import { adamw } from '@finetable/lora';
import { embedding, tf, useBestBackend } from '@finetable/tfjs';
import { takeTurns } from './measure.mjs';
import { million } from './tables.mjs';

export const V = million;
export const D = 64;
export const rank = 8;
export const texts = 32;
export const tokens = 16;
export const classes = 10;
const stepsPerFit = 4;

export const about = `V = ${V / million}M, D = ${D}; ${texts} texts of ${tokens} uniform ids, their mean, softmax over ${classes} classes, Adam, f32`;

/** `steps` batches as one data set. Ids are like those of other benchmarks: no two batches have much in common. */
export function makeTexts(seed, steps = stepsPerFit) {
  const random = new RandomStream(seed, 'texts');
  const ids = range(steps * texts * tokens).map((i) => random.below(i, V));
  const labels = range(steps * texts).map((i) => random.below(ids.length + i, classes));
  return {
    ids,
    x: tf.tensor2d(ids, [steps * texts, tokens], 'int32'),
    y: tf.tidy(() => tf.oneHot(tf.tensor1d(labels, 'int32'), classes)),
  };
}

/** @param first the embedding, or nothing: then vectors are what is fed */
export function classifier(first) {
  const rest = [
    tf.layers.globalAveragePooling1d(first ? {} : { inputShape: [tokens, D] }),
    tf.layers.dense({ units: classes, activation: 'softmax' }),
  ];
  const model = tf.sequential({ layers: first ? [first, ...rest] : rest });
  model.compile({ optimizer: tf.train.adam(0.001), loss: 'categoricalCrossentropy' });
  return model;
}

/** Milliseconds a step of one `fit`. */
export async function timeFit(model, { x, y }) {
  const begun = performance.now();
  await model.fit(x, y, { batchSize: texts, epochs: 1, shuffle: false, verbose: 0, yieldEvery: 'never' });
  return ((performance.now() - begun) * texts) / x.shape[0];
}

export const ours = {
  [`LoRA, r = ${rank}`]: () =>
    embedding({
      inputDim: V,
      outputDim: D,
      loraRank: rank,
      loraInit: 'sparse',
      optimizer: adamw({ learningRate: 0.001 }),
    }),
  'rows in full': () => embedding({ inputDim: V, outputDim: D, optimizer: adamw({ learningRate: 0.001 }) }),
};

export async function measureTfjs(report) {
  const { backend, version } = await useBestBackend();
  const against = `tf.layers.embedding (tfjs ${tf.version.tfjs}, ${backend} backend ${version})`;
  report.section(
    'Layers of TensorFlow.js',
    `${about}. Milliseconds a step of \`model.fit\`; tfjs trains the rows in full, since it has no LoRA.`,
  );
  const [many, few] = [range(12), range(6)].map((rounds) => [...rounds].map((round) => makeTexts(round)));
  const models = Object.values(ours).map((make) => classifier(make()));
  const stock = classifier(tf.layers.embedding({ inputDim: V, outputDim: D }));
  const subjects = [...models, stock].map((model) => (round) => timeFit(model, few[round]));
  const times = await takeTurns(subjects, { rounds: 5, warmUp: 1 });
  Object.keys(ours).forEach((name, i) => {
    report.speedRatio(`a step of model.fit, ${name}`, against, times[i], times.at(-1), { atLeast: 100 });
  });
  stock.dispose();
  // What is left of a step without the embedding.
  const rest = classifier(null);
  const vectors = many.map(({ y }) => ({ x: tf.randomNormal([stepsPerFit * texts, tokens, D]), y }));
  const alone = await takeTurns(
    [...models.map((model) => (round) => timeFit(model, many[round])), (round) => timeFit(rest, vectors[round])],
    { rounds: 10, warmUp: 2 },
  );
  Object.keys(ours).forEach((name, i) => {
    report.timeRatio(`a step of model.fit, ${name}`, 'the same model over given vectors', alone[i], alone.at(-1));
  });
  for (const model of [...models, rest]) model.dispose();
}

/** The layer in models of tfjs: sequential and functional, trained, saved, loaded, trained on. */
import type { io, layers, LayersModel, Optimizer, SymbolicTensor, Tensor } from '@tensorflow/tfjs';
import { afterEach, expect, test, vi } from 'vitest';
import { tf } from '../load.ts';
import { onEachBackend } from '../testing/backends.ts';
import { embedding, type Embedding } from './layer.ts';
import type { EmbeddingOptions } from './options.ts';

const options: EmbeddingOptions = { inputDim: 10, outputDim: 4 };
const x = (): Tensor => tf.tensor2d([[1, 2, 2], [9, 0, 9]], undefined, 'int32'); // prettier-ignore
const y = (): Tensor => tf.tensor2d([[1], [0]]);

function classifier(layer: Embedding): LayersModel {
  const model = tf.sequential({ layers: [layer, tf.layers.flatten(), tf.layers.dense({ units: 1 })] });
  compile(model);
  return model;
}

function compile(model: LayersModel, optimizer = tf.train.adam(0.05) as Optimizer): void {
  model.compile({ loss: 'meanSquaredError', optimizer });
}

async function fit(model: LayersModel, epochs: number): Promise<number[]> {
  const { history } = await model.fit(x(), y(), { epochs, verbose: 0 });
  return history.loss as number[];
}

/** Through what is written to disk, bytes and JSON. */
async function reloaded(model: LayersModel): Promise<LayersModel> {
  let saved!: io.ModelArtifacts;
  await model.save(
    tf.io.withSaveHandler((artifacts) => {
      saved = JSON.parse(JSON.stringify({ ...artifacts, weightData: null })) as io.ModelArtifacts;
      saved.weightData = artifacts.weightData!;
      return Promise.resolve({ modelArtifactsInfo: { dateSaved: new Date(0), modelTopologyType: 'JSON' } });
    }),
  );
  const loaded = await tf.loadLayersModel(tf.io.fromMemory(saved));
  // Goes down from wherever it is, unlike Adam.
  compile(loaded, tf.train.sgd(0.01));
  return loaded;
}

const layerOf = (model: LayersModel): Embedding => model.layers.find((layer) => 'loraRank' in layer) as Embedding;
const valuesOf = (layer: Embedding): number[][] => layer.getWeights().map((weight) => [...weight.dataSync()]);
const predicted = (model: LayersModel): number[] => [...(model.predict(x()) as Tensor).dataSync()];

/** Without what is null or undefined, which JSON and tfjs mix. */
const given = (config: unknown): unknown =>
  JSON.parse(JSON.stringify(config, (_, value: unknown) => value ?? undefined));

function summaryOf(model: LayersModel): string[] {
  const lines: string[] = [];
  model.summary(undefined, undefined, (line) => lines.push(String(line)));
  return lines.filter((line) => line.includes('params:'));
}

/** What is warned of, and then not printed. */
const listen = () => vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
afterEach(() => {
  vi.restoreAllMocks();
});

onEachBackend(() => {
  test('a sequential model trains, and leaves no tensors behind', async () => {
    const model = classifier(embedding({ ...options, inputLength: 3 }));
    const losses = await fit(model, 40);
    expect(losses.at(-1)).toBeLessThan(0.05 * losses[0]!);
    const { numTensors } = tf.memory();
    await fit(model, 5);
    tf.dispose(model.predict(x()));
    // x and y.
    expect(tf.memory().numTensors - numTensors).toBe(3);
  });

  test('a functional model trains, with one layer twice', async () => {
    const layer = embedding(options);
    const [left, right] = [0, 1].map(() => tf.input({ shape: [3], dtype: 'int32' }));
    const twice = [left!, right!].map((input) => layer.apply(input) as SymbolicTensor);
    const flat = tf.layers.flatten().apply(tf.layers.add().apply(twice)) as SymbolicTensor;
    const model = tf.model({
      inputs: [left!, right!],
      outputs: tf.layers.dense({ units: 1 }).apply(flat) as SymbolicTensor,
    });
    compile(model);
    const before = valuesOf(layer)[0]!;
    const { history } = await model.fit([x(), tf.tensor2d([[3, 3, 3], [4, 4, 2]], undefined, 'int32')], y(), { epochs: 30, verbose: 0 }); // prettier-ignore
    expect(history.loss!.at(-1)).toBeLessThan(0.1 * Number(history.loss![0]));
    const moved = valuesOf(layer)[0]!.map((value, i) => value !== before[i]);
    const rows = Array.from({ length: 10 }, (_, row) => moved.slice(4 * row, 4 * row + 4).some(Boolean));
    expect(rows).toEqual([true, true, true, true, true, false, false, false, false, true]);
  });

  test('LoRA trains A and B, W stays; counts are as in Keras', async () => {
    const layer = embedding({ inputDim: 10, outputDim: 16, inputLength: 3 });
    const model = classifier(layer);
    expect(summaryOf(model)).toEqual(['Total params: 209', 'Trainable params: 209', 'Non-trainable params: 0']);
    layer.enableLora(4);
    compile(model);
    expect([layer.trainableWeights.length, layer.nonTrainableWeights.length]).toEqual([2, 1]);
    expect(summaryOf(model)).toEqual(['Total params: 313', 'Trainable params: 153', 'Non-trainable params: 160']);
    expect(layer.countParams()).toBe(264);
    const [a, b, w] = valuesOf(layer);
    expect(Math.max(...a!.map(Math.abs))).toBeLessThanOrEqual(Math.sqrt(6 / 10));
    expect(new Set(b)).toEqual(new Set([0]));
    await fit(model, 5);
    const [aAfter, bAfter, wAfter] = valuesOf(layer);
    expect(wAfter).toEqual(w);
    expect(aAfter).not.toEqual(a);
    expect(bAfter).not.toEqual(b);
  });

  test('with init sparse a row that no example touched stays its base row', async () => {
    const layer = embedding({ ...options, inputLength: 3, loraRank: 2, loraInit: 'sparse' });
    const model = classifier(layer);
    const before = layer.embeddings.arraySync();
    await fit(model, 5);
    const after = layer.embeddings.arraySync();
    const same = after.map((row, i) => JSON.stringify(row) === JSON.stringify(before[i]));
    expect(same).toEqual([false, false, false, true, true, true, true, true, true, false]);
  });

  test.each([{}, { loraRank: 2, loraAlpha: 5 }, { loraRank: 1, loraInit: 'sparse' }] as EmbeddingOptions[])(
    'a saved model predicts the same and goes on training: %o',
    async (more) => {
      const model = classifier(embedding({ ...options, ...more, inputLength: 3, maskZero: false, name: 'words' }));
      await fit(model, 5);
      const loaded = await reloaded(model);
      expect(predicted(loaded)).toEqual(predicted(model));
      expect(given(layerOf(loaded).getConfig())).toEqual(given(layerOf(model).getConfig()));
      expect(valuesOf(layerOf(loaded))).toEqual(valuesOf(layerOf(model)));
      const before = valuesOf(layerOf(loaded));
      const losses = await fit(loaded, 20);
      expect(losses.at(-1)).toBeLessThan(losses[0]!);
      const trained = layerOf(loaded).trainableWeights.length;
      valuesOf(layerOf(loaded)).forEach((values, i) => {
        if (i < trained) expect(values).not.toEqual(before[i]);
        else expect(values).toEqual(before[i]);
      });
    },
  );

  test('an adapter that was enabled late, over quantised rows, is saved too', async () => {
    const layer = embedding({ ...options, inputLength: 3, name: 'late' });
    const model = classifier(layer);
    layer.quantize('int4');
    layer.enableLora(2, { loraAlpha: 3 });
    compile(model);
    await fit(model, 3);
    const loaded = await reloaded(model);
    expect(layerOf(loaded).quantization).toBe('int4');
    expect(layerOf(loaded).loraAlpha).toBe(3);
    expect(predicted(loaded)).toEqual(predicted(model));
    const losses = await fit(loaded, 10);
    expect(losses.at(-1)).toBeLessThan(losses[0]!);
  });

  test('trainable off and on leaves the base frozen, on the layer and on the model', async () => {
    const layer = embedding({ ...options, inputLength: 3, loraRank: 2 });
    const model = classifier(layer);
    layer.trainable = false;
    expect([layer.trainableWeights.length, layer.nonTrainableWeights.length]).toEqual([0, 3]);
    layer.trainable = true;
    model.trainable = false;
    model.trainable = true;
    expect([layer.trainableWeights.length, layer.nonTrainableWeights.length]).toEqual([2, 1]);
    compile(model);
    const [, , w] = valuesOf(layer);
    await fit(model, 2);
    expect(valuesOf(layer)[2]).toEqual(w);
  });

  test('a layer with trainable false stays so, and so does LoRA on it', async () => {
    const layer = embedding({ ...options, inputLength: 3, trainable: false });
    const model = classifier(layer);
    layer.enableLora(2);
    compile(model);
    expect(layer.trainableWeights).toEqual([]);
    const before = valuesOf(layer);
    await fit(model, 2);
    expect(valuesOf(layer)).toEqual(before);
  });

  test('activity and embeddings regularizers are part of the loss of fit', async () => {
    const regularizer = tf.regularizers.l2({ l2: 0.5 });
    const weights = Array.from({ length: 10 }, (_, row) => [row, row, row, row]);
    const loss = async (more: EmbeddingOptions): Promise<number> => {
      const dense = tf.layers.dense({ units: 1, kernelInitializer: 'zeros' });
      const model = tf.sequential({
        layers: [embedding({ ...options, weights, inputLength: 3, ...more }), tf.layers.flatten(), dense],
      });
      model.compile({ loss: 'meanSquaredError', optimizer: tf.train.sgd(1e-3) });
      return (await fit(model, 1))[0]!;
    };
    const plain = await loss({});
    // Rows 1, 2, 2, 9, 0, 9 four wide: half the sum of squares, over a batch of 2.
    expect((await loss({ activityRegularizer: regularizer })) - plain).toBeCloseTo(
      (0.5 * 4 * (1 + 4 + 4 + 81 + 81)) / 2,
      2,
    );
    // All rows: 0² + … + 9² = 285.
    expect((await loss({ embeddingsRegularizer: regularizer })) - plain).toBeCloseTo(0.5 * 4 * 285, 2);
  });

  test('masks go to layers that take them, and make others throw', () => {
    const masked = (): Embedding => embedding({ ...options, maskZero: true });
    const recurrent = tf.sequential({ layers: [masked(), tf.layers.lstm({ units: 2 })] });
    const outputs = (...ids: number[][]): number[][] =>
      (recurrent.predict(tf.tensor2d(ids, undefined, 'int32')) as Tensor).arraySync() as number[][];
    const [[padded, full], [short]] = [outputs([1, 2, 0], [1, 2, 2]), outputs([1, 2])];
    padded!.forEach((value, i) => expect(value).toBeCloseTo(short![i]!, 6));
    full!.forEach((value, i) => expect(value).not.toBeCloseTo(short![i]!, 6));
    const [output, mask] = [masked().apply(x()) as Tensor, masked().computeMask(x())];
    expect(() => tf.layers.globalMaxPooling1d().computeMask(output, mask)).toThrow('does not support masking');
  });

  test('predict and fit, where tfjs would drop a mask without a word, throw too', async () => {
    const through = (...layers: layers.Layer[]): LayersModel => {
      const model = tf.sequential({ layers: [embedding({ ...options, maskZero: true, name: 'words' }), ...layers] });
      compile(model);
      return model;
    };
    const pooling = (): layers.Layer => tf.layers.globalMaxPooling1d({ name: 'pooling' });
    const lost = 'words: maskZero makes a mask, which layer "pooling" (GlobalMaxPooling1D) does not support';
    const { lstm, dense, dropout, activation } = tf.layers;
    for (const between of [
      [dense({ units: 2 })],
      [dropout({ rate: 0.1 }), dense({ units: 2 })],
      [lstm({ units: 2, returnSequences: true }), activation({ activation: 'relu' })],
    ]) {
      const model = through(...between, pooling());
      expect(() => model.predict(x())).toThrow(lost);
      await expect(model.fit(x(), tf.zeros([2, 2]), { verbose: 0 })).rejects.toThrow(lost);
    }
    const used = through(lstm({ units: 2 }), tf.layers.reshape({ targetShape: [2, 1] }), pooling());
    expect((used.predict(x()) as Tensor).shape).toEqual([2, 1]);
    const unmasked = tf.sequential({ layers: [embedding(options), pooling()] });
    expect((unmasked.predict(x()) as Tensor).shape).toEqual([2, 4]);
  });

  test('ids that are no int32 arrive uncast in a sequential model, and are refused or warned of', () => {
    const warn = listen();
    const model = classifier(embedding({ ...options, inputLength: 3, name: 'words' }));
    const [whole] = predicted(model);
    expect(warn).not.toHaveBeenCalled();
    expect(() => model.predict(tf.tensor2d([[1, Number.NaN, 2]]))).toThrow('words: id NaN at [0, 1] is no id');
    expect(() => model.predict(tf.tensor2d([[1, 10, 2]], undefined, 'int32'))).toThrow(
      'id 10 at [0, 1] is not in [0, 10)',
    );
    expect((model.predict(tf.tensor2d([[1, 2, 2.9]])) as Tensor).dataSync()[0]).toBe(whole);
    expect(warn.mock.calls.map(([text]) => String(text).slice(0, 48))).toEqual([
      'words: ids came as float32 and are cast to int32',
    ]);
  });
});

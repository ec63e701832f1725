import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkJob, readJob } from './read.ts';

const minimal = () => ({
  name: 'intents',
  tables: { words: { file: 'words.safetensors' } },
  data: { train: { file: 'train.jsonl' } },
  features: { text: { table: 'words', column: 'text', tokens: { vocabulary: 'words.txt' } } },
  objective: { type: 'classification', input: 'text', label: 'intent' },
  adapters: { words: { rank: 4 } },
  optimizer: { type: 'adamw', learningRate: 0.01 },
});

test('merge keys of YAML copy fields, and an override of the copy leaves the other as it is', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'finetable-'));
  const file = join(folder, 'job.yaml');
  const rest: Record<string, unknown> = { ...minimal(), features: undefined };
  rest['objective'] = { ...minimal().objective, input: ['text', 'more'] };
  const lines = [
    ...Object.entries(rest).flatMap(([name, value]) => (value ? [`${name}: ${JSON.stringify(value)}`] : [])),
    'features:',
    '  text: &text',
    '    { table: words, column: text, tokens: { vocabulary: words.txt, pattern: a+ }, weighting: { type: sif, a: 0.1 } }',
    '  more: { <<: *text, column: more }',
  ];
  await writeFile(file, lines.join('\n'));
  const { job } = await readJob(file, ['features.more.weighting.a=0.5']);
  expect(job.features['text']).toMatchObject({ column: 'text', tokens: { pattern: 'a+' }, weighting: { a: 0.1 } });
  expect(job.features['more']).toEqual({ ...job.features['text'], column: 'more', weighting: { type: 'sif', a: 0.5 } });
  await rm(folder, { recursive: true });
});

test('every default is written out', () => {
  expect(checkJob(minimal())).toEqual({
    name: 'intents',
    tables: { words: { file: 'words.safetensors', placement: 'auto', sortedByFrequency: false } },
    placement: { memory: '75%', device: 'cpu', software: false },
    data: {
      train: { file: 'train.jsonl' },
      batchSize: 256,
      workers: 1,
      shuffle: true,
      cache: '256MiB',
      prefetchBytes: '256MiB',
      badRows: 'error',
    },
    negatives: {},
    labels: {},
    numbers: {},
    features: {
      text: {
        table: 'words',
        column: 'text',
        pooling: 'mean',
        tokens: { vocabulary: 'words.txt', lowercase: true, unknown: 'drop' },
      },
    },
    objective: {
      type: 'classification',
      input: 'text',
      label: 'intent',
      activation: 'softmax',
      hidden: [],
      labelSmoothing: 0,
      normalize: false,
    },
    adapters: { words: { kind: 'lora', rank: 4, rsLora: false } },
    baseline: 'none',
    optimizer: {
      type: 'adamw',
      learningRate: 0.01,
      mode: 'exact',
      beta1: 0.9,
      beta2: 0.999,
      epsilon: 1e-8,
      weightDecay: 0,
      stateDtype: 'f32',
    },
    train: {
      epochs: 1,
      budget: {},
      accumulateBatches: 1,
      seed: 0,
      evaluateEvery: { epochs: 1 },
      metric: 'loss',
      metrics: [],
      sliceBy: [],
      logEverySteps: 50,
      checkpointEverySteps: 1000,
      keepCheckpoints: 2,
      prefetch: true,
      tensorboard: false,
    },
  });
});

test('a checked job is a job: checking it again changes nothing', () => {
  const once = checkJob(minimal());
  expect(checkJob(structuredClone(once))).toEqual(once);
});

type Change = (job: ReturnType<typeof minimal> & Record<string, unknown>) => void;
const set =
  (path: string, value: unknown): Change =>
  (job) => {
    const keys = path.split('.');
    let at = job as Record<string, unknown>;
    for (const key of keys.slice(0, -1)) at = at[key] as Record<string, unknown>;
    at[keys.at(-1)!] = value;
  };

describe('a wrong field is named, with what was found and what is allowed', () => {
  const cases: [Change, string][] = [
    [set('train', { accumulateBatches: 0 }), 'train.accumulateBatches: found 0; allowed: 1 or more'],
    [set('train', { evaluateEvery: { seconds: 0 } }), 'train.evaluateEvery.seconds: found 0; allowed: more than 0'],
    [
      set('train', { evaluateEvery: { step: 5 } }),
      'train.evaluateEvery.step: unknown field; did you mean "steps"? Known here: steps, epochs, seconds',
    ],
    [set('train', { evaluateEvery: { steps: 5, epochs: 1 } }), 'train.evaluateEvery: allowed: one of steps, epochs'],
    [set('train', { evaluateEvery: {} }), 'train.evaluateEvery: allowed: one of steps, epochs'],
    [set('train', { budget: { tokens: 1.5 } }), 'train.budget.tokens: found 1.5; allowed: an integer'],
    [set('train', { tensorboard: 'yes' }), 'train.tensorboard: found "yes"; allowed: a boolean'],
    [
      set('trian', {}),
      'trian: unknown field; did you mean "train"? Known here: name, output, tables, placement, data, ',
    ],
    [set('data.batchsize', 3), 'data.batchsize: unknown field; did you mean "batchSize"? Known here: train, '],
    [
      set('adapters.words.ranks', 3),
      'adapters.words.ranks: unknown field; did you mean "rank"? Known here: kind, rank, ',
    ],
    [
      set('adapters.words', { kind: 'dense', rank: 3 }),
      'adapters.words.rank: unknown field. Known here: kind, learningRate, weightDecay',
    ],
    [set('optimizer.lr', 3), 'optimizer.lr: unknown field. Known here: type, learningRate'],
    [set('optimizer', { type: 'sgd', learningRate: 1, beta1: 0.9 }), 'optimizer.beta1: unknown field'],
    [set('features.text.tokens.lower', true), 'features.text.tokens.lower: unknown field; did you mean "lowercase"?'],
    [set('data.batchSize', 0), 'data.batchSize: found 0; allowed: 1 or more'],
    [set('data.batchSize', 2.5), 'data.batchSize: found 2.5; allowed: an integer'],
    [set('data.batchSize', '12'), 'data.batchSize: found "12"; allowed: a number'],
    [set('adapters.words.rank', true), 'adapters.words.rank: found true; allowed: a number'],
    [set('adapters.words.alpha', NaN), 'adapters.words.alpha: found NaN; allowed: a finite number'],
    [set('optimizer.learningRate', Infinity), 'optimizer.learningRate: found Infinity; allowed: a finite number'],
    [set('adapters.words.grown', 'dense'), 'adapters.words.grown: found "dense"; allowed: "tied" or an object'],
    [
      set('adapters.words.groups', [{ name: 'new', rank: 2 }]),
      'adapters.words.groups.0.rows: missing; allowed: an object or an array',
    ],
    [set('adapters.words.alpha', 0), 'adapters.words.alpha: found 0; allowed: more than 0'],
    [
      set('optimizer.type', 'lion'),
      'optimizer.type: found "lion"; allowed: "sgd", "adagrad", "rowwise-adagrad", "adam", "adamw", "rowwise-adam"',
    ],
    [set('optimizer.beta1', 1), 'optimizer.beta1: found 1; allowed: less than 1'],
    [set('tables.words.file', undefined), 'tables.words.file: missing; allowed: a string'],
    [
      set('tables.words.placement', 'disk'),
      'tables.words.placement: found "disk"; allowed: "auto", "mapped", "ram", "webgpu", "tfjs"',
    ],
    [set('tables.words.split', 'dim'), 'tables.words.split: found "dim"; allowed: "row", "table", "column"'],
    [
      set('tables.words', { file: 'x', placement: 'ram', split: 'row' }),
      'tables.words.split: goes with placement "auto"',
    ],
    [set('tables.words.frequencies', { zipf: -1 }), 'tables.words.frequencies.zipf: found -1; allowed: 0 or more'],
    [set('placement', { memory: '8 gigs' }), 'placement.memory: "8 gigs" is not a size; allowed: a number of'],
    [set('placement', { memory: '101%' }), 'placement.memory: "101%" is not a size; allowed: '],
    [set('placement', { cache: -1 }), 'placement.cache: -1 is not a size; allowed: '],
    [set('placement', { memory: true }), 'placement.memory: found true; allowed: a number'],
    [set('placement', { device: 'cuda' }), 'placement.device: found "cuda"; allowed: "cpu", "auto", "gpu"'],
    [set('placement', { deviceMemory: '1GB' }), 'placement.deviceMemory: goes with placement.device "auto" or "gpu"'],
    [
      set('placement', { device: 'gpu', deviceMemory: '75%' }),
      'placement.deviceMemory: "75%" is not a size; allowed: a number of bytes',
    ],
    [set('placement', { software: true }), 'placement.software: goes with a table whose placement is "webgpu"'],
    [
      set('tables.words.placement', [{ home: 'webgpu', rows: 1 }, { home: 'tfjs' }]),
      'tables: on "webgpu" and on "tfjs"; allowed: devices of one kind',
    ],
    [set('placement', { ram: 1 }), 'placement.ram: unknown field. Known here: memory'],
    [
      set('tables.words.placement', [{ home: 'ram', rows: 'many' }]),
      'tables.words.placement.0.rows: found "many"; allowed: a number',
    ],
    [set('name', '../up'), 'name: found "../up"; allowed: letters, digits'],
    [set('features.text.table', 'other'), 'features.text.table: no table "other"; there are "words"'],
    [set('objective.input', 'txt'), 'objective.input: no feature "txt"; there are "text"'],
    [set('objective', { type: 'tfjs', module: './model.mjs' }), ''],
    [set('objective', { type: 'tfjs', module: './model.mjs', labels: ['intent'], options: { units: [8, 4] } }), ''],
    [set('objective', { type: 'tfjs' }), 'objective.module: missing; allowed: a string'],
    [
      set('objective', { type: 'tfjs', module: 'm.mjs', input: 'text' }),
      'objective.input: unknown field. Known here: type, module, labels, classes, options',
    ],
    [
      set('objective', { type: 'tfjs', module: 'm.mjs', labels: ['a'], classes: { b: ['x', 'y'] } }),
      'objective.classes.b: no label "b"; there are "a"',
    ],
    [set('adapters.other', { rank: 2 }), 'adapters.other: no table "other"'],
    [set('tables.more', { file: 'x' }), 'tables.more: no feature reads this table'],
    [set('train', { patience: 2 }), 'train.patience: early stopping needs data.validation'],
    [set('optimizer', { type: 'adagrad', learningRate: 1 }), ''],
    [set('optimizer', { type: 'sgd', learningRate: 1, momentum: 0.9, decay: 'decoupled', weightDecay: 0.1 }), ''],
    [set('optimizer', { type: 'sgd', learningRate: 1, momentum: 1 }), 'optimizer.momentum: found 1'],
    [set('optimizer.schedule', { type: 'cosine', warmupSteps: 10 }), ''],
    [
      set('optimizer.schedule', { type: 'linear', warmupSteps: 10, totalSteps: 5 }),
      'optimizer.schedule.totalSteps: is below warmupSteps, 10',
    ],
    [set('adapters.words', { rank: 2, groups: [{ name: 'new', rows: { from: 5 }, kind: 'dense' }], dora: true }), ''],
    [
      set('adapters.words', { rank: 2, groups: [{ name: 'new', rows: [], kind: 'dense' }] }),
      'adapters.words.groups.0.rows',
    ],
    [set('adapters.words', { rank: 2, dropout: 1 }), 'adapters.words.dropout: found 1'],
    [set('train', { clipNorm: 0 }), 'train.clipNorm: found 0'],
    [set('features.text.ngrams', {}), 'features.text: tokens and ngrams exclude each other'],
    [set('features.text.tokens', { tokenizer: 'tokenizer.json', maxTokens: 128, unknown: 'keep' }), ''],
    [set('features.text.tokens', {}), 'features.text.tokens: allowed: either vocabulary or tokenizer'],
    [set('features.text.tokens.tokenizer', 't.json'), 'features.text.tokens: allowed: either vocabulary or tokenizer'],
    [set('features.text.tokens.maxTokens', 3), ''],
    [
      set('features.text.tokens', { tokenizer: 't.json', split: 'character' }),
      'features.text.tokens.split: goes with a vocabulary, not with a tokenizer',
    ],
    [
      set('features.text.tokens', {
        vocabulary: { minCount: 2 },
        standardize: 'lower',
        split: 'whitespace',
        ngrams: [1, 2],
        outOfVocabulary: { rows: 2 },
        maskToken: '',
        maxTokens: 20,
        pad: true,
      }),
      '',
    ],
    [set('features.text.tokens.vocabulary', { minimum: 2 }), 'features.text.tokens.vocabulary.minimum: unknown field'],
    [set('features.text.tokens.pad', true), 'features.text.tokens.pad: goes with maxTokens'],
    [set('features.text.tokens.split', 'words'), 'features.text.tokens.split: found "words"; allowed: "whitespace"'],
    [
      set('features.text', {
        table: 'words',
        column: 'city',
        lookup: { vocabulary: {}, outOfVocabulary: { rows: 0 } },
      }),
      'features.text.lookup.outOfVocabulary.rows: found 0; allowed: 1 or more',
    ],
    [set('features.text', { table: 'words', column: 'city', lookup: {} }), 'features.text.lookup.vocabulary: missing'],
    [set('features.text', { table: 'words', column: 'city', hash: { crossWith: ['device'], seed: 7 } }), ''],
    [set('features.text.hash', {}), 'features.text: tokens and hash exclude each other'],
    [set('features.text.weighting', { type: 'sif', a: 1e-3 }), ''],
    [set('features.text.weighting', { type: 'sif', a: 0 }), 'features.text.weighting.a: found 0; allowed: more than 0'],
    [
      set('features.text.weighting', { type: 'idf' }),
      'features.text.weighting.type: found "idf"; allowed: "sif", "position"',
    ],
    [
      set('features.text', { table: 'words', column: 'ids', weighting: { type: 'sif', counts: 'words.tsv' } }),
      'features.text.weighting.counts: counts by word go with a vocabulary; allowed: .npy',
    ],
    [set('features.text.weighting', { type: 'position', decay: 1.5 }), 'features.text.weighting.decay: found 1.5'],
    [set('data.badRows', { skip: 10 }), ''],
    [set('data.badRows', 'skip'), 'data.badRows: found "skip"; allowed: "error"'],
    [set('labels', { intent: { column: 'class', default: 'none' } }), ''],
    [set('labels', { other: {} }), 'labels.other: the objective does not read this label'],
    [
      set('labels', { intent: { type: 'number' } }),
      'labels.intent.type: found "number"; allowed for classification: "class"',
    ],
    [set('numbers', { age: { column: 'age' } }), 'numbers.age: the objective does not read these numbers'],
    [
      set('numbers', { age: { column: ['a', 'b'], normalize: { mean: [1], deviation: [1, 2] } } }),
      'numbers.age.normalize.mean: found 1 numbers; allowed: 2, one for each column',
    ],
    [set('weight', { column: 'w', default: -1 }), 'weight.default: found -1; allowed: 0 or more'],
    [
      set('features.text.tokens.unknown', 'keep'),
      'features.text.tokens.unknown: found "keep", which goes with a tokenizer',
    ],
    [
      set('features.text.tokens', { tokenizer: 't.json', lowercase: true }),
      'features.text.tokens.lowercase: goes with a vocabulary, not with a tokenizer',
    ],
  ];
  test.each(cases.map(([change, message]) => ({ change, message })))('$message', ({ change, message }) => {
    const job = minimal() as ReturnType<typeof minimal> & Record<string, unknown>;
    change(job);
    if (message === '') return void expect(() => checkJob(job)).not.toThrow();
    expect(() => checkJob(job, 'job.yaml')).toThrow(`job.yaml: ${message}`);
  });
});

describe('job files', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'job-'));
  });
  afterAll(() => rm(folder, { recursive: true }));
  const write = async (text: string): Promise<string> => {
    const path = join(folder, 'job.yaml');
    await writeFile(path, text);
    return path;
  };

  test('YAML and overrides', async () => {
    const path = await write(JSON.stringify(minimal()));
    const { job, folder: found } = await readJob(path, [
      'train.epochs=5',
      'adapters.words.rank=2',
      'objective.normalize=true',
    ]);
    expect(job.train.epochs).toBe(5);
    expect(job.adapters.words).toMatchObject({ rank: 2 });
    expect(job.objective).toMatchObject({ normalize: true });
    expect(found).toBe(folder);
  });

  test.each([
    ['name: a\nname: b', /job\.yaml: Map keys must be unique/],
    ['a: [1', /job\.yaml: .*line 1/],
    ['- 1', /a job is a mapping/],
    ['', /found nothing/],
    [
      `a: &a [x, x]\n${[...'bcdefgh'].map((name, i) => `${name}: &${name} [${Array(9).fill(`*${'abcdefg'[i]!}`).join(', ')}]\n`).join('')}`,
      /job\.yaml: Excessive alias count/,
    ],
  ])('%j is refused', async (text, message) => {
    await expect(readJob(await write(text))).rejects.toThrow(message);
  });

  test.each([
    ['epochs', /allowed: field.path=value/],
    ['=3', /allowed: field.path=value/],
    ['name.x=3', /"name" is "intents", which has no fields/],
    ['__proto__.x=3', /allowed/],
    ['train.epochs=many', /train\.epochs: found "many"; allowed: a number/],
  ])('--set %s is refused', async (override, message) => {
    await expect(readJob(await write(JSON.stringify(minimal())), [override])).rejects.toThrow(message);
  });

  test('a missing file', async () => {
    await expect(readJob(join(folder, 'none.yaml'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });
});

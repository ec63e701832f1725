/** A first job file with comments, for somebody to go on from. */
import { basename } from 'node:path';

export interface FirstJob {
  readonly table: { readonly file: string; readonly rows: number; readonly dim: number; readonly dtype: string };
  /** One word a line beside the table. */
  readonly words: string | null;
  readonly train: { readonly file: string; readonly examples: number };
  readonly test: string | null;
  readonly input: Column;
  readonly goal: { readonly label: string } | { readonly target: Column };
  readonly rank: number;
  /** Where editors find the schema. */
  readonly schema: string;
}

export interface Column {
  readonly name: string;
  readonly holds: 'text' | 'ids';
}

/** The file's text. Paths are as they are given. */
export function firstJob({ table, words, train, test, input, goal, rank, schema }: FirstJob): string {
  const count = (n: number): string => n.toLocaleString('en-US');
  const tableName = named(basename(table.file).replace(/\..*$/, ''), 'table');
  const inputName = named(input.name, 'input');
  const targetName = 'target' in goal ? named(goal.target.name, 'target') : '';
  const feature = ({ name, holds }: Column): string => {
    const tokens = holds === 'ids' ? '' : `, tokens: { vocabulary: ${words === null ? '{}' : quoted(words)} }`;
    return `{ table: ${tableName}, column: ${quoted(name)}${tokens} }`;
  };
  const learnt = whatIsLearnt(inputName, targetName, goal);
  return `# yaml-language-server: $schema=${schema}
# finetable inspect shows every field of this job with its default, finetable plan what memory it takes, finetable train trains it.
name: ${named('label' in goal ? goal.label : targetName, 'first')}
tables:
  ${tableName}: { file: ${quoted(table.file)} } # ${count(table.rows)} rows of ${table.dim} dims, ${table.dtype}; never changed
data:
  # One in ten examples chooses the best epoch and is not learnt from.
  train: { file: ${quoted(train.file)}, split: { part: 0, parts: [90, 10] } } # of ${count(train.examples)} examples
  validation: { file: ${quoted(train.file)}, split: { part: 1, parts: [90, 10] } }
${test === null ? '  # test: { file: test.jsonl } # what finetable evaluate reads' : `  test: { file: ${quoted(test)} } # what finetable evaluate reads`}
  batchSize: ${batchSize(train.examples)}
features: # what is looked up in the table; several ids make one vector, their mean
  ${inputName}: ${feature(input)}
${'target' in goal ? `  ${targetName}: ${feature(goal.target)}\n` : ''}${learnt.objective}
adapters:
  ${tableName}: { rank: ${rank}, alpha: ${2 * rank} } # what is trained of the table: ${rank} numbers for each row that is touched, and ${rank} x ${table.dim} for all
optimizer: { type: adamw, learningRate: 0.003 } # try 0.001 and 0.01 too
train: { epochs: 10, patience: 2, seed: 1, ${learnt.metric} } # ends when two epochs in a row were no better
# baseline: frozen # the same without an adapter: what it has to beat
`;
}

function whatIsLearnt(input: string, target: string, goal: FirstJob['goal']): { objective: string; metric: string } {
  if ('label' in goal)
    return {
      objective: `# A linear classifier over the vectors; its learning rate is its own.\nobjective: { type: classification, input: ${input}, label: ${quoted(goal.label)}, learningRate: 0.01 }`,
      metric: 'metric: accuracy',
    };
  if (goal.target.holds === 'text')
    return {
      objective: `# Texts of a row are to be nearer to each other than to those of other rows.\nobjective: { type: contrastive, anchor: ${input}, positive: ${target}, maskDuplicates: true }`,
      metric: 'metrics: [recall@10], metric: recall@10',
    };
  return {
    objective: `# What belongs to the input is to be found among all rows of the table.\nobjective: { type: ranking, query: ${input}, target: ${target} }`,
    metric: 'metrics: [recall@20], metric: recall@20',
  };
}

/** A few hundred steps an epoch, where there are examples enough. */
const batchSize = (examples: number): number => (examples < 10_000 ? 64 : 256);

const named = (text: string, otherwise: string): string =>
  /^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/.test(text) ? text : otherwise;

const quoted = (text: string): string => (/^[A-Za-z][\w./-]*$/.test(text) ? text : JSON.stringify(text));

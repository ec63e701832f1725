/** `finetable init`: a first job file, from options, and from questions where a person is there to answer. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { FinetableError } from '@finetable/core';
import { checkOutput, writeFileAtomic } from '@finetable/formats';
import { openTable } from '@finetable/placement';
import type { Io } from '../io.ts';
import { columnsOf, type Columns } from './columns.ts';
import { firstJob, type Column } from './job-file.ts';

export interface InitOptions {
  readonly table?: string;
  readonly train?: string;
  readonly test?: string;
  readonly input?: string;
  readonly label?: string;
  readonly target?: string;
  readonly rank: number;
  readonly overwrite?: boolean;
}

/** Answers a question; null where nobody is there. */
export type Ask = ((question: string) => Promise<string>) | null;

/** @throws INVALID_ARGUMENT naming what is missing and what there is; NOT_FOUND, EXISTS and what tables and data throw */
export async function init(path: string, options: InitOptions, io: Io): Promise<void> {
  const people = process.stdin.isTTY && io.stderr.isTTY;
  const lines = people ? createInterface({ input: process.stdin, output: io.stderr }) : null;
  try {
    await writeFirstJob(path, options, lines && ((question) => lines.question(question, { signal: io.signal })), io);
  } finally {
    lines?.close();
  }
}

export async function writeFirstJob(path: string, options: InitOptions, ask: Ask, io: Io): Promise<void> {
  await checkOutput(path, { inputs: [], overwrite: options.overwrite });
  const tableFile = options.table ?? (await answer(ask, '--table', 'The table (.safetensors, .npy): '));
  const table = await openTable(tableFile);
  const { rows, dim, dtype } = table;
  table.close();
  const trainFile =
    options.train ?? (await answer(ask, '--train', 'Examples to learn from (.jsonl, .csv, .parquet, …): '));
  const columns = await columnsOf(trainFile, io.signal);
  const there = [...columns.holds].map(([name, holds]) => `${name} (${holds})`).join(', ');
  const inputName =
    options.input ?? (await answer(ask, '--input', `What is looked up, of the columns ${there}: `, there));
  const input = columnIn(columns, inputName, trainFile);
  const { target } = options;
  let { label } = options;
  if (label === undefined && target === undefined)
    label = await answer(ask, '--label (a class) or --target (what belongs to the input)', `The class that is learnt, of the columns ${there} (pairs: --target): `, there); // prettier-ignore
  const goal = label === undefined ? { target: columnIn(columns, target!, trainFile) } : { label: columnIn(columns, label, trainFile).name }; // prettier-ignore

  const folder = dirname(resolve(path));
  const near = (file: string): string => relative(folder, resolve(file)).replaceAll(sep, '/');
  const words = join(dirname(tableFile), 'words.txt');
  const schema = createRequire(import.meta.url).resolve('@finetable/trainer/job.schema.json');
  const text = firstJob({
    table: { file: near(tableFile), rows, dim, dtype },
    words: existsSync(words) ? near(words) : null,
    train: { file: near(trainFile), examples: columns.examples },
    test: options.test === undefined ? null : near(options.test),
    ...{ input, goal, rank: options.rank, schema: near(schema) },
  });
  await writeFileAtomic(path, new TextEncoder().encode(text));
  io.stdout.write(
    `${path}: a job of ${columns.examples.toLocaleString('en-US')} examples; next: finetable train ${path}\n`,
  );
}

async function answer(ask: Ask, option: string, question: string, there = ''): Promise<string> {
  const given = ask === null ? '' : (await ask(question)).trim();
  if (given !== '') return given;
  const columns = there === '' ? '' : `; the columns there are: ${there}`;
  throw new FinetableError('INVALID_ARGUMENT', `${option} is missing${columns}. Without a terminal nobody is asked`, {
    option,
  });
}

function columnIn({ holds }: Columns, name: string, file: string): Column {
  const found = holds.get(name);
  if (found !== undefined) return { name, holds: found };
  throw new FinetableError('INVALID_ARGUMENT', `${file}: no column "${name}"; there are: ${[...holds.keys()].join(', ')}`, { file, column: name }); // prettier-ignore
}

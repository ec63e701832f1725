/**
 * The commands and their options. Everything a command needs is imported when it runs, so that `--help` and errors of
 * usage come at once.
 */
import { readFileSync } from 'node:fs';
import type { RowDtype } from '@finetable/core';
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { completion, shells, type Shell } from './completion.ts';
import { exitStatus, reportFailure, writeJson } from './failure.ts';
import type { InitOptions } from './init/command.ts';
import type { Io } from './io.ts';

/**
 * Runs one command line.
 * @param argv without node and script
 * @returns the exit status: 0 done, 1 failed, 2 bad input, 130 interrupted
 */
export async function run(argv: readonly string[], io: Io): Promise<number> {
  const json = argv.includes('--json');
  try {
    await createProgram(io).parseAsync([...argv], { from: 'user' });
    return exitStatus.done;
  } catch (error) {
    if (!(error instanceof CommanderError)) return reportFailure(error, io, json);
    // Commander has told it already.
    if (error.exitCode === 0) return exitStatus.done;
    const message = error.message.replace(/^error: /, '');
    if (json) writeJson(io, { error: { code: 'INVALID_ARGUMENT', message, details: {} } });
    return exitStatus.badInput;
  }
}

function createProgram(io: Io): Command {
  const program = new Command('finetable')
    .description('LoRA fine-tuning for large embedding tables')
    .version(readVersion(), '--version', 'print the version')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      outputError: (text, write) => write(text.replace(/^error: /, 'finetable: ')),
      getOutHelpWidth: () => io.stdout.columns ?? 100,
      getErrHelpWidth: () => io.stderr.columns ?? 100,
    })
    .addHelpText(
      'after',
      '\nExit status: 0 done, 1 failed, 2 bad input, 130 interrupted.\nFINETABLE_DEBUG=1 shows where an error arose.',
    );
  addInit(program, io);
  addTrain(program, io);
  addBatch(program, io);
  addCompare(program, io);
  addPlan(program, io);
  addEvaluate(program, io);
  addInspect(program, io);
  addVocabulary(program, io);
  addConvert(program, io);
  addMerge(program, io);
  addUnmerge(program, io);
  addNearest(program, io);
  addEmbed(program, io);
  addDoctor(program, io);
  addCompletion(program, io);
  return program;
}

function addInit(program: Command, io: Io): void {
  program
    .command('init')
    .description('write a first job file with comments; asks for what the options do not say')
    .argument('[job]', 'file to write', 'job.yaml')
    .option('--table <file>', 'the table, .safetensors or .npy; other formats: finetable convert')
    .option('--train <file>', 'examples to learn from: .jsonl, .csv, .tsv, .parquet, .arrow')
    .option('--test <file>', 'examples for finetable evaluate')
    .option('--input <column>', 'what is looked up in the table: texts, ids or lists of ids')
    .addOption(new Option('--label <column>', 'learn this class of an example').conflicts('target'))
    .option('--target <column>', 'learn which of these texts or ids belongs to the input')
    .option('--rank <n>', 'of the adapter', positiveInteger, 8)
    .option('--overwrite', 'replace the file where it is there')
    .addHelpText(
      'after',
      examples(
        'finetable init',
        'finetable init --table vectors.safetensors --train train.jsonl --input text --label intent',
        'finetable init next.yaml --table items.npy --train clicks.parquet --input history --target next',
      ),
    )
    .action(async (job: string, options: InitOptions) => (await import('./init/command.ts')).init(job, options, io));
}

function addTrain(program: Command, io: Io): void {
  program
    .command('train')
    .description('train a job and write its run folder')
    .argument('<job>', 'job file, YAML or JSON')
    .option('--set <path=value>', 'override a field of the job; may be repeated', append, [])
    .addOption(new Option('--resume', 'go on from the last checkpoint').conflicts('overwrite'))
    .option('--overwrite', 'start again where the folder holds a run')
    .option('--run <folder>', "the run's folder (default: the job's output, or runs/<name> beside the job file)")
    .option('--threads <n>', 'kernel threads; the same as --set train.threads=<n>', positiveInteger)
    .option('--json', 'print one JSON object per event, the result last')
    .addHelpText(
      'after',
      examples(
        'finetable train job.yaml',
        'finetable train job.yaml --set train.epochs=3 --run runs/short --overwrite',
      ),
    )
    .action(async (job: string, options: TrainOptions) => (await import('./train/command.ts')).train(job, options, io));
}

function addBatch(program: Command, io: Io): void {
  program
    .command('batch')
    .description('train many jobs beside each other over one mapping of their tables')
    .argument('<batch>', 'batch file, YAML or JSON: a list of jobs, a grid, or a random search')
    .option(
      '--concurrency <n>',
      'jobs that run at a time (default: as the batch says, or one per core)',
      positiveInteger,
    )
    .option('--memory <size>', 'the most memory that running jobs may take together, such as 8GiB or 50%')
    .option('--threads <n>', 'kernel threads of all jobs together', positiveInteger)
    .option('--stop-on-failure', 'end the others when one fails')
    .option(
      '--overwrite',
      'run all jobs again (default: only what is missing, interrupted ones from their checkpoints)',
    )
    .option('--json', 'print one JSON object per event, the results last')
    .addHelpText(
      'after',
      examples('finetable batch ranks.yaml', 'finetable batch ranks.yaml --concurrency 4 --memory 8GiB'),
    )
    .action(async (batch: string, options: BatchOptions) =>
      (await import('./batch/command.ts')).batch(batch, options, io),
    );
}

function addCompare(program: Command, io: Io): void {
  program
    .command('compare')
    .description(
      'finished runs side by side: settings that differ, metrics, times, sizes; and a page with their curves',
    )
    .argument('<runs...>', 'run folders, two or more')
    .option('--output <file>', 'page to write', 'compare.html')
    .option('--json', 'print the comparison as one JSON object')
    .addHelpText(
      'after',
      examples('finetable compare runs/frozen runs/lora', 'finetable compare runs/ranks/* --output ranks.html'),
    )
    .action(async (runs: readonly string[], options: CompareOptions) =>
      (await import('./compare.ts')).compare(runs, options, io),
    );
}

function addPlan(program: Command, io: Io): void {
  program
    .command('plan')
    .description('where a job would put its tables and what memory it would take, before any is taken')
    .argument('<job>', 'job file, YAML or JSON')
    .option('--set <path=value>', 'override a field of the job; may be repeated', append, [])
    .option('--json', 'print the plan as one JSON object')
    .addHelpText('after', examples('finetable plan job.yaml', 'finetable plan job.yaml --set placement.memory=8GiB'))
    .action(async (job: string, options: PlanOptions) => (await import('./plan/command.ts')).plan(job, options, io));
}

function addEvaluate(program: Command, io: Io): void {
  program
    .command('evaluate')
    .description("metrics of a finished run's result on the job's data.test, or on a data file")
    .argument('<run>', "the run's folder")
    .option('--data <file>', "examples with the columns that the job reads; default: the job's data.test")
    .option('--json', 'print the metrics as one JSON object')
    .addHelpText(
      'after',
      examples('finetable evaluate runs/support-intents', 'finetable evaluate runs/support-intents --data other.jsonl'),
    )
    .action(async (folder: string, options: EvaluateOptions) =>
      (await import('./evaluate.ts')).evaluate(folder, options, io),
    );
}

function addInspect(program: Command, io: Io): void {
  program
    .command('inspect')
    .description('what a file or folder holds: tables, adapters, runs, jobs, data')
    .argument(
      '<path>',
      '.safetensors, .safetensors.index.json, .npy, word vectors, Keras model (.keras, .h5), .jsonl, .csv, .tsv, .parquet, .arrow, job file, adapter or run folder',
    )
    .option('--json', 'print it as one JSON object')
    .addHelpText('after', examples('finetable inspect vectors.safetensors', 'finetable inspect runs/support-intents'))
    .action(async (path: string, options: InspectOptions) =>
      (await import('./inspect/command.ts')).inspectCommand(path, options, io),
    );
}

function addVocabulary(program: Command, io: Io): void {
  program
    .command('vocabulary')
    .description('the words of data files, the most frequent first, and how often they are found')
    .argument('<data...>', '.jsonl, .csv or .tsv, or a pattern')
    .requiredOption('--column <name>', 'the column with texts')
    .option('--output <file>', 'words to write, .txt, one a line; their counts go beside it, .counts.tsv', 'words.txt')
    .option('--min-count <n>', 'leave rarer words out', positiveInteger)
    .option('--max-words <n>', 'keep the most frequent', positiveInteger)
    .option('--pattern <expression>', "what a word is, a JavaScript regular expression (default: [\\p{L}\\p{N}']+)")
    .addOption(
      new Option('--split <how>', 'instead of a pattern')
        .choices(['whitespace', 'character', 'none'])
        .conflicts('pattern'),
    )
    .option('--no-lowercase', 'keep upper case')
    .addOption(
      new Option('--standardize <how>', "instead of lower case, as Keras' TextVectorization").choices([
        'none',
        'lower',
        'strip_punctuation',
        'lower_and_strip_punctuation',
      ]),
    )
    .option('--ngrams <n>', 'up to so many words that follow each other, too', positiveInteger)
    .option('--values', 'whole values, or those of lists, instead of words')
    .option('--workers <n>', 'threads', positiveInteger, 1)
    .option('--skip <n>', 'leave out up to so many rows that cannot be read', positiveInteger)
    .option('--overwrite', 'replace the files where they are there')
    .option('--json', 'print what was written as one JSON object')
    .addHelpText(
      'after',
      examples(
        'finetable vocabulary train.jsonl --column text --min-count 5',
        "finetable vocabulary 'logs/*.csv' --column city --values --output cities.txt --workers 2",
      ),
    )
    .action(async (files: string[], options: VocabularyOptions) =>
      (await import('./vocabulary/command.ts')).vocabularyCommand(files, options, io),
    );
}

function addConvert(program: Command, io: Io): void {
  program
    .command('convert')
    .description('tables and adapters from one format to another')
    .argument(
      '<in>',
      'word vectors (GloVe, word2vec), .npy, .safetensors, a Keras model (.keras, .h5), or an adapter folder',
    )
    .argument(
      '<out>',
      'file or folder to write; its ending chooses the format where --to does not; word vectors write words.txt beside it',
    )
    .addOption(new Option('--to <format>', 'format to write').choices(['safetensors', 'npy', 'sparse', 'peft']))
    .addOption(dtypeOption('element type of a table (default: as it is; word vectors: f32)'))
    .addOption(groupOption())
    .option(
      '--tensor <name>',
      'which tensor of a safetensors file, or embedding layer of a Keras model, to read; for word vectors and .npy, the name to write',
    )
    .addOption(
      new Option('--duplicates <rule>', 'a word that comes twice (default: refuse; skip keeps the first)').choices([
        'refuse',
        'skip',
      ]),
    )
    .option('--base <table>', 'the table that an adapter belongs to; it is checked, and its fingerprint recorded')
    .option('--overwrite', 'replace <out> where it is there')
    .option('--json', 'print what was written as one JSON object')
    .addHelpText(
      'after',
      examples(
        'finetable convert glove.txt glove.safetensors --dtype f16',
        'finetable convert glove.safetensors small.safetensors --dtype int4 --group 64',
        'finetable convert runs/intents/adapter intents-peft --to peft',
        'finetable convert model.keras words.safetensors --tensor words',
      ),
    )
    .action(async (input: string, output: string, options: ConvertOptions) =>
      (await import('./convert/command.ts')).convertCommand(input, output, options, io),
    );
}

function addMerge(program: Command, io: Io): void {
  program
    .command('merge')
    .description('a table and its adapter as one new table; the base is kept')
    .argument('<adapter>', 'adapter folder, sparse or PEFT')
    .requiredOption('--base <table>', 'the table that it was made for: .safetensors, .safetensors.index.json or .npy')
    .option('--output <file>', 'file to write, .safetensors; required')
    .option('--tensor <name>', 'which tensor of the base is the table; the new file names it so too')
    .option('--table <name>', 'which adapter, of a folder that adapts several tables')
    .addOption(dtypeOption("element type of the new table (default: the base's)"))
    .addOption(groupOption())
    .option('--overwrite', 'replace the output where it is there')
    .option('--in-place', 'refused: the base is shared, and unmerge needs it')
    .option('--json', 'print what was written as one JSON object')
    .addHelpText(
      'after',
      examples(
        'finetable merge runs/intents/adapter --base vectors.safetensors --output merged.safetensors',
        'finetable merge intents-peft --base vectors.safetensors --output merged.safetensors --dtype f16',
      ),
    )
    .action(async (adapter: string, options: MergeOptions) =>
      (await import('./merge/command.ts')).mergeCommand(adapter, options, io),
    );
}

function addUnmerge(program: Command, io: Io): void {
  program
    .command('unmerge')
    .description("the base's rows again, bit for bit, from the base that was kept")
    .argument('<merged>', 'what merge wrote; it says what it was made of')
    .requiredOption('--base <table>', 'the table that was kept')
    .requiredOption('--output <file>', 'file to write, .safetensors')
    .option('--tensor <name>', 'which tensor of the base is the table; the new file names it so too')
    .option('--overwrite', 'replace the output where it is there')
    .option('--json', 'print what was written as one JSON object')
    .addHelpText(
      'after',
      examples('finetable unmerge merged.safetensors --base vectors.safetensors --output restored.safetensors'),
    )
    .action(async (merged: string, options: UnmergeOptions) =>
      (await import('./merge/command.ts')).unmergeCommand(merged, options, io),
    );
}

function addNearest(program: Command, io: Io): void {
  program
    .command('nearest')
    .description('the rows nearest to rows, words or vectors, in a table or an adapted one')
    .argument('<table>', '.safetensors, .safetensors.index.json or .npy')
    .option('--adapter <folder>', 'search the table as this adapter changes it')
    .option('--ids <list>', 'rows to start from, such as 1,2,3; a row is not its own result', rowList)
    .option('--word <list>', 'words to start from, such as cat,dog', wordList)
    .option('--queries <file>', 'vectors to start from, .npy or .safetensors')
    .option('--words <file>', "the rows' words, one a line (default: words.txt beside the table, if it has all)")
    .option('-k <n>', 'rows per query', positiveInteger, 10)
    .addOption(new Option('--metric <metric>', 'what is compared').choices(['cosine', 'dot']).default('cosine'))
    .option('--tensor <name>', 'which tensor of a safetensors file is the table')
    .option('--json', 'print one JSON object per query')
    .addHelpText(
      'after',
      examples(
        'finetable nearest vectors.safetensors --word cat,dog',
        'finetable nearest vectors.safetensors --adapter runs/intents/adapter --ids 17 -k 5',
      ),
    )
    .action(async (table: string, options: NearestOptions) =>
      (await import('./nearest/command.ts')).nearestCommand(table, options, io),
    );
}

function addEmbed(program: Command, io: Io): void {
  program
    .command('embed')
    .description('vectors of texts or ids, by a run, a table and its adapter, or a static embedding model')
    .argument(
      '<model>',
      'run folder; .safetensors, .safetensors.index.json or .npy; or folder of a sentence-transformers StaticEmbedding or model2vec model',
    )
    .option('--text <text>', 'a text to embed; may be repeated', append)
    .option('--ids <list>', 'ids to embed, such as 1,2,3', rowList)
    .option('--file <file>', 'texts or ids, one a line; of a run or a table also .jsonl, .csv, .tsv, .parquet, .arrow')
    .option('--column <name>', "the file's column with texts or ids (default: the feature's; of a table id)")
    .option('--id <name>', 'a column that names the rows of the file (default: their numbers)')
    .option('--feature <name>', 'of a run with several features: whose vectors')
    .option('--adapter <folder>', 'embed as this adapter changes the table; a run has its own')
    .option('--tensor <name>', 'which tensor of a safetensors file is the table')
    .option('--normalize', 'scale vectors to length 1 (default: of a run, as training compared them)')
    .option('--no-normalize', 'leave them as they are')
    .option('--workers <n>', 'threads that read and tokenise', positiveInteger, 1)
    .option('--output <file>', '.npy, .safetensors, .jsonl or .parquet to write (default: print one JSON object each)')
    .option('--json', 'with --output, tell what was written as one JSON object')
    .addHelpText(
      'after',
      examples(
        'finetable embed runs/intents --file texts.jsonl --output vectors.parquet --workers 2',
        'finetable embed vectors.safetensors --adapter runs/intents/adapter --ids 1,2,3',
        'finetable embed potion-base-8M --text "a cat" --text "a dog"',
        'finetable embed potion-base-8M --file texts.txt --adapter runs/intents/adapter --output vectors.npy',
      ),
    )
    .action(async (model: string, options: EmbedOptions) =>
      (await import('./embed/command.ts')).embedCommand(model, options, io),
    );
}

function addDoctor(program: Command, io: Io): void {
  program
    .command('doctor')
    .description('what this machine offers and what is in use')
    .option('--json', 'print it as one JSON object')
    .addHelpText('after', examples('finetable doctor'))
    .action(async (options: { json?: boolean }) => (await import('./doctor.ts')).doctor(options, io));
}

function addCompletion(program: Command, io: Io): void {
  program
    .command('completion')
    .description('print a script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>', 'whose').choices(shells))
    .addHelpText(
      'after',
      examples(
        'source <(finetable completion bash)',
        'finetable completion fish > ~/.config/fish/completions/finetable.fish',
      ),
    )
    .action((shell: Shell) => void io.stdout.write(completion(program, shell)));
}

export interface TrainOptions {
  readonly set: readonly string[];
  readonly resume?: boolean;
  readonly overwrite?: boolean;
  readonly run?: string;
  readonly threads?: number;
  readonly json?: boolean;
}

export interface BatchOptions {
  readonly concurrency?: number;
  readonly memory?: string;
  readonly threads?: number;
  readonly stopOnFailure?: boolean;
  readonly overwrite?: boolean;
  readonly json?: boolean;
}

export interface CompareOptions {
  readonly output: string;
  readonly json?: boolean;
}

export interface PlanOptions {
  readonly set: readonly string[];
  readonly json?: boolean;
}

export interface EvaluateOptions {
  readonly data?: string;
  readonly json?: boolean;
}

export interface InspectOptions {
  readonly json?: boolean;
}

export interface VocabularyOptions {
  readonly column: string;
  readonly output: string;
  readonly minCount?: number;
  readonly maxWords?: number;
  readonly pattern?: string;
  readonly split?: 'whitespace' | 'character' | 'none';
  readonly lowercase: boolean;
  readonly standardize?: 'none' | 'lower' | 'strip_punctuation' | 'lower_and_strip_punctuation';
  readonly ngrams?: number;
  readonly values?: boolean;
  readonly workers: number;
  readonly skip?: number;
  readonly overwrite?: boolean;
  readonly json?: boolean;
}

export interface ConvertOptions {
  readonly to?: 'safetensors' | 'npy' | 'sparse' | 'peft';
  readonly dtype?: RowDtype;
  readonly group?: '32' | '64' | '128' | 'row';
  readonly tensor?: string;
  readonly duplicates?: 'refuse' | 'skip';
  readonly base?: string;
  readonly overwrite?: boolean;
  readonly json?: boolean;
}

export interface EmbedOptions {
  readonly text?: readonly string[];
  readonly ids?: readonly number[];
  readonly file?: string;
  readonly column?: string;
  readonly id?: string;
  readonly feature?: string;
  readonly adapter?: string;
  readonly tensor?: string;
  readonly normalize?: boolean;
  readonly workers: number;
  readonly output?: string;
  readonly json?: boolean;
}

export interface UnmergeOptions {
  readonly base: string;
  readonly output: string;
  readonly tensor?: string;
  readonly overwrite?: boolean;
  readonly json?: boolean;
}

export interface MergeOptions extends Omit<UnmergeOptions, 'output'> {
  readonly output?: string;
  readonly table?: string;
  readonly dtype?: RowDtype;
  readonly group?: '32' | '64' | '128' | 'row';
  readonly inPlace?: boolean;
}

export interface NearestOptions {
  readonly adapter?: string;
  readonly ids?: readonly number[];
  readonly word?: readonly string[];
  readonly queries?: string;
  readonly words?: string;
  readonly k: number;
  readonly metric: 'cosine' | 'dot';
  readonly tensor?: string;
  readonly json?: boolean;
}

const append = (value: string, before: readonly string[] = []): string[] => [...before, value];
const dtypeOption = (description: string): Option =>
  new Option('--dtype <dtype>', description).choices(['f32', 'f16', 'bf16', 'int8', 'int4']);

const groupOption = (): Option =>
  new Option('--group <dims>', 'columns of int4 that share a scale (default: 64)').choices(['32', '64', '128', 'row']);

function positiveInteger(text: string): number {
  const value = Number(text);
  if (/^\d+$/.test(text) && value >= 1) return value;
  throw new InvalidArgumentError('Allowed: an integer of 1 or more.');
}

function rowList(text: string): number[] {
  const rows = text.split(',').map((part) => (/^\s*\d+\s*$/.test(part) ? Number(part) : Infinity));
  if (rows.every((row) => row <= 0x7fffffff)) return rows;
  throw new InvalidArgumentError('Allowed: row numbers from 0, separated by commas.');
}

function wordList(text: string): string[] {
  const words = text.split(',').map((word) => word.trim());
  if (!words.includes('')) return words;
  throw new InvalidArgumentError('Allowed: words separated by commas.');
}

const examples = (...lines: readonly string[]): string =>
  `\nExamples:\n${lines.map((line) => `  $ ${line}\n`).join('')}`;

function readVersion(): string {
  const file = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}

/** Reports as text. */
import { formatBytes } from '@finetable/core';
import { alignRows, formatCount, formatMetrics, formatNumber } from '../format.ts';
import type {
  AdapterReport,
  ColumnReport,
  DataReport,
  FrequencyReport,
  GroupReport,
  JobReport,
  KerasReport,
  RangeReport,
  Report,
  RowStatistics,
  RunReport,
  TableSample,
  TensorsReport,
  WordsReport,
} from './report.ts';

export function describeReport(report: Report): string {
  switch (report.kind) {
    case 'safetensors':
    case 'npy':
      return describeTensors(report);
    case 'words':
      return describeWords(report);
    case 'keras':
      return describeKeras(report);
    case 'adapter':
      return describeAdapter(report);
    case 'run':
      return describeRun(report);
    case 'job':
      return describeJob(report);
    case 'data':
      return describeData(report);
  }
}

function describeTensors({ kind, path, sizeBytes, metadata, tensors, tables }: TensorsReport): string {
  const several = new Set(tensors.map(({ file }) => file)).size > 1;
  const lines = tensors.map(({ name, dtype, shape, sizeBytes, file }) => [
    name || 'array',
    dtype,
    `[${shape.join(', ')}]`,
    formatBytes(sizeBytes),
    ...(several ? [file] : []),
  ]);
  const problems = tensors.flatMap(({ problem }) => (problem === undefined ? [] : `  not a table: ${problem}\n`));
  const samples = tables.map((table) => {
    const { tensor, rows, sampledRows, nonFiniteRows } = table;
    const found = nonFiniteRows === 0 ? 'none with' : `${nonFiniteRows} with`;
    return `\n${tensor || 'array'}: ${describeStorage(table)}; of ${formatCount(sampledRows)} rows looked at, ${found} NaN or infinity\n${describeRows(rows)}`;
  });
  return [
    `${path}: ${kind}, ${formatBytes(sizeBytes)}, ${formatCount(tensors.length)} ${tensors.length === 1 ? 'tensor' : 'tensors'}\n`,
    alignRows(lines, '  '),
    ...Object.entries(metadata).map(([key, value]) => `  metadata ${key}: ${value}\n`),
    ...problems,
    ...samples,
  ].join('');
}

/** `f32, 1200 B a row`, `int4, 5 scales a row (groups of 64), 170 B a row (14.2 % of f32)`. */
function describeStorage({ dtype, dim, groupDims, scalesPerRow, rowBytes, f32RowBytes }: TableSample): string {
  const groups = groupDims === dim ? 'one scale a row' : `${scalesPerRow} scales a row (groups of ${groupDims})`;
  const share = dtype === 'f32' ? '' : ` (${formatNumber((100 * rowBytes) / f32RowBytes)} % of f32)`;
  return `${dtype}${groupDims === 0 ? '' : `, ${groups}`}, ${rowBytes} B a row${share}`;
}

function describeRows(rows: readonly RowStatistics[]): string {
  return alignRows(
    rows.map(({ row, min, max, norm }) => [
      `row ${row}`,
      `min ${formatNumber(min)}`,
      `max ${formatNumber(max)}`,
      `norm ${formatNumber(norm)}`,
    ]),
    '  ',
  );
}

function describeWords({ path, sizeBytes, format, rows, dim, words, firstRows }: WordsReport): string {
  const size = rows === null ? `${dim} dims, rows not counted` : `${formatCount(rows)} rows of ${dim} dims`;
  return `${path}: word vectors (${format}), ${formatBytes(sizeBytes)}, ${size}\n  words: ${words.join(' ')} …\n${describeRows(firstRows)}`;
}

function describeKeras({ path, sizeBytes, format, embeddings }: KerasReport): string {
  const what = { keras: 'Keras model', 'weights.h5': 'Keras weights', h5: 'Keras model or weights (HDF5)' }[format];
  const layers = embeddings.map(({ name, path, rows, dim, dtype, lora, firstRows }) => {
    const factors = lora ? `, LoRA of rank ${lora.rank}, alpha ${formatNumber(lora.alpha)}` : '';
    return `\n${name} (${path}): ${dtype} [${rows}, ${dim}]${factors}\n${describeRows(firstRows)}`;
  });
  const count = `${embeddings.length} embedding ${embeddings.length === 1 ? 'layer' : 'layers'}`;
  return `${path}: ${what}, ${formatBytes(sizeBytes)}, ${count}\n${layers.join('')}`;
}

function describeAdapter({ path, format, adapters }: AdapterReport): string {
  const lines = adapters.flatMap(({ table, base, dora, maxNorm, grownRows, groups }) => {
    const rows = base.rows + grownRows;
    const dtype = base.dtype === 'unknown' ? '' : ` ${base.dtype}`;
    const extra = [
      ...(dora ? ['DoRA'] : []),
      ...(maxNorm === null ? [] : [`vectors no longer than ${maxNorm}`]),
      ...(grownRows > 0 ? [`grown by ${formatCount(grownRows)} rows`] : []),
      `base [${base.rows}, ${base.dim}]${dtype}, fingerprint ${base.fingerprint ?? 'unknown'}`,
    ].join('; ');
    const [rest, ...others] = groups.map((group) => describeGroup(group, rows));
    return [
      `  ${table}: ${rest}; ${extra}\n`,
      ...others.map((other, i) => `    group "${groups[i + 1]!.name}": ${other}\n`),
    ];
  });
  return `${path}: ${format} adapter\n${lines.join('')}`;
}

/** `rank 4, alpha 16, 1,200 of 50,000 rows, 20 KiB`. */
function describeGroup(group: GroupReport, tableRows: number): string {
  const { members, randomStart, kind, rank, alpha, rsLora, touchedRows, sizeBytes } = group;
  const factors =
    kind === 'dense' ? 'dense' : `rank ${rank}, alpha ${formatNumber(alpha)}${rsLora ? ' (rank-stabilised)' : ''}`;
  const others = randomStart ? ' (the others start at random)' : '';
  return `${factors}, ${formatCount(touchedRows)} of ${formatCount(members ?? tableRows)} rows${others}, ${formatBytes(sizeBytes)}`;
}

function describeRun({ path, status, pid, name, checkpointSteps, result }: RunReport): string {
  const last = checkpointSteps.at(-1);
  const where = last === undefined ? 'before its first checkpoint' : `last checkpoint after step ${last}`;
  const head = {
    finished: 'finished',
    running: `running (process ${pid}), ${where}`,
    interrupted: `interrupted, ${where}; go on with train --resume`,
  }[status];
  const lines = result
    ? [
        ['trained', `${formatCount(result.steps)} steps, ${result.epochs} epochs`],
        ['training', formatMetrics(result.train)],
        ...(result.validation ? [['validation', formatMetrics(result.validation)]] : []),
        ...Object.entries(result.adapters).map(([table, { touchedRows, adapterBytes }]) => [
          'adapter',
          `${table}: ${formatCount(touchedRows)} rows touched, ${formatBytes(adapterBytes)}`,
        ]),
      ]
    : [];
  return `${path}: run "${name}", ${head}\n${alignRows(lines, '  ')}`;
}

function describeJob({ path, job }: JobReport): string {
  return `${path}: a job without errors; every field, defaults included:\n${alignRows(fieldsOf(job, ''), '  ')}`;
}

/** `train.epochs` and its value, for every field. */
function fieldsOf(value: object, prefix: string): string[][] {
  return Object.entries(value).flatMap(([key, field]: [string, unknown]) => {
    if (typeof field === 'object' && field !== null && !Array.isArray(field))
      return fieldsOf(field, `${prefix}${key}.`);
    return field === undefined ? [] : [[`${prefix}${key}`, JSON.stringify(field)]];
  });
}

function describeData(report: DataReport): string {
  const { path, format, sizeBytes, rows, sampledRows, columns, problemCount, problems } = report;
  const lines = columns.map(({ name, types, missing, examples }) => [
    name,
    types.join(' or ') + (missing > 0 ? ` (missing in ${formatCount(missing)} of ${formatCount(sampledRows)})` : ''),
    examples.join(' | '),
  ]);
  const looked = sampledRows === rows ? 'all of them' : `${formatCount(sampledRows)} of them, spread over the file,`;
  const more = problemCount > problems.length ? `, the first of them` : '';
  return [
    `${path}: ${format}, ${formatBytes(sizeBytes)}, ${formatCount(rows)} rows; ${looked} looked at:\n`,
    alignRows(lines, '  '),
    ...columns.map(describeColumn),
    ...(problemCount === 0 ? [] : [`\n${formatCount(problemCount)} problems${more}:\n`]),
    ...problems.map((problem) => `  ${problem}\n`),
  ].join('');
}

function describeColumn({ name, numbers, listLengths, textLengths, frequencies }: ColumnReport): string {
  const range = ({ min, mean, max }: RangeReport): string =>
    `${formatValue(min)} to ${formatValue(max)}, mean ${formatNumber(mean)}`;
  const lines = [
    ...(numbers ? [['numbers', range(numbers)]] : []),
    ...(listLengths ? [['values in a list', range(listLengths)]] : []),
    ...(textLengths ? [['letters in a text', range(textLengths)]] : []),
    ...(frequencies ? describeFrequencies(frequencies) : []),
  ];
  return lines.length === 0 ? '' : `\n${name}\n${alignRows(lines, '  ')}`;
}

/** The distinct values, the most frequent, and how many occur how often. */
function describeFrequencies({ distinct, complete, distinctEstimate, head, histogram }: FrequencyReport): string[][] {
  const guess = distinctEstimate > distinct ? `, about ${formatCount(distinctEstimate)} or more in the file` : '';
  const most = head.map(({ value, count }) => `${value} (${formatCount(count)})`).join(', ');
  return [
    ['different', `${complete ? '' : 'at least '}${formatCount(distinct)}${guess}`],
    ['most frequent', most],
    ...histogram.map(({ from, to, values, share }) => [
      from === to ? (from === 1 ? 'once' : `${from} times`) : `${formatCount(from)} to ${formatCount(to)} times`,
      `${formatCount(values)} different, ${(100 * share).toFixed(1)} % of all ${'#'.repeat(Math.round(20 * share))}`.trimEnd(),
    ]),
  ];
}

const formatValue = (value: number): string => (Number.isSafeInteger(value) ? formatCount(value) : formatNumber(value));

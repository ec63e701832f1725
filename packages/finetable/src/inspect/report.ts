/** What `inspect` finds: plain data, one variant per kind of thing, printed as JSON as it is. */
import type { SourceVisit } from '@finetable/data';
import type { RowDtype } from '@finetable/core';
import type { Job, RunResult } from '@finetable/trainer';

export type Report = TensorsReport | WordsReport | KerasReport | AdapterReport | RunReport | JobReport | DataReport;

/** A safetensors file, the index of a sharded model, or a `.npy` file. */
export interface TensorsReport {
  readonly kind: 'safetensors' | 'npy';
  readonly path: string;
  readonly sizeBytes: number;
  readonly metadata: Readonly<Record<string, string>>;
  readonly tensors: readonly TensorReport[];
  /** Of the first tensors that can be a base table. */
  readonly tables: readonly TableSample[];
}

export interface TensorReport {
  /** Empty for the one array of a `.npy` file. */
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly sizeBytes: number;
  /** The file of a sharded model that holds it. */
  readonly file: string;
  /** Why it cannot be the quantised table that metadata or scales announce. */
  readonly problem?: string;
}

/** Some rows of a table; the rest is not read. */
export interface TableSample {
  readonly tensor: string;
  readonly dtype: RowDtype;
  readonly dim: number;
  /** Columns that share a scale; 0 without scales. */
  readonly groupDims: number;
  /** f32 scales of a row. */
  readonly scalesPerRow: number;
  /** Of a stored row, its scales included, and of one in f32. */
  readonly rowBytes: number;
  readonly f32RowBytes: number;
  readonly rows: readonly RowStatistics[];
  /** Rows looked at, spread over the table, and how many of them hold NaN or infinity. */
  readonly sampledRows: number;
  readonly nonFiniteRows: number;
}

export interface RowStatistics {
  readonly row: number;
  readonly min: number;
  readonly max: number;
  /** Euclidean. */
  readonly norm: number;
}

export interface WordsReport {
  readonly kind: 'words';
  readonly path: string;
  readonly sizeBytes: number;
  readonly format: 'text' | 'binary';
  /** As the first line says; null where it does not, and only reading to the end would tell. */
  readonly rows: number | null;
  readonly dim: number;
  readonly words: readonly string[];
  readonly firstRows: readonly RowStatistics[];
}

export interface KerasReport {
  readonly kind: 'keras';
  readonly path: string;
  readonly sizeBytes: number;
  readonly format: 'keras' | 'weights.h5' | 'h5';
  readonly embeddings: readonly {
    readonly name: string;
    /** Where the file has it. */
    readonly path: string;
    readonly rows: number;
    readonly dim: number;
    readonly dtype: string;
    /** Of factors that are not merged into the matrix. */
    readonly lora: { readonly rank: number; readonly alpha: number } | null;
    readonly firstRows: readonly RowStatistics[];
  }[];
}

export interface AdapterReport {
  readonly kind: 'adapter';
  readonly path: string;
  readonly format: 'sparse' | 'peft';
  readonly adapters: readonly {
    readonly table: string;
    readonly base: {
      readonly rows: number;
      readonly dim: number;
      readonly dtype: string;
      readonly fingerprint: string | null;
    };
    /** Whether dims have magnitudes. */
    readonly dora: boolean;
    /** Vectors longer than this are read as if scaled to it; null: any length. */
    readonly maxNorm: number | null;
    /** Rows that the base does not have. */
    readonly grownRows: number;
    /** The rest first. */
    readonly groups: readonly GroupReport[];
  }[];
}

export interface GroupReport {
  readonly name: string;
  /** Rows that it may hold; null: all of the table. */
  readonly members: number | null;
  /** Whether A of rows that were not touched is random numbers, and not 0. */
  readonly randomStart: boolean;
  readonly kind: 'lora' | 'dense';
  readonly rank: number;
  readonly alpha: number;
  readonly rsLora: boolean;
  readonly touchedRows: number;
  /** Of A and B in f32, without rows that were not touched. */
  readonly sizeBytes: number;
}

export interface RunReport {
  readonly kind: 'run';
  readonly path: string;
  readonly status: 'finished' | 'running' | 'interrupted';
  /** The process that works in it, where there is one. */
  readonly pid: number | null;
  readonly name: string;
  /** Ascending. */
  readonly checkpointSteps: readonly number[];
  /** Of a finished run. */
  readonly result: RunResult | null;
}

export interface JobReport {
  readonly kind: 'job';
  readonly path: string;
  /** With every default. */
  readonly job: Job;
}

export interface DataReport {
  readonly kind: 'data';
  readonly path: string;
  readonly format: SourceVisit['format'];
  readonly sizeBytes: number;
  readonly rows: number;
  /** Rows whose values were looked at: all, or runs of neighbours evenly spread over the file. */
  readonly sampledRows: number;
  readonly columns: readonly ColumnReport[];
  /** Rows that cannot be read, values of another kind than those before, integers that are not exact: how many, and the first. */
  readonly problemCount: number;
  readonly problems: readonly string[];
}

export interface ColumnReport {
  readonly name: string;
  /** What the values are, the most frequent first: `integer`, `number`, `text`, `list of integers`, … */
  readonly types: readonly string[];
  /** Rows of the sample that lack it. */
  readonly missing: number;
  /** The first different values, cut to one line. */
  readonly examples: readonly string[];
  /** Of numbers, alone and in lists, also where they are text. */
  readonly numbers: RangeReport | null;
  /** How many values a list has, and how many UTF-16 units a text. */
  readonly listLengths: RangeReport | null;
  readonly textLengths: RangeReport | null;
  /** Of integers, alone and in lists, and of texts: how often each occurs. */
  readonly frequencies: FrequencyReport | null;
}

export interface RangeReport {
  readonly min: number;
  readonly mean: number;
  readonly max: number;
}

export interface FrequencyReport {
  readonly places: number;
  /** Different ones among the rows looked at; at least so many where they were too many to count. */
  readonly distinct: number;
  readonly complete: boolean;
  /** In the whole file, at least: by how many were seen once and twice (Chao 1984); `distinct` where all rows were looked at. */
  readonly distinctEstimate: number;
  /** The most frequent. */
  readonly head: readonly { readonly value: string; readonly count: number }[];
  /** Of those that occur `from` to `to` times: how many there are, and their share of all places. */
  readonly histogram: readonly {
    readonly from: number;
    readonly to: number;
    readonly values: number;
    readonly share: number;
  }[];
}

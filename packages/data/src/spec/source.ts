/** Where examples come from. */

export type SourceSpec = FileSource | RowSource;

/** Files of examples, all of one format. */
export interface FileSource {
  /** A path or a pattern (`logs/*.jsonl`), or several; files of a pattern come in the order of their names. */
  readonly file: string | readonly string[];
  readonly rows?: undefined;
  /** Default: by the file's ending, before a `.gz` or `.zst`. */
  readonly format?: 'jsonl' | 'csv' | 'tsv' | 'parquet' | 'arrow' | undefined;
  /** Of csv and tsv (RFC 4180): column names where there is no header line. */
  readonly columns?: readonly string[] | undefined;
  /** Of csv and tsv, one character: between the fields. Default: a comma, or a tab. */
  readonly delimiter?: string | undefined;
}

/** A record of a program: values by column name, as JSON would have them. */
export type Row = Readonly<Record<string, unknown>>;

/**
 * Examples of a program. An array is known whole, as a file is. What is iterated may have no end, and what must be known of all
 * examples beforehand has to be given (such as classes); a function is called for each epoch.
 */
export interface RowSource {
  /** An array, what is iterated anew for each epoch, or a function that gives an epoch's. */
  readonly rows:
    readonly Row[] | Iterable<Row> | AsyncIterable<Row> | ((epoch: number) => Iterable<Row> | AsyncIterable<Row>);
  readonly file?: undefined;
  /** For messages; default `rows`. */
  readonly name?: string | undefined;
}
